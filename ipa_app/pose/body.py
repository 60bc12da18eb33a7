"""The body as OpenPose knows it: the names of its 18 joints, the bones between them, and their colours.

Plain data in OpenPose's own order (see `skeleton`), for whoever shows a skeleton without drawing the picture itself;
a test holds it against what `draw` draws.
"""

from __future__ import annotations

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
"""The two joints at the ends of every bone, in the order in which bones are drawn."""

# Bones take the joints' colours in the order of the list, at 60 % of their brightness.
BONE_COLOURS: tuple[Rgb, ...] = tuple(
    (int(red * 0.6), int(green * 0.6), int(blue * 0.6)) for red, green, blue in JOINT_COLOURS[: len(BONES)]
)

_OTHER_SIDE = {"left": "right", "right": "left"}


def _mirrored(name: str) -> str:
    return " ".join(_OTHER_SIDE.get(word, word) for word in name.split())


MIRRORED = tuple(JOINT_NAMES.index(_mirrored(name)) for name in JOINT_NAMES)
"""For every joint the one that it becomes in a mirror: left and right change places."""

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
"""Where the joints of somebody who stands lie from the neck, as fractions of the canvas's shorter side: a first place
for a joint that was not seen."""
