"""OpenPose's body model: names of the 18 joints, the bones between them, and their colours; and the hands.

Plain data in OpenPose's order (see `skeleton`), for displaying a skeleton without drawing the picture itself;
a test compares it with what `draw` draws.
"""

from __future__ import annotations

import colorsys

from ipa_app.messages import Message

Rgb = tuple[int, int, int]

JOINT_NAMES = (
    "nose",
    "neck",
    "right shoulder",
    "right elbow",
    "right wrist",
    "left shoulder",
    "left elbow",
    "left wrist",
    "right hip",
    "right knee",
    "right ankle",
    "left hip",
    "left knee",
    "left ankle",
    "right eye",
    "left eye",
    "right ear",
    "left ear",
)


def joint_title(name: str) -> Message:
    """Return the display name of a joint."""
    return Message(f"joint.{name.replace(' ', '_')}")


JOINT_COLOURS: tuple[Rgb, ...] = (
    (255, 0, 0),
    (255, 85, 0),
    (255, 170, 0),
    (255, 255, 0),
    (170, 255, 0),
    (85, 255, 0),
    (0, 255, 0),
    (0, 255, 85),
    (0, 255, 170),
    (0, 255, 255),
    (0, 170, 255),
    (0, 85, 255),
    (0, 0, 255),
    (85, 0, 255),
    (170, 0, 255),
    (255, 0, 255),
    (255, 0, 170),
    (255, 0, 85),
)

BONES = (
    (1, 2),
    (1, 5),
    (2, 3),
    (3, 4),
    (5, 6),
    (6, 7),
    (1, 8),
    (8, 9),
    (9, 10),
    (1, 11),
    (11, 12),
    (12, 13),
    (1, 0),
    (0, 14),
    (14, 16),
    (0, 15),
    (15, 17),
)
"""The joints at both ends of every bone, in drawing order."""

# Bones take the joints' colours in the order of the list, at 60 % of their brightness.
BONE_COLOURS: tuple[Rgb, ...] = tuple(
    (int(red * 0.6), int(green * 0.6), int(blue * 0.6)) for red, green, blue in JOINT_COLOURS[: len(BONES)]
)

_OTHER_SIDE = {"left": "right", "right": "left"}


def _mirrored(name: str) -> str:
    return " ".join(_OTHER_SIDE.get(word, word) for word in name.split())


MIRRORED = tuple(JOINT_NAMES.index(_mirrored(name)) for name in JOINT_NAMES)
"""For every joint, its mirror image: left and right are swapped."""

REST_POSE = (
    (0.0, -0.12),
    (0.0, 0.0),
    (-0.09, 0.03),
    (-0.12, 0.16),
    (-0.13, 0.28),
    (0.09, 0.03),
    (0.12, 0.16),
    (0.13, 0.28),
    (-0.06, 0.3),
    (-0.06, 0.5),
    (-0.06, 0.7),
    (0.06, 0.3),
    (0.06, 0.5),
    (0.06, 0.7),
    (-0.03, -0.15),
    (0.03, -0.15),
    (-0.06, -0.13),
    (0.06, -0.13),
)
"""Offsets of a standing person's joints from the neck, as fractions of the canvas's shorter side: initial positions
for joints that were not seen."""

WRISTS = {"left_hand": JOINT_NAMES.index("left wrist"), "right_hand": JOINT_NAMES.index("right wrist")}
"""The wrist joint of each hand."""

HAND_BONES = tuple((tip - 1 if tip % 4 != 1 else 0, tip) for tip in range(1, 21))
"""The points at both ends of every bone of a hand (see `keypoints`); the fingers' roots are joined to the wrist."""

HAND_BONE_COLOURS: tuple[Rgb, ...] = tuple(
    (round(255 * red), round(255 * green), round(255 * blue))
    for red, green, blue in (colorsys.hsv_to_rgb(bone / len(HAND_BONES), 1, 1) for bone in range(len(HAND_BONES)))
)
HAND_POINT_COLOUR: Rgb = (0, 0, 255)
FACE_POINT_COLOUR: Rgb = (255, 255, 255)

# Points of a face that a mirror swaps: jaw, brows, nostrils, eyes, outer and inner lips, pupils.
_FACE_PAIRS = (
    *((left, 16 - left) for left in range(8)),
    *((left, 43 - left) for left in range(17, 22)),
    *((31, 35), (32, 34)),
    *((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)),
    *((48, 54), (49, 53), (50, 52), (55, 59), (56, 58)),
    *((60, 64), (61, 63), (65, 67)),
    (68, 69),
)
_FACE_OTHERS = {**dict(_FACE_PAIRS), **{right: left for left, right in _FACE_PAIRS}}
FACE_MIRRORED = tuple(_FACE_OTHERS.get(point, point) for point in range(70))
"""For every point of a face, its mirror image."""
