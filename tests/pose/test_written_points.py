"""Points are read in every form that files use, and converted to fractions of their canvas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from ipa_app.pose.keypoints import Points
from ipa_app.pose.written_points import WrittenPoint, are_points, are_signed, as_number, placed, read_point, read_points

CANVAS = (200.0, 100.0)


def placed_alone(points: Sequence[WrittenPoint]) -> Points:
    """Place the points of somebody who is alone in their file."""
    return placed(points, CANVAS, signed=are_signed([points]))


@pytest.mark.parametrize(("value", "number"), [(3, 3.0), ("12.5", 12.5), (-1e6, -1e6), (10**400, math.inf)])
def test_numbers_are_read(value: object, number: float) -> None:
    assert as_number(value) == number


def test_null_is_no_number_and_other_things_are_nothing() -> None:
    assert math.isnan(as_number(None) or 0) and math.isnan(as_number("nan") or 0)
    assert [as_number(value) for value in ("x", "", True, [], {}, b"1")] == [None] * 6


@pytest.mark.parametrize(
    ("value", "point"),
    [
        ([1, 2], (1, 2, None)),
        ([1, 2, 0.5], (1, 2, 0.5)),
        ([1, 2, -9, 0.5], (1, 2, 0.5)),
        ([1, 2, -9, 0.5, 0.7], (1, 2, 0.5)),
        (["1", "2", None], (1, 2, None)),
        ({"x": 1, "y": 2}, (1, 2, None)),
        ({"x": 1, "y": 2, "z": 3, "visibility": 0.5}, (1, 2, 0.5)),
        ({"position": {"x": 1, "y": 2}, "score": 0.5, "part": "nose"}, (1, 2, 0.5)),
    ],
)
def test_a_point_is_read_in_every_form(value: object, point: tuple[float, float, float | None]) -> None:
    assert read_point(value) == WrittenPoint(*point)


@pytest.mark.parametrize("value", [[1], [1, "a"], [1, 2, 3, 4, 5, 6], "1,2", 7, {}, {"x": 1, "y": []}, [[1, 2], 3]])
def test_what_is_no_point_is_unreadable(value: object) -> None:
    point = read_point(value)
    assert not point.is_readable and point.is_missing


@pytest.mark.parametrize(
    ("value", "is_missing"),
    [
        (None, True),
        ([None, None, None], True),
        ([math.nan, 5, 1], True),
        ([5, 5, 0], True),
        ([5, 5, -1], True),
        ([-1, -1], True),
        ([-1, -1, 1], True),
        ([-0.002, -0.002, 1], True),
        ([-1, 5, 1], False),
        ([0, 0, 1], False),
        ([5, 5], False),
        ([5, 5, None], False),
    ],
)
def test_missing_points_are_known_by_every_sign(value: object, is_missing: bool) -> None:
    assert read_point(value).is_missing == is_missing


def test_lists_are_read_flat_nested_or_in_columns() -> None:
    expected = [WrittenPoint(1, 2, 0.5), WrittenPoint(3, 4, 0.6)]
    forms: list[Any] = [
        [1, 2, 0.5, 3, 4, 0.6],
        [1, 2, 9, 0.5, 3, 4, 9, 0.6],
        [[1, 2, 0.5], [3, 4, 0.6]],
        [{"x": 1, "y": 2, "score": 0.5}, {"x": 3, "y": 4, "score": 0.6}],
        {"x": [1, 3], "y": [2, 4], "visible": [0.5, 0.6]},
    ]
    assert [read_points(form, {2}) for form in forms] == [expected] * len(forms)
    assert read_points([1, 2, 3, 4], {2}) == [WrittenPoint(1, 2), WrittenPoint(3, 4)]
    # The third number is a depth.
    assert read_points([1, 2, -0.5, 3, 4, 0.6], {2}) == [WrittenPoint(1, 2), WrittenPoint(3, 4)]


@pytest.mark.parametrize("value", [[], [1, 2, 3], [[1, 2]], "12", None, {}, {"x": [1, 2]}, [[[1, 2]], [3]]])
def test_lists_of_another_length_are_none(value: object) -> None:
    points = read_points(value, {2})
    assert points is None or not all(point.is_readable for point in points)


def test_it_is_told_by_the_values_how_many_numbers_a_point_has() -> None:
    pairs = read_points([100, 200, 250] * 12, {18})
    assert pairs is not None and pairs[:2] == [WrittenPoint(100, 200), WrittenPoint(250, 100)]
    # No known order has twelve points; these are not mistaken for eighteen.
    for confidence in (1.0, 0.7):
        assert read_points([100, 200, confidence] * 12, {18}) is None
        assert read_points([0.1, 0.2, confidence] * 12, {18}) is None


@pytest.mark.parametrize(
    ("numbers", "are_pairs"),
    [
        ([0.1, 0.2, 0.3] * 12, False),
        ([0.1, 0.2, 0.0, 0.3, 0.4, 1.0] * 6, False),
        ([0.1 + 0.01 * number for number in range(36)], True),
        ([2.0 - 0.05 * number for number in range(36)], True),
        ([*([2.1, 0.2, 0.3, 0.2, 0.2, 0.4] * 5), 0.1, 0.1, 0.5, 0.1, 0.1, 2.0], False),
        ([*([0.2, 2.1, 0.3, 0.2, 0.2, 0.4] * 5), 0.1, 0.1, 0.5, 0.1, 0.1, 0.0], False),
        ([*([0.2, 9.0, 0.3, 0.2, 0.2, 0.4] * 5), 0.1, 0.1, 0.5, 0.1, 0.1, 2.1], True),
    ],
)
def test_thirty_six_numbers_are_eighteen_pairs_unless_every_third_is_a_confidence(
    numbers: list[float], are_pairs: bool
) -> None:
    """Confidences have at most two distinct values, or come with other numbers that are no fractions of the canvas."""
    assert (read_points(numbers, {18}) is not None) == are_pairs


def test_a_depth_is_told_by_one_that_is_negative() -> None:
    assert read_points([1, 2, None, 3, 4, 0.6], {2}) == [WrittenPoint(1, 2), WrittenPoint(3, 4, 0.6)]
    for numbers in ([1, 2, 0, 3, 4, -0.1], [[1, 2, 0], [3, 4, -0.1]]):
        assert read_points(numbers, {2}) == [WrittenPoint(1, 2), WrittenPoint(3, 4)]
    # Points with another number of numbers, or none, are read as ever.
    mixed = [[1, 2, -0.5], None, [3, 4, 9, 0.6], {"x": 5, "y": 6, "visibility": 0.7}, [7, 8]]
    read = [WrittenPoint(3, 4, 0.6), WrittenPoint(5, 6, 0.7), WrittenPoint(7, 8)]
    assert (points := read_points(mixed, {5})) is not None and [points[0], *points[2:]] == [WrittenPoint(1, 2), *read]


def test_minus_one_everywhere_is_no_depth() -> None:
    assert read_points([[1, 2, 0.5], [-1, -1, -1]], {2}) == [WrittenPoint(1, 2, 0.5), WrittenPoint(-1, -1, -1)]


def test_points_of_a_body_are_told_from_other_lists() -> None:
    bodies: list[Any] = [[1, 2, 0.5] * 2, [[1, 2], None], [{"x": 1, "y": 2}], {"nose": [1, 2], "LEye": None}]
    assert all(map(are_points, bodies)) and are_points({"x": [], "y": []})
    bodies = [["1", "2", "0.5"] * 2, [1, 2, 0.5, [3], 4, 0.6], [[1, 2], [3, 4], None, 5]]
    assert all(map(are_points, bodies))
    others: list[Any] = [[], [1, 2, 3, 4], ["nose"] * 17, [[[1, 2]]], {"a": 1}, {"nose": 1}, "text", None, 5]
    others += [[None] * 18, ["high"] * 18, [[1, 2], None, 5, 6], ["x", "y", [1, 2], [3, 4]]]
    assert not any(map(are_points, others))


def test_pixels_fractions_and_what_runs_from_minus_one_come_to_the_same() -> None:
    pixels = [WrittenPoint(50, 25), WrittenPoint(150, 75, 1.0)]
    fractions = [WrittenPoint(0.25, 0.25), WrittenPoint(0.75, 0.75, 1.0)]
    signed = [WrittenPoint(-0.5, -0.5, 1.0), WrittenPoint(0.5, 0.5, 1.0)]
    # On a line, both forms would be the same.
    signed[0] = WrittenPoint(-0.5, -0.5001, 1.0)
    for points in (pixels, fractions, signed):
        spots = placed_alone(points)
        assert [tuple(spot or ()) for spot in spots] == [pytest.approx((0.25, 0.25), abs=1e-3), (0.75, 0.75)]


def test_people_beyond_the_edge_are_not_taken_for_signed_fractions() -> None:
    spots = placed_alone([WrittenPoint(-0.1, 0.5), WrittenPoint(0.3, 1.2)])
    assert spots == ((-0.1, 0.5), (0.3, 1.2))


def test_coordinates_from_minus_one_end_at_one() -> None:
    points = [(0.45, 0.12), (-0.05, 0.6), (0.39, -0.01), (0.5, 1.7)]
    assert placed_alone([WrittenPoint(*point, 0.9) for point in points]) == tuple(points)
    # Peaks have subpixel positions.
    spots = placed_alone([WrittenPoint(-0.5, 0.0), WrittenPoint(0.0, -0.5), WrittenPoint(0.0, 1.004)])
    assert spots == ((0.25, 0.5), (0.5, 0.25), (0.5, 1.002))


@pytest.mark.parametrize("beyond", [[(-0.03, 0.2), (0.6, -0.02)], [(-0.02, 0.1), (0.2, -0.01), (-0.3, -0.4)]])
def test_a_few_points_beyond_two_edges_do_not_make_fractions_signed(beyond: list[tuple[float, float]]) -> None:
    inside = [(0.3 + 0.02 * number, 0.2 + 0.03 * number) for number in range(16)]
    points = [WrittenPoint(*point, 0.9) for point in [*inside, *beyond]]
    assert placed_alone(points) == tuple((point.x, point.y) for point in points)


@pytest.mark.parametrize("wild", [(0.5, 2.3), (1e9, 0.5), (-40.0, 3000.0)])
def test_a_few_points_far_beyond_the_frame_do_not_make_pixels_of_fractions(wild: tuple[float, float]) -> None:
    inside = [(0.3 + 0.1 * number, 0.2 + 0.1 * number) for number in range(4)]
    points = [WrittenPoint(*point, 0.9) for point in [*inside, wild, wild, wild]]
    assert placed_alone(points)[:4] == tuple(inside)
    # And some in the corner make no fractions of pixels.
    pixels = [WrittenPoint(x, y, 1.0) for x, y in ((0.5, 1.5), (1.0, 0.5), (100, 50), (20, 90), (60, 30))]
    assert placed_alone(pixels)[2] == (0.5, 0.5)


def test_one_form_is_that_of_everybody_in_a_file() -> None:
    left = [WrittenPoint(-0.5, -0.5001, 1.0), WrittenPoint(-0.5, 0.2, 1.0), WrittenPoint(-0.1, -0.2, 1.0)]
    right = [WrittenPoint(0.5, 0.2, 1.0), WrittenPoint(0.6, 0.4, 1.0)]
    assert are_signed([left, right]) and not are_signed([right])
    # People in pixels say nothing about others.
    assert are_signed([left, [WrittenPoint(-100.0, -5.0), WrittenPoint(100.0, 50.0)]])
    assert not are_signed([]) and not are_signed([[]])


@pytest.mark.parametrize(
    ("point", "spot"),
    [
        ((2.0, 0.5), (2.0, 0.5)),
        ((2.1, 0.5), (2.1 / 200, 0.5 / 100)),
        ((0.5, -2.1), (0.5 / 200, -2.1 / 100)),
        ((-0.5, 0.0), (-0.5, 0.0)),
        ((0.0, -0.5), (0.0, -0.5)),
        ((-0.5, 0.5), (-0.5, 0.5)),
        ((0.5, -0.5), (0.5, -0.5)),
    ],
)
def test_what_lies_at_the_limits_of_fractions(point: tuple[float, float], spot: tuple[float, float]) -> None:
    assert placed_alone([WrittenPoint(*point, 1.0)]) == (spot,)


def test_one_point_may_be_in_the_corner_but_not_two() -> None:
    corner, other = WrittenPoint(0, 0, 1.0), WrittenPoint(100, 50, 1.0)
    assert placed_alone([corner, other])[0] == (0, 0)
    assert placed_alone([corner, corner, other])[:2] == (None, None)
    assert placed_alone([WrittenPoint(0, 0), other])[0] is None
