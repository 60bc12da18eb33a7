"""Poses as joints: the skeleton that the figure is drawn along, and its COCO-18 keypoints in OpenPose order."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from toybox.world.scene import POSES, Scene, View

Point = tuple[float, float]
CANVAS = 256.0
GROUND = 238.0
NECK_TO_HEAD = 46.0
BODY_JOINTS: tuple[str, ...] = (
    "neck", "r_shoulder", "r_elbow", "r_wrist", "l_shoulder", "l_elbow", "l_wrist",
    "r_hip", "r_knee", "r_ankle", "l_hip", "l_knee", "l_ankle",
)  # fmt: skip
# Position of the right eye (on the viewer's left) relative to the centre of the head.
DEFAULT_EYE: Point = (-18.0, -5.0)
EYE_OF_SPECIES: dict[str, Point] = {
    "frog": (-28.0, -31.0), "penguin": (-16.0, -5.0), "duck": (-18.0, -9.0), "alien": (-19.0, -6.0),
    "panda": (-19.0, -4.0), "mouse": (-16.0, -4.0), "pig": (-20.0, -9.0), "dog": (-18.0, -9.0),
}  # fmt: skip
NOSE: Point = (0.0, 10.0)
EAR: Point = (-40.0, -4.0)

_STANDING: dict[str, Point] = {
    "neck": (128, 138),
    "r_shoulder": (104, 147), "r_elbow": (93, 166), "r_wrist": (89, 187),
    "l_shoulder": (152, 147), "l_elbow": (163, 166), "l_wrist": (167, 187),
    "r_hip": (115, 194), "r_knee": (113, 211), "r_ankle": (111, 227),
    "l_hip": (141, 194), "l_knee": (143, 211), "l_ankle": (145, 227),
}  # fmt: skip
_CHANGES: dict[str, dict[str, Point]] = {
    "standing": {},
    "waving": {"r_elbow": (80, 142), "r_wrist": (65, 116)},
    "arms up": {"r_elbow": (82, 130), "r_wrist": (66, 98), "l_elbow": (174, 130), "l_wrist": (190, 98)},
    "arms out": {"r_elbow": (78, 150), "r_wrist": (52, 149), "l_elbow": (178, 150), "l_wrist": (204, 149)},
    "sitting": {
        "neck": (128, 158), "r_shoulder": (104, 167), "l_shoulder": (152, 167),
        "r_elbow": (92, 186), "r_wrist": (86, 206), "l_elbow": (164, 186), "l_wrist": (170, 206),
        "r_hip": (115, 212), "r_knee": (97, 217), "r_ankle": (77, 223),
        "l_hip": (141, 212), "l_knee": (159, 217), "l_ankle": (179, 223),
    },
    "jumping": {
        "neck": (128, 126), "r_shoulder": (104, 135), "l_shoulder": (152, 135),
        "r_elbow": (80, 126), "r_wrist": (58, 110), "l_elbow": (176, 126), "l_wrist": (198, 110),
        "r_hip": (115, 182), "r_knee": (94, 190), "r_ankle": (101, 211),
        "l_hip": (141, 182), "l_knee": (162, 190), "l_ankle": (155, 211),
    },
    "running": {
        "neck": (122, 138), "r_shoulder": (98, 147), "l_shoulder": (146, 147),
        "r_elbow": (80, 164), "r_wrist": (62, 150), "l_elbow": (166, 164), "l_wrist": (181, 181),
        "r_knee": (94, 202), "r_ankle": (80, 222), "l_knee": (152, 210), "l_ankle": (178, 212),
    },
    "kicking": {
        "r_knee": (88, 198), "r_ankle": (60, 190),
        "r_elbow": (83, 157), "r_wrist": (64, 149), "l_elbow": (174, 152), "l_wrist": (194, 138),
    },
    "hands on hips": {"r_elbow": (76, 166), "r_wrist": (102, 184), "l_elbow": (180, 166), "l_wrist": (154, 184)},
    "pointing": {"r_elbow": (80, 152), "r_wrist": (52, 144), "l_elbow": (178, 167), "l_wrist": (153, 184)},
}  # fmt: skip
_JITTER: dict[str, float] = {"elbow": 3.0, "wrist": 3.0, "knee": 2.0, "ankle": 2.0}
# Free limbs. Angles in degrees, from straight down and outwards: range of the first bone, and of the second bone
# relative to the first. Then the range of each bone's length, which is that of the poses.
_FREE_ARM = ("shoulder", ("elbow", "wrist"), ((5.0, 170.0), (-60.0, 100.0)), ((21.0, 28.0), (21.0, 30.0)))
_FREE_LEG = ("hip", ("knee", "ankle"), ((0.0, 60.0), (-60.0, 20.0)), ((17.0, 26.0), (16.0, 26.0)))
_OFF_THE_GROUND: tuple[str, ...] = ("sitting", "jumping")
_MOST_LEAN = 12.0


@dataclass(frozen=True)
class Skeleton:
    """Joints in figure space (256 units, figure centred and unscaled) and the head's tilt in degrees."""

    joints: dict[str, Point]
    tilt: float

    @property
    def head(self) -> Point:
        """The centre of the head, in figure space."""
        x, y = self.joints["neck"]
        angle = math.radians(self.tilt)
        return x + NECK_TO_HEAD * math.sin(angle), y - NECK_TO_HEAD * math.cos(angle)

    def from_head(self, point: Point) -> Point:
        """Convert a point from head coordinates to figure space."""
        angle = math.radians(self.tilt)
        (x, y), (head_x, head_y) = point, self.head
        return (
            head_x + x * math.cos(angle) - y * math.sin(angle),
            head_y + x * math.sin(angle) + y * math.cos(angle),
        )


def _mirror(joints: dict[str, Point]) -> dict[str, Point]:
    swap = {"r": "l", "l": "r"}
    renamed = {(swap[name[0]] + name[1:] if name[1] == "_" else name): at for name, at in joints.items()}
    return {name: (CANVAS - renamed[name][0], renamed[name][1]) for name in joints}


def _jitter(joints: dict[str, Point], rng: random.Random) -> dict[str, Point]:
    moved = dict(joints)
    for side in ("r", "l"):
        for upper, lower in (("elbow", "wrist"), ("knee", "ankle")):
            reach = _JITTER[upper]
            shift = rng.uniform(-reach, reach), rng.uniform(-reach, reach)
            for part, extra in ((upper, 0.0), (lower, _JITTER[lower])):
                # Feet stay on the ground: only arms and knees move up and down.
                rise = 0.0 if part == "ankle" else shift[1] + rng.uniform(-extra, extra)
                x, y = joints[f"{side}_{part}"]
                moved[f"{side}_{part}"] = x + shift[0] + rng.uniform(-extra, extra), y + rise
    return moved


def _free(joints: dict[str, Point], rng: random.Random, *, stands: bool) -> dict[str, Point]:
    freed = _leaning(joints, rng.uniform(-_MOST_LEAN, _MOST_LEAN))
    for side, outward in (("r", -1), ("l", 1)):
        for root, ends, turns, lengths in (_FREE_ARM, _FREE_LEG) if stands else (_FREE_ARM,):
            (x, y), angle = freed[f"{side}_{root}"], 0.0
            for end, turn, length in zip(ends, turns, lengths, strict=True):
                angle += rng.uniform(*turn)
                reach, way = rng.uniform(*length), math.radians(angle)
                x, y = x + outward * reach * math.sin(way), y + reach * math.cos(way)
                freed[f"{side}_{end}"] = x, y
    if not stands:
        return freed
    sunk = max(freed[name][1] for name in ("r_ankle", "l_ankle")) - _STANDING["r_ankle"][1]
    return {name: (x, y - sunk) for name, (x, y) in freed.items()}


def _leaning(joints: dict[str, Point], degrees: float) -> dict[str, Point]:
    """Return the joints turned about the middle of the hips."""
    middle = (joints["r_hip"][0] + joints["l_hip"][0]) / 2, joints["r_hip"][1]
    across, down = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    moved = {}
    for name, (x, y) in joints.items():
        right, below = x - middle[0], y - middle[1]
        moved[name] = middle[0] + right * across - below * down, middle[1] + right * down + below * across
    return moved


def skeleton(scene: Scene) -> Skeleton:
    """Return the scene's pose with its jitter, in figure space."""
    joints = {**_STANDING, **_CHANGES[scene.pose]}
    if scene.mirrored:
        joints = _mirror(joints)
    if scene.seed == 0:
        return Skeleton(joints, 0.0)
    rng = random.Random(scene.seed)
    if scene.is_free:
        joints = _free(joints, rng, stands=scene.pose not in _OFF_THE_GROUND)
    return Skeleton(_jitter(joints, rng), rng.uniform(-6.0, 6.0))


def placement(scene: Scene) -> tuple[float, float, float]:
    """Return how figure space lies in the picture: scale, then shift in x and y; the ground stays where it is."""
    scale = scene.size
    return scale, CANVAS / 2 * (1 - scale) + scene.x * CANVAS, GROUND * (1 - scale)


def eye_offset(species: str) -> Point:
    """Return the right eye of a species in head coordinates; the left eye is its mirror image."""
    return EYE_OF_SPECIES.get(species, DEFAULT_EYE)


def _keypoints(scene: Scene, eye: Point) -> tuple[Point, ...]:
    figure = skeleton(scene)
    face = [NOSE, eye, (-eye[0], eye[1]), EAR, (-EAR[0], EAR[1])]
    nose, *rest = (figure.from_head(point) for point in face)
    scale, shift_x, shift_y = placement(scene)
    points = [nose, *(figure.joints[name] for name in BODY_JOINTS), *rest]
    return tuple(((x * scale + shift_x) / CANVAS, (y * scale + shift_y) / CANVAS) for x, y in points)


def keypoints(view: View) -> tuple[Point, ...]:
    """Return the view's 18 keypoints in OpenPose order, as (x, y) in [0, 1]."""
    return _keypoints(view.scene, eye_offset(view.subject.species))


def pose_keypoints(name: str) -> tuple[Point, ...]:
    """Return the 18 keypoints of a named pose, centred and without jitter, as (x, y) in [0, 1].

    Raises:
        KeyError: the name is not in `POSES`.
    """
    if name not in POSES:
        raise KeyError(name)
    return _keypoints(Scene(pose=name, background="wall"), DEFAULT_EYE)
