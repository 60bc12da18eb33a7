"""Points of a body, and the flat lists of numbers in which OpenPose's files hold them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Keypoint(NamedTuple):
    """A point of a body, as fractions 0..1 of the picture's width (x) and height (y, downwards)."""

    x: float
    y: float

    @property
    def is_inside(self) -> bool:
        """Whether it lies in the picture."""
        return 0 <= self.x <= 1 and 0 <= self.y <= 1


Points = tuple[Keypoint | None, ...]
"""Points in a fixed order; one that is not seen is None."""


def write_points(points: Iterable[Keypoint | None], *, width: int, height: int) -> list[float]:
    """Write x, y and confidence of each point in pixels of the canvas, to a hundredth; all 0 for one not seen."""
    values: list[float] = []
    for point in points:
        values += [0.0, 0.0, 0.0] if point is None else [_cents(point.x * width), _cents(point.y * height), 1.0]
    return values


def _cents(value: float) -> float:
    return round(value, 2)
