"""The body's data match what OpenPose pictures show."""

from __future__ import annotations

import numpy as np
import pytest

from ipa_app.pose.body import BONE_COLOURS, BONES, JOINT_COLOURS, JOINT_NAMES, MIRRORED, REST_POSE
from ipa_app.pose.draw import draw_skeleton
from ipa_app.pose.keypoints import Keypoint
from ipa_app.pose.skeleton import KEYPOINTS_PER_PERSON, Skeleton


@pytest.mark.parametrize("bone", range(len(BONES)))
def test_bones_and_joints_have_the_colours_of_the_picture(bone: int) -> None:
    body: list[Keypoint | None] = [None] * KEYPOINTS_PER_PERSON
    first, second = BONES[bone]
    body[first], body[second] = Keypoint(0.5, 0.25), Keypoint(0.5, 0.75)
    drawn = draw_skeleton(Skeleton((tuple(body),)), (512, 512))
    assert drawn.getpixel((256, 128)) == JOINT_COLOURS[first]
    assert drawn.getpixel((256, 384)) == JOINT_COLOURS[second]
    assert drawn.getpixel((256, 256)) == BONE_COLOURS[bone]


def test_no_bone_is_missing() -> None:
    body = tuple(Keypoint(0.1 + 0.04 * i, 0.1 + 0.8 * ((i * 7) % 18) / 18) for i in range(KEYPOINTS_PER_PERSON))
    drawn = np.asarray(draw_skeleton(Skeleton((body,)), (512, 512))).reshape(-1, 3)
    shown = {tuple(map(int, colour)) for colour in np.unique(drawn, axis=0)}
    assert shown == {(0, 0, 0), *JOINT_COLOURS, *BONE_COLOURS}


def test_a_mirror_swaps_left_and_right() -> None:
    for name, other in zip(JOINT_NAMES, MIRRORED, strict=True):
        swapped = name.replace("left", "?").replace("right", "left").replace("?", "right")
        assert JOINT_NAMES[other] == swapped
    assert [MIRRORED[other] for other in MIRRORED] == list(range(KEYPOINTS_PER_PERSON))


def test_the_rest_pose_has_a_place_of_its_own_for_every_joint() -> None:
    assert len(set(REST_POSE)) == len(REST_POSE) == KEYPOINTS_PER_PERSON
    for (x, y), other in zip(REST_POSE, MIRRORED, strict=True):
        assert REST_POSE[other] == (-x, y)
