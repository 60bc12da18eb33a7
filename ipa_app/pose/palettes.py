"""The colours in which programs draw skeletons: only hues, as backgrounds and blending change everything else.

All programs use the same circle of eighteen pure hues, but assign them to joints and bones differently. Sources:
controlnet-aux's `open_pose/util.py`; OpenPose's `poseParametersRender.hpp`.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable
from dataclasses import dataclass

from ipa_app.pose.body import BONES, JOINT_COLOURS, Rgb

HUES = 18
"""Number of hues, 20 degrees apart: 0 is red, 6 green, 12 blue."""

MID_HIP = 18
"""Index of the middle of the hips, a joint of OpenPose's larger body that ours does not have."""

# OpenPose's own colours for its body of 18 points, in the same order as ours.
_OPENPOSE_COLOURS: tuple[Rgb, ...] = (
    JOINT_COLOURS[17],
    *JOINT_COLOURS[:13],
    *(JOINT_COLOURS[i] for i in (16, 14, 15, 13)),
)
# Its body of 25 points has the same colours, but attaches the legs to the middle of the hips, in the neck's colour.
_OPENPOSE_25_COLOURS = (*_OPENPOSE_COLOURS, _OPENPOSE_COLOURS[1])
_OPENPOSE_25_BONES = (
    (1, MID_HIP),
    *((MID_HIP if (first, second) in ((1, 8), (1, 11)) else first, second) for first, second in BONES),
)


@dataclass(frozen=True)
class Palette:
    """The hues in which a program draws skeletons.

    Attributes:
        joints: hue of every joint; the joints are ours, and possibly `MID_HIP`.
        bones: the joints at both ends of every bone, the one nearer to the neck first, and its hue.
    """

    joints: tuple[int, ...]
    bones: tuple[tuple[int, int, int], ...]

    def with_red_and_blue_swapped(self) -> Palette:
        """Return the palette of a picture that was saved with its channels swapped, as happens with OpenCV."""
        bones = tuple((first, second, _swapped(hue)) for first, second, hue in self.bones)
        return Palette(tuple(map(_swapped, self.joints)), bones)


def _swapped(hue: int) -> int:
    return (2 * HUES // 3 - hue) % HUES


def _hues(colours: Iterable[Rgb]) -> tuple[int, ...]:
    return tuple(round(HUES * colorsys.rgb_to_hsv(*colour)[0]) % HUES for colour in colours)


def _in_own_colours(colours: tuple[Rgb, ...], bones: Iterable[tuple[int, int]]) -> Palette:
    """Build a palette like OpenPose's: a bone has the colour of the joint that it leads to."""
    hues = _hues(colours)
    return Palette(hues, tuple((first, second, hues[second]) for first, second in bones))


_JOINT_HUES = _hues(JOINT_COLOURS)
CONTROLNET = Palette(
    _JOINT_HUES, tuple((first, second, hue) for (first, second), hue in zip(BONES, _JOINT_HUES, strict=False))
)
"""The palette of controlnet-aux, the editors and ComfyUI, on which the ControlNets were trained."""

_UPRIGHT = (
    CONTROLNET,
    _in_own_colours(_OPENPOSE_25_COLOURS, _OPENPOSE_25_BONES),
    _in_own_colours(_OPENPOSE_COLOURS, BONES),
)
PALETTES = (*_UPRIGHT, *(palette.with_red_and_blue_swapped() for palette in _UPRIGHT))
"""All palettes that are tried, likeliest first."""
