"""Skeletons as other programs draw them, using only OpenCV and none of the app's own drawing code."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

Spots = Sequence[tuple[float, float] | None]
Rgb = tuple[int, int, int]

SIZE = (512, 768)
STANDING: Spots = (
    *((256, 110), (256, 170), (200, 175), (180, 260), (170, 340), (312, 175), (330, 260), (345, 340)),
    *((220, 350), (215, 490), (210, 640), (292, 350), (297, 490), (300, 640), (242, 95), (270, 95), (225, 105)),
    (287, 105),
)
"""Somebody with the proportions of a person, on a canvas of SIZE, in the order of OpenPose's 18 points."""

STUBBY: Spots = (
    *((143, 250), (143, 294), (119, 304), (93, 308), (67, 307), (167, 304), (193, 308), (219, 307)),
    *((130, 361), (128, 381), (126, 400), (156, 361), (158, 381), (160, 400), (125, 232), (161, 232), (103, 234)),
    (183, 234),
)
"""A toy on a canvas of SIZE, whose limbs are hardly longer than the joints' dots are wide."""

_BONES = (
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13)),
    *((1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),
)
_CIRCLE: tuple[Rgb, ...] = (
    *((255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0)),
    *((0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255)),
    *((170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85)),
)


@dataclass(frozen=True)
class Style:
    """A program's drawing style: which bones there are, and the colours of joints and bones."""

    joints: Sequence[Rgb]
    bones: Sequence[tuple[int, int]]
    bone_colours: Sequence[Rgb]


CONTROLNET = Style(_CIRCLE, _BONES, [(int(r * 0.6), int(g * 0.6), int(b * 0.6)) for r, g, b in _CIRCLE[:17]])
_OPENPOSE = (
    *((255, 0, 85), (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0)),
    *((0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (255, 0, 170)),
    *((170, 0, 255), (255, 0, 255), (85, 0, 255)),
)
OPENPOSE_18 = Style(_OPENPOSE, _BONES, [_OPENPOSE[second] for _, second in _BONES])
# The middle of the hips is point 18 here.
_BONES_25 = ((1, 18), *((18, second) if second in (8, 11) else (first, second) for first, second in _BONES))
OPENPOSE_25 = Style(
    (*_OPENPOSE, (255, 0, 0)), _BONES_25, [(*_OPENPOSE, (255, 0, 0))[second] for _, second in _BONES_25]
)
STYLES = {"ControlNet": CONTROLNET, "OpenPose, 18 points": OPENPOSE_18, "OpenPose, 25 points": OPENPOSE_25}


def drawn(
    *people: Spots,
    size: tuple[int, int] = SIZE,
    style: Style = CONTROLNET,
    ground: Rgb = (0, 0, 0),
    opacity: float = 1.0,
    half_width: int = 4,
    radius: int = 4,
    hairlines: bool = False,
) -> Image.Image:
    """Draw people in mode "RGB": bones as ellipses or one-pixel lines, with the joints' dots on top."""
    canvas = np.full((size[1], size[0], 3), ground, dtype=np.uint8)
    empty = canvas.copy()
    for person in people:
        spots = [*person, _middle(person[8], person[11])]
        for (first, second), colour in zip(style.bones, style.bone_colours, strict=True):
            start, end = spots[first], spots[second]
            if start is None or end is None:
                continue
            if hairlines:
                cv2.line(canvas, _pixel(start), _pixel(end), colour, 1)
            else:
                cv2.fillConvexPoly(canvas, _ellipse(start, end, half_width), colour)
        for spot, colour in zip(spots, style.joints, strict=False):
            if spot is not None:
                cv2.circle(canvas, _pixel(spot), radius, colour, -1)
    return Image.fromarray((empty * (1 - opacity) + canvas * opacity + 0.5).astype(np.uint8))


def _middle(first: tuple[float, float] | None, second: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if first is None or second is None else ((first[0] + second[0]) / 2, (first[1] + second[1]) / 2)


def _pixel(spot: tuple[float, float]) -> tuple[int, int]:
    return int(spot[0]), int(spot[1])


def _ellipse(start: tuple[float, float], end: tuple[float, float], half_width: int) -> np.ndarray:
    middle = _pixel(((start[0] + end[0]) / 2, (start[1] + end[1]) / 2))
    angle = math.degrees(math.atan2(end[1] - start[1], end[0] - start[0]))
    return np.array(cv2.ellipse2Poly(middle, (int(math.dist(start, end) / 2), half_width), int(angle), 0, 360, 1))


def moved(person: Spots, *, by: tuple[float, float] = (0, 0), scale: float = 1.0) -> Spots:
    """Scale a person about the upper left corner, then shift them."""
    return [spot and (spot[0] * scale + by[0], spot[1] * scale + by[1]) for spot in person]


def without(person: Spots, *joints: int) -> Spots:
    """Return the person without some joints."""
    return [None if joint in joints else spot for joint, spot in enumerate(person)]


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    """Return the picture after a JPEG round trip."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def as_openpose(*people: Spots, confidence: float = 0.9) -> list[list[float]]:
    """Return people as the flat lists of numbers OpenPose's files hold."""
    return [
        [value for spot in person for value in ((*spot, confidence) if spot else (0.0, 0.0, 0.0))] for person in people
    ]
