"""Points of a body, and the flat lists of numbers in which OpenPose's files hold them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeGuard

from ipa_app.errors import UserError

# Far beyond any canvas; whole numbers of any length can be compared with it, which not all arithmetic survives.
_LARGEST_NUMBER = 1e9


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


def read_points(values: Sequence[object], *, number: int, canvas: tuple[float, float]) -> Points:
    """Read points from a list of x, y and confidence for each; confidence 0 means "not seen".

    Args:
        values: as many as a multiple of three.
        number: of the person, from 1.
        canvas: width and height that the coordinates are pixels of.

    Raises:
        UserError: a value is not a number.
    """
    numbers = [value for value in values if is_number(value)]
    if len(numbers) < len(values):
        raise UserError(f"Person {number} of this OpenPose file has a value that is not a number.")
    points = zip(numbers[0::3], numbers[1::3], numbers[2::3], strict=True)
    return tuple(Keypoint(x / canvas[0], y / canvas[1]) if confidence > 0 else None for x, y, confidence in points)


def write_points(points: Iterable[Keypoint | None], *, width: int, height: int) -> list[float]:
    """Write points as `read_points` takes them, to a hundredth of a pixel."""
    values: list[float] = []
    for point in points:
        values += [0.0, 0.0, 0.0] if point is None else [_cents(point.x * width), _cents(point.y * height), 1.0]
    return values


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value from a file can be calculated with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST_NUMBER


def _cents(value: float) -> float:
    return round(value, 2)
