"""The palettes are the colours of the programs they are named after, and cover every bone."""

from __future__ import annotations

import pytest

from ipa_app.pose.body import BONES, JOINT_COLOURS
from ipa_app.pose.palettes import CONTROLNET, HUES, MID_HIP, PALETTES


def test_controlnets_know_the_colours_that_are_drawn_here() -> None:
    assert len(set(CONTROLNET.joints)) == len(JOINT_COLOURS) == HUES
    assert [(first, second) for first, second, _ in CONTROLNET.bones] == list(BONES)
    assert [hue for _, _, hue in CONTROLNET.bones] == list(CONTROLNET.joints[: len(BONES)])


@pytest.mark.parametrize("number", range(len(PALETTES)))
def test_every_palette_has_a_tree_of_bones(number: int) -> None:
    palette = PALETTES[number]
    joints = {joint for first, second, _ in palette.bones for joint in (first, second)}
    assert joints == set(range(len(palette.joints)))
    assert len(palette.bones) == len(joints) - 1
    # Outwards from the neck.
    reached = {1}
    while more := {second for first, second, _ in palette.bones if first in reached} - reached:
        reached |= more
    assert reached == joints
    assert len({hue for _, _, hue in palette.bones}) == len(palette.bones)


def test_the_larger_body_hangs_its_legs_on_the_middle_of_the_hips() -> None:
    larger = [palette for palette in PALETTES if len(palette.joints) > MID_HIP]
    assert len(larger) == 2
    assert {second for first, second, _ in larger[0].bones if first == MID_HIP} == {8, 11}


def test_red_and_blue_change_places_and_green_stays() -> None:
    swapped = CONTROLNET.with_red_and_blue_swapped()
    by_hue = dict(zip(CONTROLNET.joints, swapped.joints, strict=True))
    assert (by_hue[0], by_hue[12], by_hue[6]) == (12, 0, 6)
    assert swapped.with_red_and_blue_swapped() == CONTROLNET


def test_joints_have_the_hues_in_their_order_round_the_circle() -> None:
    assert CONTROLNET.joints == tuple(range(HUES))
