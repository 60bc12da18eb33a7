"""Skeletons read and write OpenPose's files, and say what is wrong with bad ones."""

from __future__ import annotations

from typing import Any

import pytest

from ipa_app.errors import UserError
from ipa_app.pose.keypoints import Keypoint
from ipa_app.pose.presets import preset_pictures, presets
from ipa_app.pose.skeleton import Person, Skeleton


def person(*, missing: tuple[int, ...] = ()) -> Person:
    return tuple(None if i in missing else Keypoint(0.25 + i / 64, i / 32) for i in range(18))


def openpose(**changes: Any) -> dict[str, Any]:
    return {
        "people": [{"pose_keypoints_2d": [10.0, 20.0, 1.0] * 18}],
        "canvas_width": 64,
        "canvas_height": 64,
    } | changes


def test_openpose_round_trip() -> None:
    skeleton = Skeleton((person(), person(missing=(0, 17))))
    data = skeleton.to_openpose(512, 1024)
    assert data["people"][1]["pose_keypoints_2d"][:3] == [0.0, 0.0, 0.0]
    assert Skeleton.from_openpose(data) == skeleton


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "people"),
        ("text", "people"),
        ({}, "people"),
        (openpose(people=[]), "no person"),
        (openpose(people=[{}]), "54 numbers"),
        (openpose(people=[{"pose_keypoints_2d": [1.0] * 75}]), "54 numbers"),
        (openpose(people=["someone"]), "54 numbers"),
        (openpose(people=[{"pose_keypoints_2d": ["1"] * 54}]), "not a number"),
        (openpose(people=[{"pose_keypoints_2d": [float("nan")] * 54}]), "not a number"),
        (openpose(people=[{"pose_keypoints_2d": [0.0] * 54}]), "fewer than two points"),
        (openpose(people=[{"pose_keypoints_2d": [900.0, 20.0, 1.0] * 18}]), "outside the picture"),
        (openpose(people=[{"pose_keypoints_2d": [-1.0, 20.0, 1.0] * 18}]), "outside the picture"),
        (openpose(people=[{"pose_keypoints_2d": [10.0, 20.0, 1.0] * 18}] * 100), "100 people"),
        (openpose(canvas_width=0), "canvas_width"),
        (openpose(canvas_height=None), "canvas_height"),
        (openpose(canvas_width=float("inf")), "canvas_width"),
    ],
)
def test_bad_files_are_explained(data: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Skeleton.from_openpose(data)


def test_a_body_has_eighteen_points() -> None:
    with pytest.raises(UserError, match="17 points"):
        Skeleton((person()[:17],))


def test_there_are_ten_whole_presets_with_pictures() -> None:
    poses = presets()
    assert len(poses) == 10
    assert "arms up" in poses
    assert list(poses) == list(preset_pictures())
    assert all(len(skeleton.people) == 1 and None not in skeleton.people[0] for skeleton in poses.values())
    assert len(set(poses.values())) == 10
