"""Pieces of one body are joined, and those of two bodies are not."""

from __future__ import annotations

import numpy as np
import pytest

from ipa_app.pose.figures import Figure, joined, without_leftovers

REACH = 10.0


def figure(
    joints: dict[int, tuple[float, float]], *, bones: set[int], worth: float, dotted: set[int] | None = None
) -> Figure:
    places = {joint: np.array(spot, dtype=float) for joint, spot in joints.items()}
    return Figure(places, worth, bones=bones, strokes={10 * bone for bone in bones}, dotted=dotted or set())


def upper() -> Figure:
    return figure({1: (100, 100), 2: (80, 100), 3: (70, 150)}, bones={0, 2}, worth=4.0, dotted={1, 2, 3})


def test_a_piece_with_other_bones_nearby_is_the_bodys() -> None:
    legs = figure({8: (90, 200), 9: (90, 260)}, bones={7}, worth=2.0, dotted={8})
    (body,) = joined([upper(), legs], reach=REACH)
    assert set(body.joints) == {1, 2, 3, 8, 9}
    assert (body.worth, body.bones, body.strokes, body.dotted) == (6.0, {0, 2, 7}, {0, 20, 70}, {1, 2, 3, 8})


@pytest.mark.parametrize(("left", "owner"), [(90, 0), (150, 0), (200, 1), (350, 1)])
def test_a_piece_between_two_bodies_is_the_nearer_ones(left: float, owner: int) -> None:
    bodies = [upper(), figure({1: (300, 100), 2: (280, 100), 3: (270, 150)}, bones={0, 2}, worth=5.0)]
    joined([*bodies, figure({8: (left, 200), 9: (left, 260)}, bones={7}, worth=2.0)], reach=REACH)
    assert [8 in body.joints for body in bodies] == [owner == 0, owner == 1]


def test_a_piece_far_away_or_with_the_same_bones_is_somebody_elses() -> None:
    far = figure({8: (900, 200), 9: (900, 260)}, bones={7}, worth=2.0)
    same = figure({2: (85, 100), 3: (75, 150)}, bones={2}, worth=3.0)
    assert [len(body.joints) for body in joined([upper(), far, same], reach=REACH)] == [3, 2, 2]


def test_one_joint_may_be_in_two_places_and_its_dot_says_which() -> None:
    arm = figure({1: (140, 110), 5: (160, 110), 6: (170, 160)}, bones={1, 4}, worth=3.0)
    (body,) = joined([upper(), arm], reach=REACH)
    assert body.joints[1].tolist() == [100, 100]
    bare = upper()
    bare.dotted.clear()
    arm = figure({1: (140, 110), 5: (160, 110)}, bones={1}, worth=3.0, dotted={1})
    (body,) = joined([bare, arm], reach=REACH)
    assert body.joints[1].tolist() == [140, 110]


def test_pieces_may_have_but_one_joint_of_a_body_in_other_places() -> None:
    arm = figure({1: (140, 110), 5: (160, 110)}, bones={1}, worth=3.0)
    head = figure({1: (140, 90), 0: (140, 60)}, bones={12}, worth=2.0)
    elbow = figure({2: (120, 100), 4: (60, 190)}, bones={3}, worth=2.0)
    bare = upper()
    bare.dotted.clear()
    assert [set(body.joints) for body in joined([bare, arm, head, elbow], reach=REACH)] == [{0, 1, 2, 3, 5}, {2, 4}]
    assert [set(body.joints) for body in joined([upper(), elbow], reach=REACH)] == [{1, 2, 3, 4}]


def test_two_joints_in_two_places_are_two_bodies() -> None:
    other = figure({1: (140, 110), 2: (130, 110), 5: (160, 110)}, bones={1, 12}, worth=3.0)
    assert len(joined([upper(), other], reach=REACH)) == 2
    dotted = figure({1: (140, 110), 5: (160, 110)}, bones={1}, worth=3.0, dotted={1})
    assert len(joined([upper(), dotted], reach=REACH)) == 2


def test_the_best_comes_first_and_small_pieces_beside_it_are_left_out() -> None:
    whole = figure({joint: (10.0 * joint, 0.0) for joint in range(18)}, bones=set(range(17)), worth=25.0)
    half = figure({joint: (10.0 * joint, 500.0) for joint in range(8)}, bones=set(range(6)), worth=6.0)
    speck = figure({3: (0, 900), 4: (9, 900)}, bones={3}, worth=2.0)
    assert joined([speck, whole, half], reach=REACH)[0] is whole
    assert without_leftovers([whole, half, speck], has_dots=False) == [whole, half]
    # Where there are dots at all, the edges of lines have none.
    assert without_leftovers([whole, half, speck], has_dots=True) == [whole]
    half.dotted |= set(range(8))
    assert without_leftovers([whole, half, speck], has_dots=True) == [whole, half]
