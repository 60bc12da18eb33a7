"""Candidates for joints and bones are found at dots and lines of their hues, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ipa_app.pose.candidates import Lines, bone_links, joint_places, lines_in
from ipa_app.pose.palettes import CONTROLNET
from ipa_app.pose.strokes import ColouredPart, Stroke, coloured_part
from tests.drawn_skeletons import STANDING, Spots, drawn, moved, without

ELBOW, WRIST = 3, 4
ARM = without(STANDING, 0, 1, *range(5, 18))  # right shoulder, elbow and wrist


def lines_of(picture: Image.Image) -> Lines:
    part = coloured_part(picture)
    lines = None if part is None else lines_in(part)
    assert lines is not None
    return lines


def near(lines: Lines, points: np.ndarray, spot: tuple[float, float] | None, *, within: float) -> list[int]:
    """Return the indices of the points that are close to a spot of the picture."""
    assert spot is not None
    return np.flatnonzero(np.linalg.norm(lines.part.in_picture(points) - spot, axis=1) <= within).tolist()


def test_the_widths_of_lines_and_dots_are_known() -> None:
    lines = lines_of(drawn(STANDING))
    assert lines.has_dots
    assert lines.line / lines.part.unit == pytest.approx(8, abs=1)
    assert lines.dot / lines.part.unit == pytest.approx(9, abs=1)
    bare = lines_of(drawn(STANDING, radius=0))
    assert not bare.has_dots and bare.dot == bare.line
    # Bones of the face are hardly longer than they are thick.
    assert 12 <= len(lines.long_bones) <= 17


@pytest.mark.parametrize("radius", [4, 0])
def test_a_joint_may_be_at_either_end_of_its_bones_and_at_its_dot(radius: int) -> None:
    lines = lines_of(drawn(STANDING, radius=radius))
    places = joint_places(lines, CONTROLNET)
    for joint, others in ((ELBOW, (2, 4)), (WRIST, (3,))):
        (number,) = near(lines, places[joint].points, STANDING[joint], within=3)
        if radius:
            assert places[joint].dotted[number] >= 0.5
        for other in others:
            assert len(near(lines, places[joint].points, STANDING[other], within=12)) == 1
    # The left arm is not drawn here.
    arm = lines_of(drawn(ARM))
    assert all(len(joint_places(arm, CONTROLNET)[joint].points) == 0 for joint in (6, 7, 10, 13))


def test_a_bone_may_run_either_way_along_its_line() -> None:
    lines = lines_of(drawn(ARM))
    places = joint_places(lines, CONTROLNET)
    links = bone_links(lines, CONTROLNET, places)
    forearm = next(i for i, (first, second, _) in enumerate(CONTROLNET.bones) if (first, second) == (ELBOW, WRIST))
    runs = {(link.first, link.second) for link in links[forearm] if link.stroke is not None}
    ends = [
        (near(lines, places[ELBOW].points, ARM[start], within=6), near(lines, places[WRIST].points, ARM[end], within=6))
        for start, end in ((ELBOW, WRIST), (WRIST, ELBOW))
    ]
    assert runs == {(first[0], second[0]) for first, second in ends}


@pytest.mark.parametrize(
    ("length", "width", "is_dot", "is_bone"),
    [
        (12, 12, True, False),
        (6, 6, True, False),
        (5, 5, False, False),
        (13, 5, True, True),
        (13.5, 5, False, True),
        (14, 10, True, False),
        (17, 10, True, True),
        (20, 10, True, True),
        (25, 10, False, True),
        (40, 4, False, False),
        (40, 5, False, True),
        (100, 21, False, True),
        (100, 23, False, False),
        (20, 18, True, False),
        (28, 20, False, False),
    ],
)
def test_dots_are_round_and_bones_are_longer_than_wide_and_as_wide_as_others(
    length: float, width: float, is_dot: bool, is_bone: bool
) -> None:
    """Compared with lines of 10 pixels and dots of 12."""
    ends = np.array([[0.0, 0.0], [length - 1, 0.0]])
    stroke = Stroke(0, length * width, ends.mean(axis=0), np.diag([length**2, width**2]) / 12, ends)
    lines = Lines(ColouredPart(np.zeros((1, 1)), np.zeros(2), 1.0), [stroke], line=10.0, dot=12.0, has_dots=True)
    assert (lines.is_dot(stroke), lines.is_bone(stroke)) == (is_dot, is_bone)


@pytest.mark.parametrize("spots", [STANDING, moved(STANDING, scale=0.5), moved(STANDING, scale=0.3)])
def test_bones_of_which_little_is_seen_run_between_dots_that_are_near(spots: Spots) -> None:
    lines = lines_of(drawn(spots))
    places = joint_places(lines, CONTROLNET)
    size, count = max(lines.line, lines.dot), 0
    for (first, second, _), links in zip(CONTROLNET.bones, bone_links(lines, CONTROLNET, places), strict=True):
        for link in (link for link in links if link.stroke is None):
            dots = [(places[first], link.first), (places[second], link.second)]
            assert all(each.dotted[number] >= 0.5 for each, number in dots)
            start, end = (each.points[number] for each, number in dots)
            assert 1 <= np.linalg.norm(start - end) <= 4.5 * size
            count += 1
    assert count


def test_dots_that_touch_may_be_a_bone() -> None:
    spots: list[tuple[float, float] | None] = list(ARM)
    spots[WRIST] = (190, 260)
    lines = lines_of(drawn(spots))
    places = joint_places(lines, CONTROLNET)
    forearm = next(i for i, (first, second, _) in enumerate(CONTROLNET.bones) if (first, second) == (ELBOW, WRIST))
    (elbow,) = near(lines, places[ELBOW].points, spots[ELBOW], within=3)
    (wrist,) = near(lines, places[WRIST].points, spots[WRIST], within=3)
    links = {(link.first, link.second): link for link in bone_links(lines, CONTROLNET, places)[forearm]}
    assert 0 < links[elbow, wrist].worth < 1


def test_a_joint_is_where_its_bones_cross_more_than_where_they_end() -> None:
    # Without dots, and with bones that end short of it.
    neck = (256.0, 300.0)
    body: Spots = [neck if joint == 1 else None for joint in range(18)]
    ends = {2: (100, 300), 5: (410, 310), 8: (240, 600), 11: (290, 600), 0: (256, 150)}
    lines = lines_of(drawn([ends.get(joint, spot) for joint, spot in enumerate(body)], radius=0))
    places = joint_places(lines, CONTROLNET)
    assert len(near(lines, places[1].points, neck, within=2)) == 1
