"""People found by DWPose, through networks of its shapes that always find the same two; skipped where it is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.pose.detect import PoseDetector
from ipa_app.pose.detector import PoseOptions
from ipa_app.pose.detectors import detectors
from ipa_app.pose.skeleton import Skeleton
from tests.dwpose_files import FINDER, POSE, constant_network, dwpose_files, finder_output, pose_output

pytest.importorskip("onnx", reason="makes the networks")
pytestmark = pytest.mark.skipif("dwpose" not in detectors(), reason="needs rtmlib and onnxruntime")


def found(folder: Path, photo: Image.Image, **options: bool) -> Skeleton:
    files = {name: folder / name for name in (FINDER, POSE)}
    return PoseDetector().detect(photo, weights=lambda _: files, options=PoseOptions(pose_detector="dwpose", **options))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    dwpose_files(tmp_path)
    return tmp_path


PHOTO = Image.new("RGB", (640, 640), (90, 120, 60))


def test_everybody_is_found_with_hands_and_face(folder: Path) -> None:
    skeleton = found(folder, PHOTO, pose_hands=True, pose_face=True)
    assert len(skeleton.people) == 2
    for person, details in skeleton.figures:
        assert None not in person
        assert details.left_hand and details.right_hand and details.face
        places = np.array([*details.face[:68], *details.left_hand, *details.right_hand], dtype=float)
        # Points stand in one column, in the order of COCO's whole body: face, left hand, right hand.
        assert np.ptp(places[:, 0]) == 0
        assert (np.diff(places[:, 1]) > 0).all()
        # The pupils, which it does not look for, are where the eyes are: right, then left.
        assert details.face[68:] == (person[14], person[15])
    # Both stand in the middle of their boxes: cells 5 and 15 of 20.
    assert sorted(person[0].x for person in skeleton.people if person[0]) == pytest.approx([0.25, 0.75], abs=0.01)


def test_the_points_of_the_body_are_in_openposes_order(folder: Path) -> None:
    person = found(folder, PHOTO).people[0]
    # COCO: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, each left before right.
    coco = {0: 0, 2: 6, 3: 8, 4: 10, 5: 5, 6: 7, 7: 9, 8: 12, 11: 11, 14: 2, 15: 1, 16: 4, 17: 3}
    order = sorted(coco, key=lambda joint: coco[joint])
    heights = [point.y for joint in order if (point := person[joint]) is not None]
    assert heights == sorted(heights) and len(set(heights)) == len(coco)


def test_hands_and_face_are_left_out_unless_they_are_asked_for(folder: Path) -> None:
    assert found(folder, PHOTO).details == ()
    hands, face = found(folder, PHOTO, pose_hands=True), found(folder, PHOTO, pose_face=True)
    assert all(details.left_hand and not details.face for details in hands.details)
    assert all(details.face and not details.left_hand for details in face.details)


def test_points_it_is_unsure_of_are_not_seen(folder: Path) -> None:
    constant_network(folder / POSE, side=(384, 288), outputs=pose_output(seen=slice(0, 11)))
    skeleton = found(folder, PHOTO, pose_hands=True, pose_face=True)
    assert skeleton.details == ()
    assert skeleton.people[0][10] is None and skeleton.people[0][4] is not None


@pytest.mark.parametrize("output", [finder_output({}), finder_output({205: 0.9}, kind=16)])
def test_neither_an_empty_picture_nor_a_dog_has_a_pose(folder: Path, output: np.ndarray) -> None:
    constant_network(folder / FINDER, side=(640, 640), outputs={"boxes": output})
    with pytest.raises(UserError, match="No person was found"):
        found(folder, PHOTO)


@pytest.mark.parametrize("name", [FINDER, POSE])
def test_damaged_weights_are_told(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"no network")
    with pytest.raises(UserError, match="weights of DWPose cannot be read: please delete"):
        found(folder, PHOTO)
