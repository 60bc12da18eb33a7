"""Keypoints of a person, and the hands and face, in finer detail than the body's 18 points (`skeleton`).

The orders are OpenPose's. Hand: wrist, then four points from the root to the tip of thumb, index, middle, ring and
little finger. Face: the 68 points of iBUG 300-W (jaw 0 to 16, brows to 26, nose to 35, eyes to 47, lips to 67), then
both pupils, the person's right one first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Keypoint(NamedTuple):
    """A point as fractions 0..1 of the picture's width (x) and height (y, downwards)."""

    x: float
    y: float

    @property
    def is_inside(self) -> bool:
        """Whether the point lies in the picture."""
        return 0 <= self.x <= 1 and 0 <= self.y <= 1


Points = tuple[Keypoint | None, ...]
"""Points in a fixed order; those not seen are None."""


def write_points(points: Iterable[Keypoint | None], *, width: int, height: int) -> list[float]:
    """Return x, y and confidence of each point in canvas pixels, to a hundredth; all 0 for points not seen."""
    values: list[float] = []
    for point in points:
        values += [0.0, 0.0, 0.0] if point is None else [_cents(point.x * width), _cents(point.y * height), 1.0]
    return values


def _cents(value: float) -> float:
    return round(value, 2)


HAND_POINTS = 21
FACE_POINTS = 70
PARTS = {
    "left_hand": ("hand_left_keypoints_2d", HAND_POINTS),
    "right_hand": ("hand_right_keypoints_2d", HAND_POINTS),
    "face": ("face_keypoints_2d", FACE_POINTS),
}
"""Every part: its name in OpenPose's files, and its number of points."""


@dataclass(frozen=True, kw_only=True)
class Details:
    """A person's hands and face.

    A point outside the picture counts as not seen, and a part without visible points as missing.

    Attributes:
        left_hand: 21 points; the person's own left.
        right_hand: 21 points; the person's own right.
        face: 70 points.
    """

    left_hand: Points | None = None
    right_hand: Points | None = None
    face: Points | None = None

    def __post_init__(self) -> None:
        """Drop what cannot be drawn."""
        for name, (_, count) in PARTS.items():
            points = getattr(self, name)
            if points is not None and len(points) != count:
                raise ValueError(f"{name} has {len(points)} points, not {count}")
            object.__setattr__(self, name, _inside(points or ()))

    def moved(self, move: Callable[[Points], Points]) -> Details:
        """Return the details with every part's points transformed by `move`."""
        parts = {name: getattr(self, name) for name in PARTS}
        return Details(**{name: points and move(points) for name, points in parts.items()})

    def to_openpose(self, width: int, height: int) -> dict[str, list[float]]:
        """Return the parts that exist, for OpenPose's JSON, as `Skeleton.to_openpose` does."""
        written = {}
        for part, (name, _) in PARTS.items():
            points = getattr(self, part)
            if points is not None:
                written[name] = write_points(points, width=width, height=height)
        return written


def _inside(points: Points) -> Points | None:
    inside = tuple(point if point is not None and point.is_inside else None for point in points)
    return inside if any(point is not None for point in inside) else None
