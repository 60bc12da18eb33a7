"""Hands and faces: drawn like controlnet-aux, and stored in OpenPose's format."""

from __future__ import annotations

import colorsys
import io
import random
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ipa_app.pose.body import FACE_MIRRORED, HAND_BONE_COLOURS, HAND_BONES, JOINT_NAMES, WRISTS
from ipa_app.pose.draw import draw_skeleton
from ipa_app.pose.drawn import drawn_pose
from ipa_app.pose.keypoints import FACE_POINTS, HAND_POINTS, Details, Keypoint, Points
from ipa_app.pose.presets import presets
from ipa_app.pose.sheet import PoseSheet
from ipa_app.pose.skeleton import Skeleton

BODY = presets()["arms out"].people[0]


def scattered(count: int, *, seed: int, left: float = 0.1, side: float = 0.8) -> Points:
    rng = random.Random(seed)
    return tuple(Keypoint(left + side * rng.random(), 0.1 + side * rng.random()) for _ in range(count))


def detailed(**changes: Points | None) -> Details:
    parts = {
        "left_hand": scattered(HAND_POINTS, seed=1),
        "right_hand": scattered(HAND_POINTS, seed=2),
        "face": scattered(FACE_POINTS, seed=3),
    }
    return Details(**{**parts, **changes})


def missing(points: Points, *numbers: int) -> Points:
    return tuple(None if number in numbers else point for number, point in enumerate(points))


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return controlnet-aux's own drawing function, which needs only this from matplotlib."""
    matplotlib = ModuleType("matplotlib")
    to_rgb = SimpleNamespace(hsv_to_rgb=lambda hsv: np.array(colorsys.hsv_to_rgb(*hsv)))
    monkeypatch.setattr(matplotlib, "colors", to_rgb, raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", matplotlib)
    from controlnet_aux.open_pose import BodyResult, PoseResult, draw_poses

    def draw(skeleton: Skeleton, size: tuple[int, int]) -> np.ndarray:
        poses = [
            PoseResult(BodyResult(list(body), 1.0, 18), *map(listed, (parts.left_hand, parts.right_hand, parts.face)))
            for body, parts in skeleton.figures
        ]
        return draw_poses(poses, size[1], size[0])

    return draw


def listed(points: Points | None) -> list[Keypoint] | None:
    """Return points in controlnet-aux's form: those that are not seen are outside the picture."""
    return None if points is None else [point or Keypoint(-1, -1) for point in points]


@pytest.mark.parametrize("size", [(512, 512), (512, 768)])
def test_hands_and_faces_are_drawn_as_controlnet_aux_draws_them(oracle: Any, size: tuple[int, int]) -> None:
    skeleton = Skeleton((BODY, BODY), (detailed(), detailed(right_hand=None, face=None)))
    drawn = np.asarray(draw_skeleton(skeleton, size), dtype=int)
    expected = oracle(skeleton, size)
    assert np.abs(drawn - expected).max() <= 1  # halves in a colour may be rounded the other way
    assert np.abs(drawn - np.asarray(draw_skeleton(Skeleton((BODY, BODY)), size), dtype=int)).max() == 255


def test_points_that_are_not_seen_are_not_drawn(oracle: Any) -> None:
    hand, face = missing(scattered(HAND_POINTS, seed=4), 0, 7), missing(scattered(FACE_POINTS, seed=5), 30)
    # Given None, controlnet-aux skips the bones of a missing point, but fails to draw its dot.
    skeleton = Skeleton((BODY,), (Details(left_hand=hand, face=face),))
    assert np.abs(np.asarray(draw_skeleton(skeleton, (512, 512)), dtype=int) - oracle(skeleton, (512, 512))).max() <= 1


def test_every_bone_of_a_hand_has_a_colour_of_its_own() -> None:
    assert len(set(HAND_BONE_COLOURS)) == len(HAND_BONES) == 20
    assert {end for bone in HAND_BONES for end in bone} == set(range(HAND_POINTS))
    assert [JOINT_NAMES[WRISTS[hand]] for hand in ("left_hand", "right_hand")] == ["left wrist", "right wrist"]


def test_a_mirrored_face_is_a_face_again() -> None:
    assert [FACE_MIRRORED[other] for other in FACE_MIRRORED] == list(range(FACE_POINTS))
    # Points on the midline stay: chin, bridge and tip of the nose, middles of the lips.
    stays = [point for point, other in enumerate(FACE_MIRRORED) if point == other]
    assert stays == [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]


def test_details_come_back_from_a_file_as_they_were() -> None:
    skeleton = Skeleton((BODY, BODY), (detailed(face=None), detailed(left_hand=missing(detailed().left_hand or (), 3))))
    data = skeleton.to_openpose(512, 1024)
    assert "face_keypoints_2d" not in data["people"][0]
    assert len(data["people"][1]["hand_left_keypoints_2d"]) == 63
    assert data["people"][1]["hand_left_keypoints_2d"][9:12] == [0.0, 0.0, 0.0]
    again = PoseSheet.from_openpose(data).skeleton
    assert again.to_openpose(512, 1024) == data
    assert again.details[1].left_hand is not None and again.details[1].left_hand[3] is None
    # Nothing is written for a person without hands and face.
    assert set(Skeleton((BODY,)).to_openpose(512, 512)["people"][0]) == {"pose_keypoints_2d"}
    assert Skeleton((BODY,), (Details(),)) == Skeleton((BODY,))


def test_points_outside_the_picture_are_not_seen_and_parts_without_any_are_missing() -> None:
    outside = Keypoint(1.5, 0.5)
    details = Details(left_hand=(outside,) * HAND_POINTS, face=(outside, *detailed().face[1:]))  # type: ignore[index]
    assert details.left_hand is None
    assert details.face is not None and details.face[0] is None and None not in details.face[1:]


def test_parts_move_with_their_person() -> None:
    def further(points: Points) -> Points:
        return tuple(point and Keypoint(point.x / 2, point.y / 4) for point in points)

    moved = detailed(right_hand=None).moved(further)
    assert moved == Details(left_hand=further(detailed().left_hand or ()), face=further(detailed().face or ()))


def test_a_portrait_that_is_mostly_a_face_is_recognised_as_a_skeleton() -> None:
    seen = {0: (0.5, 0.45), 1: (0.5, 0.9), 14: (0.42, 0.35), 15: (0.58, 0.35), 16: (0.3, 0.4), 17: (0.7, 0.4)}
    body = tuple(Keypoint(*seen[joint]) if joint in seen else None for joint in range(18))
    face = tuple(Keypoint(0.3 + 0.4 * (i % 10) / 9, 0.2 + 0.5 * (i // 10) / 6) for i in range(FACE_POINTS))
    drawn = draw_skeleton(Skeleton((body,), (Details(face=face),)), (512, 512))
    buffer = io.BytesIO()
    drawn.save(buffer, "JPEG", quality=70)
    assert drawn_pose(drawn) is not None
    assert drawn_pose(Image.open(buffer).convert("RGB")) is not None
