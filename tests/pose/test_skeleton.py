"""Skeletons are validated on creation, and written in OpenPose's format."""

from __future__ import annotations

import pytest

from ipa_app.errors import UserError
from ipa_app.pose.keypoints import Keypoint
from ipa_app.pose.presets import preset_pictures, presets
from ipa_app.pose.skeleton import MOST_PEOPLE, Person, Skeleton


def person(*, missing: tuple[int, ...] = ()) -> Person:
    return tuple(None if i in missing else Keypoint(0.25 + i / 64, i / 32) for i in range(18))


def test_a_skeleton_is_written_as_openpose_writes_it() -> None:
    skeleton = Skeleton((person(), person(missing=(0, 17))))
    data = skeleton.to_openpose(512, 1024)
    assert (data["canvas_width"], data["canvas_height"]) == (512, 1024)
    assert [len(each["pose_keypoints_2d"]) for each in data["people"]] == [54, 54]
    assert data["people"][0]["pose_keypoints_2d"][3:6] == [136.0, 32.0, 1.0]
    assert data["people"][1]["pose_keypoints_2d"][:3] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("people", "message"),
    [
        ((), "no person"),
        ((person(),) * (MOST_PEOPLE + 1), f"{MOST_PEOPLE + 1} people in it: please use at most {MOST_PEOPLE}"),
        ((person(), person(missing=tuple(range(17)))), "Person 2 of this pose has fewer than two points"),
        (((Keypoint(1.1, 0.5), *person()[1:]),), "outside the picture"),
    ],
)
def test_whoever_holds_a_skeleton_can_draw_it(people: tuple[Person, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Skeleton(people)
    assert len(Skeleton((person(),) * MOST_PEOPLE).people) == MOST_PEOPLE


@pytest.mark.parametrize("count", [0, 2, 17, 19])
def test_a_body_has_eighteen_points_and_who_has_not_is_named(count: int) -> None:
    with pytest.raises(UserError) as caught:
        Skeleton((person(), person(), (person() * 2)[:count], person()))
    assert str(caught.value) == f"Person 3 of this pose has {count} points: a body has 18."


@pytest.mark.parametrize(
    "point", [Keypoint(1.01, 0.5), Keypoint(-0.01, 0.5), Keypoint(0.5, 1.01), Keypoint(0.5, -0.01)]
)
def test_who_reaches_over_the_edge_is_named(point: Keypoint) -> None:
    with pytest.raises(UserError, match=r"^Person 2 of this pose has a point outside the picture: "):
        Skeleton((person(), (*person()[:-1], point)))
    corners = (Keypoint(0, 0), Keypoint(1, 1), *person()[2:])
    assert Skeleton((corners,)).people == (corners,)


def test_there_are_ten_whole_presets_with_pictures() -> None:
    poses = presets()
    assert len(poses) == 10
    assert "arms up" in poses
    assert list(poses) == list(preset_pictures())
    assert all(len(skeleton.people) == 1 and None not in skeleton.people[0] for skeleton in poses.values())
    assert len(set(poses.values())) == 10
