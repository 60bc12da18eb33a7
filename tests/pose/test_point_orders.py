"""Point orders match their programs' documentation."""

from __future__ import annotations

import pytest

from ipa_app.pose.body import JOINT_NAMES
from ipa_app.pose.point_orders import ORDERS, are_of_a_body, joint_named, order_of


def test_orders_are_told_apart_by_their_length_however_their_points_are_written() -> None:
    lengths = [count * size for count in ORDERS for size in (2, 3, 4)]
    assert len(set(lengths)) == len(lengths)


@pytest.mark.parametrize("count", sorted(ORDERS))
def test_no_order_has_a_joint_twice_and_all_have_whole_arms_and_legs(count: int) -> None:
    names = [name for name in ORDERS[count].body if name is not None]
    assert len(set(names)) == len(names)
    parts = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    assert {f"{side} {part}" for side in ("left", "right") for part in parts} <= set(names) <= set(JOINT_NAMES)


@pytest.mark.parametrize(
    ("count", "places"),
    [
        (18, {0: "nose", 1: "neck", 4: "right wrist", 13: "left ankle", 14: "right eye", 17: "left ear"}),
        (25, {1: "neck", 8: None, 9: "right hip", 14: "left ankle", 15: "right eye", 18: "left ear", 24: None}),
        (17, {0: "nose", 1: "left eye", 4: "right ear", 5: "left shoulder", 10: "right wrist", 16: "right ankle"}),
        (26, {16: "right ankle", 17: None, 18: "neck", 19: None}),
        (33, {0: "nose", 2: "left eye", 5: "right eye", 8: "right ear", 11: "left shoulder", 28: "right ankle"}),
        (15, {0: None, 1: "neck", 4: "right wrist", 13: "left ankle"}),
        (16, {0: "right ankle", 5: "left ankle", 10: "right wrist", 15: "left wrist"}),
    ],
)
def test_places_are_those_of_the_documentation(count: int, places: dict[int, str | None]) -> None:
    assert {number: ORDERS[count].body[number] for number in places} == places


def test_whole_bodies_have_hands_and_a_face_of_the_right_lengths() -> None:
    for count in (133, 136):
        order = ORDERS[count]
        assert [len(part) for part in (order.face, order.left_hand, order.right_hand)] == [68, 21, 21]
        assert order.right_hand.stop == order.count == count


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("left_shoulder", "left shoulder"),
        ("LShoulder", "left shoulder"),
        ("rightWrist", "right wrist"),
        ("Right Ear", "right ear"),
        ("ear_l", "left ear"),
        ("Nose", "nose"),
        ("left_hip_1_joint", "left hip"),
        ("head", None),
        ("", None),
        (7, None),
    ],
)
def test_joints_are_known_by_what_programs_call_them(text: object, name: str | None) -> None:
    assert joint_named(text) == name


def test_a_known_order_is_known_by_its_names_and_keeps_its_hands_and_face() -> None:
    for count, order in ORDERS.items():
        names = [(name or "toe").replace(" ", "_") for name in order.body]
        assert order_of(names + ["thumb"] * (count - len(names))) is order


def test_any_other_order_is_that_of_its_names() -> None:
    names = ["neck", "root", "left_foot", "right_hip", "nose"]
    assert order_of(names).body == ("neck", None, None, "right hip", "nose")
    coco = [(name or "").replace(" ", "_") for name in ORDERS[17].body]
    assert order_of(coco[::-1]).body == ORDERS[17].body[::-1]
    assert order_of([*coco, "neck"]).body == (*ORDERS[17].body, "neck")


@pytest.mark.parametrize(
    ("names", "is_body"),
    [
        (["nose", "left_eye"], True),
        (["root", "right_hip", "right_foot", "head", "left_wrist"], True),
        (["nose", "left_eye", "left_shoulder", "root_of_tail"], False),
        (["nose", "left_eye", "left_shoulder", "left_front_paw"], False),
        (["LEye", "REye", "LShoulder", "TailBase"], False),
        (["nose", "wheel", "door"], False),
        ([], False),
    ],
)
def test_a_body_is_told_by_the_names_of_its_points(names: list[str], *, is_body: bool) -> None:
    assert are_of_a_body(names) == is_body
