"""Parse points as files write them: lists of numbers, lists or objects, columns, or objects with a key per joint."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ipa_app.pose.keypoints import Keypoint, Points
from ipa_app.pose.point_orders import joint_named

_CONFIDENCE_NAMES = ("confidence", "score", "visibility", "visible", "v", "conf")
# Coordinates up to this are fractions of the canvas, not pixels; some people extend beyond its edges.
_LARGEST_FRACTION = 2.0
# In the form from -1 to 1 nobody extends beyond the edges, except by parts of a pixel.
_LARGEST_SIGNED = 1.01
# Least share of points outside the canvas, if read as 0 to 1, that suggests -1 to 1: of people, most points are inside.
_OUTSIDE = 1 / 3


class WrittenPoint(NamedTuple):
    """A point as written in a file.

    Attributes:
        x: NaN if missing.
        y: NaN if missing.
        confidence: None if not given.
        is_readable: whether it is a point at all.
    """

    x: float
    y: float
    confidence: float | None = None
    is_readable: bool = True

    @property
    def is_missing(self) -> bool:
        """Whether the file marks it as not seen in one of the usual ways."""
        is_nowhere = math.isnan(self.x) or math.isnan(self.y) or (self.x == self.y and self.x < 0)
        return is_nowhere or (self.confidence is not None and self.confidence <= 0)

    @property
    def is_in_corner(self) -> bool:
        """Whether it may be missing too: programs without confidences write zeros."""
        return self.x == 0 and self.y == 0

    def is_surer_than(self, least: float) -> bool:
        """Whether its confidence, if given, is at least `least`."""
        return self.confidence is None or self.confidence >= least


MISSING = WrittenPoint(math.nan, math.nan)
_UNREADABLE = WrittenPoint(math.nan, math.nan, is_readable=False)


def as_number(value: object) -> float | None:
    """Return a number from a file, including "12"; NaN for null, and None for anything else."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None
    except OverflowError:
        return math.inf


def are_named(value: object) -> bool:
    """Whether this is an object with a point for each of a body's joints."""
    if not isinstance(value, Mapping):
        return False
    return sum(joint_named(name) is not None for name, point in value.items() if point is None or _is_part(point)) >= 2


def are_columns(value: object) -> bool:
    """Whether this is an object with a list of all x and one of all y."""
    return isinstance(value, Mapping) and all(isinstance(value.get(axis), list) for axis in ("x", "y"))


def is_point(value: object) -> bool:
    """Whether this is a list of a point's numbers, or an object keyed by them."""
    if isinstance(value, Mapping):
        return {"x", "y"} <= value.keys() or isinstance(value.get("position"), Mapping)
    return isinstance(value, list) and 2 <= len(value) <= 5 and not any(map(_is_part, value))


def are_points(value: object) -> bool:
    """Whether these are the points of one body, in any of the forms."""
    if not isinstance(value, list):
        return are_named(value) or are_columns(value)
    if _has_parts(value):
        return 2 * sum(each is None or is_point(each) for each in value) > len(value)
    return len(value) >= 6 and any(map(_is_numeric, value))


def _has_parts(values: Sequence[object]) -> bool:
    """Whether a list has a list or an object per point; a single one among numbers is a mistake."""
    parts = sum(map(_is_part, values))
    return parts > sum(each is not None for each in values) - parts


def _is_numeric(value: object) -> bool:
    return isinstance(value, int | float) or (isinstance(value, str) and as_number(value) is not None)


def _is_part(value: object) -> bool:
    return isinstance(value, list | Mapping)


def read_point(value: object) -> WrittenPoint:
    """Read a point: a list of x, y, perhaps z, and perhaps a confidence, or an object keyed by them."""
    if value is None:
        return MISSING
    if isinstance(value, Mapping):
        position = value.get("position")
        where = position if isinstance(position, Mapping) else value
        if not {"x", "y"} <= where.keys():
            return _UNREADABLE
        value = [where.get("x"), where.get("y"), _confidence(value)]
    if not isinstance(value, list) or not 2 <= len(value) <= 5:
        return _UNREADABLE
    x, y, confidence = map(as_number, (*value[:2], None if len(value) == 2 else value[min(len(value) - 1, 3)]))
    if x is None or y is None or confidence is None:
        return _UNREADABLE
    return WrittenPoint(x, y, None if math.isnan(confidence) else confidence)


def _confidence(value: Mapping[str, Any]) -> object:
    return next((value[name] for name in _CONFIDENCE_NAMES if name in value), None)


def read_points(value: object, counts: Container[int]) -> list[WrittenPoint] | None:
    """Read a list of points; None if their number is not in `counts`."""
    if isinstance(value, Mapping):
        columns = [value.get("x"), value.get("y"), _confidence(value)]
        value = [list(row) for row in zip(*(each for each in columns if isinstance(each, list)), strict=False)]
    if not isinstance(value, list):
        return None
    if not _has_parts(value):
        value = _in_points(value, counts)
    return read_each(value) if len(value) in counts else None


def read_each(values: Sequence[object]) -> list[WrittenPoint]:
    """Read points in any form; in lists of three numbers, the last is a confidence, or a depth if any is negative."""
    threes = [each for each in values if isinstance(each, list) and len(each) == 3]
    # Of a point that was not seen, all numbers may be negative.
    are_depths = any((as_number(each[2]) or 0) < 0 and not read_point(each[:2]).is_missing for each in threes)
    return [
        read_point(each[:2] if are_depths and isinstance(each, list) and len(each) == 3 else each) for each in values
    ]


def _in_points(numbers: list[Any], counts: Container[int]) -> list[Any]:
    """Split a flat list into points of x, y and confidence, of x and y, or of x, y, depth and confidence."""
    sizes = (3,) if _are_in_threes(numbers) else (3, 2, 4)
    size = next((size for size in sizes if len(numbers) % size == 0 and len(numbers) // size in counts), 0)
    if not size:
        return []
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


def _are_in_threes(numbers: Sequence[object]) -> bool:
    """Whether every third number can only be a confidence: 36 numbers are 18 points, or 12 in an unknown order."""
    read = [as_number(each) or 0.0 for each in numbers]
    thirds, others = read[2::3], read[::3] + read[1::3]
    if len(read) % 3 or not all(0 <= each <= _LARGEST_FRACTION for each in thirds):
        return False
    return max(others, default=0.0) > _LARGEST_FRACTION or len(set(thirds)) <= 2


def placed(points: Iterable[WrittenPoint], canvas: tuple[float, float], *, signed: bool) -> Points:
    """Convert one person's points to fractions of the canvas; None for missing ones.

    Args:
        points: in pixels of the canvas, or in fractions of it; guesses would mislead the choice between these, and must
            be MISSING.
        canvas: width and height in pixels.
        signed: whether fractions run from -1 to 1 (see `are_signed`).
    """
    seen = _without_absent(points)
    if _are_in_pixels(seen):
        return tuple(point and Keypoint(point.x / canvas[0], point.y / canvas[1]) for point in seen)
    if signed:
        return tuple(point and Keypoint((point.x + 1) / 2, (point.y + 1) / 2) for point in seen)
    return tuple(point and Keypoint(point.x, point.y) for point in seen)


def are_signed(people: Iterable[Iterable[WrittenPoint]]) -> bool:
    """Whether the fractions in a file run from -1 to 1, as OpenPose can be told to write them, and not from 0 to 1.

    Args:
        people: as for `placed`, the points of everybody in a picture.
    """
    bodies = map(_without_absent, people)
    there = [point for body in bodies if not _are_in_pixels(body) for point in body if point is not None]
    outside = sum(not (0 <= point.x <= 1 and 0 <= point.y <= 1) for point in there)
    reach_both_ways = any(point.x < 0 for point in there) and any(point.y < 0 for point in there)
    are_within = all(max(abs(point.x), abs(point.y)) <= _LARGEST_SIGNED for point in there)
    return reach_both_ways and are_within and outside >= _OUTSIDE * len(there)


def _are_in_pixels(points: Iterable[WrittenPoint | None]) -> bool:
    """Whether most points are too far out for fractions; a single one may be a guess far beyond the frame."""
    far = [max(abs(point.x), abs(point.y)) > _LARGEST_FRACTION for point in points if point is not None]
    return bool(far) and 2 * sum(far) >= len(far)


def _without_absent(points: Iterable[WrittenPoint]) -> list[WrittenPoint | None]:
    """Replace what the file marks as not seen with None."""
    listed = list(points)
    corners = sum(point.is_in_corner for point in listed)
    return [None if _is_absent(point, corners=corners) else point for point in listed]


def _is_absent(point: WrittenPoint, *, corners: int) -> bool:
    # One point may well be in the corner; two never are.
    return point.is_missing or (point.is_in_corner and (point.confidence is None or corners > 1))
