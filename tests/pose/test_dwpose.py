"""People detected by DWPose, with networks of its shapes that always find the same two; skipped without rtmlib.

Without rtmlib, a stand-in still tests the calls to it and the handling of its results.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.pose.detect import PoseDetector
from ipa_app.pose.detector import PoseOptions
from ipa_app.pose.detectors import detectors
from ipa_app.pose.dwpose import DWPOSE, DWPose
from ipa_app.pose.keypoints import Keypoint
from ipa_app.pose.skeleton import Skeleton
from tests.dwpose_files import FINDER, POSE, constant_network, dwpose_files, finder_output, pose_output


def found(folder: Path, photo: Image.Image, **options: bool) -> Skeleton:
    files = {name: folder / name for name in (FINDER, POSE)}
    return PoseDetector().detect(photo, weights=lambda _: files, options=PoseOptions(pose_detector="dwpose", **options))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pytest.importorskip("onnx", reason="makes the networks")
    if "dwpose" not in detectors():
        pytest.skip("needs rtmlib and onnxruntime")
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
        # The points form a column in COCO-WholeBody order: face, left hand, right hand.
        assert np.ptp(places[:, 0]) == 0
        assert (np.diff(places[:, 1]) > 0).all()
        # Pupils are not detected; they are placed at the eyes: right, then left.
        assert details.face[68:] == (person[14], person[15])
    # Both noses are in the middle of their boxes: cells 5 and 15 of 20.
    assert sorted(person[0].x for person in skeleton.people if person[0]) == pytest.approx([0.25, 0.75], abs=0.01)


def test_the_points_of_the_body_are_in_openposes_order(folder: Path) -> None:
    person = found(folder, PHOTO).people[0]
    # COCO order: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, each left before right.
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


class Network:
    """A stand-in for rtmlib's networks, which reads a file and is then called with pictures."""

    made: list[Network]

    def __init__(self, file: str, size: tuple[int, int], **options: Any) -> None:
        if not Path(file).read_bytes():
            raise ValueError("no network")
        self.said, self.asked = (Path(file).name, size, options), list[Any]()
        self.made.append(self)


class Finder(Network):
    """Detects a dog and two people, each a quarter of the picture."""

    kinds = (16, 0, 0)

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append(pixels)
        height, width = pixels.shape[0] / 2, pixels.shape[1] / 2
        boxes = [[x * width, y * height, (x + 1) * width, (y + 1) * height] for x, y in ((0, 0), (1, 0), (1, 1))]
        return np.array(boxes)[: len(self.kinds)], np.array(self.kinds)


class Poser(Network):
    """Puts all points in the middle of each box, except the nose in its upper left corner."""

    def __call__(self, pixels: np.ndarray, *, bboxes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append((pixels, bboxes))
        corners = np.array(bboxes).reshape(-1, 2, 2)
        points = np.repeat(corners.mean(axis=1)[:, None], 134, axis=1)
        points[:, 0] = corners[:, 0]
        return points, np.ones(points.shape[:2])


class Found(NamedTuple):
    """A person in rtmlib's format."""

    body: Any
    left_hand: list[Any] | None
    right_hand: list[Any] | None
    face: list[Any] | None


def format_result(people: np.ndarray) -> list[Found]:
    """Split each person into a body, a face and two hands, like rtmlib's `Wholebody`."""
    found = list[Found]()
    for person in people:
        points: list[Any] = [Keypoint(x, y) if score >= 0.3 else None for x, y, score in person]
        body = SimpleNamespace(keypoints=points[:18])
        found.append(Found(body, points[92:113], points[113:134], [*points[24:92], *points[14:16]]))
    return found


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Path]:
    """Return DWPose's files, with a stand-in for rtmlib."""
    wholebody = SimpleNamespace(format_result=format_result)
    monkeypatch.setitem(sys.modules, "rtmlib", SimpleNamespace(YOLOX=Finder, RTMPose=Poser, Wholebody=wholebody))
    monkeypatch.setattr(Network, "made", [], raising=False)
    for name in (FINDER, POSE):
        (tmp_path / name).write_bytes(b"a network")
    return {name: tmp_path / name for name in (FINDER, POSE)}


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_its_networks_are_made_for_the_device_as_its_authors_run_them(files: dict[str, Path], device: str) -> None:
    dwpose = DWPOSE.make(device)
    assert not dwpose.is_ready(PoseOptions())
    dwpose.load(files, PoseOptions())
    assert dwpose.is_ready(PoseOptions(pose_hands=True, pose_face=True))
    assert {network.said[0]: network.said[1:] for network in Network.made} == {
        FINDER: ((640, 640), {"det_mode": "multiclass", "nms_thr": 0.45, "score_thr": 0.3, "device": device}),
        POSE: ((288, 384), {"to_openpose": True, "device": device}),
    }


@pytest.mark.parametrize("name", [FINDER, POSE])
def test_damaged_weights_are_named_and_nothing_is_ready(files: dict[str, Path], name: str) -> None:
    files[name].write_bytes(b"")
    dwpose = DWPose(device="cpu")
    with pytest.raises(UserError) as caught:
        dwpose.load(files, PoseOptions())
    assert str(caught.value) == (
        f"The weights of DWPose cannot be read: please delete {files[FINDER]} and {files[POSE]}, so that they are"
        " downloaded again."
    )
    assert not dwpose.is_ready(PoseOptions())
    with pytest.raises(RuntimeError):
        dwpose.find(PHOTO, PoseOptions())


@pytest.mark.parametrize(
    ("size", "looked_at"),
    [((640, 480), (640, 480)), ((2048, 300), (2048, 300)), ((4096, 1024), (2048, 512)), ((700, 2800), (512, 2048))],
)
def test_people_alone_are_looked_at_and_their_points_are_fractions_of_the_photo(
    files: dict[str, Path], size: tuple[int, int], looked_at: tuple[int, int]
) -> None:
    dwpose = DWPose(device="cpu")
    dwpose.load(files, PoseOptions())
    photo = Image.new("RGB", size, (10, 20, 30))
    people = dwpose.find(photo, PoseOptions())
    assert photo.size == size
    assert [tuple(person.body.keypoints[0]) for person in people] == [(0.5, 0.0), (0.5, 0.5)]
    assert [tuple(person.body.keypoints[17]) for person in people] == [(0.75, 0.25), (0.75, 0.75)]
    finder, poser = Network.made
    (pixels,), ((same, boxes),) = finder.asked, poser.asked
    # BGR, OpenCV's channel order.
    assert pixels.shape == (*looked_at[::-1], 3) and (pixels == (30, 20, 10)).all() and pixels.flags.c_contiguous
    assert same is pixels and len(boxes) == 2


@pytest.mark.parametrize("kinds", [(), (16,), (16, 1, 2)])
def test_where_there_are_no_people_no_pose_is_looked_for(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, kinds: tuple[int, ...]
) -> None:
    monkeypatch.setattr(Finder, "kinds", kinds)
    dwpose = DWPose(device="cpu")
    dwpose.load(files, PoseOptions())
    assert dwpose.find(PHOTO, PoseOptions()) == []
    assert Network.made[1].asked == []


@pytest.mark.parametrize("hands", [False, True])
@pytest.mark.parametrize("face", [False, True])
def test_of_hands_and_face_there_is_what_is_asked_for(files: dict[str, Path], hands: bool, face: bool) -> None:
    dwpose, options = DWPose(device="cpu"), PoseOptions(pose_hands=hands, pose_face=face)
    dwpose.load(files, options)
    for person in dwpose.find(PHOTO, options):
        parts = (person.left_hand, person.right_hand, person.face)
        assert [part and len(part) for part in parts] == [21 if hands else None] * 2 + [70 if face else None]
        assert len(person.body.keypoints) == 18
