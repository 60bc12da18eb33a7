"""People detected by OpenPose: its weights are read safely, and its results become skeletons."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.pose.detect import PoseDetector
from ipa_app.pose.detector import PoseOptions, skeleton_from_people
from ipa_app.pose.keypoints import FACE_POINTS, Keypoint
from ipa_app.pose.openpose import OpenPose
from ipa_app.pose.openpose_networks import NumberedFace, OpenposeDetector
from tests.picture_files import noise
from tests.pose_files import NAMES, openpose_files, saved

BODY, HAND, FACE = NAMES
ALL = PoseOptions(pose_hands=True, pose_face=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openpose")
    for name, content in openpose_files().items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (PoseOptions(), [BODY]),
        (PoseOptions(pose_hands=True), [BODY, HAND]),
        (PoseOptions(pose_face=True), [BODY, FACE]),
        (ALL, list(NAMES)),
    ],
)
def test_only_the_networks_that_are_needed_are_read(folder: Path, options: PoseOptions, names: list[str]) -> None:
    openpose = OpenPose(device="cpu")
    openpose.load({name: folder / name for name in names}, options)
    assert openpose.is_ready(options)
    assert openpose.is_ready(ALL) == (options == ALL)


def test_more_may_be_asked_for_later(folder: Path) -> None:
    detector, asked = PoseDetector(), []

    def weights(options: PoseOptions) -> dict[str, Path]:
        asked.append(options)
        return {name: folder / name for name in NAMES}

    photo = Image.new("RGB", (64, 64), (200, 180, 160))
    for options in (PoseOptions(), PoseOptions(), ALL, PoseOptions(pose_hands=True)):
        with pytest.raises(UserError, match="No person was found"):
            detector.detect(photo, weights=weights, options=options)
    assert asked == [PoseOptions(), ALL]


@pytest.mark.parametrize(
    ("size", "looked_at"),
    [
        ((512, 512), (512, 512)),
        ((1000, 500), (1024, 512)),
        ((30, 20), (768, 512)),
        ((600, 1600), (512, 1344)),
        ((100, 4000), (512, 2048)),
    ],
)
@pytest.mark.parametrize("options", [PoseOptions(), PoseOptions(pose_hands=True), PoseOptions(pose_face=True), ALL])
def test_photos_are_looked_at_in_the_size_that_the_networks_know(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], looked_at: tuple[int, int], options: PoseOptions
) -> None:
    """The shorter side is 512 pixels, the longer one a multiple of 64 and at most 2048."""
    seen: list[Any] = []

    def look(self: OpenposeDetector, pixels: np.ndarray, include_hand: bool, include_face: bool) -> list[Any]:
        seen.extend([Image.fromarray(pixels), include_hand, include_face])
        return ["somebody"]

    monkeypatch.setattr(OpenposeDetector, "detect_poses", look)
    photo = noise(*size)
    assert OpenPose(device="cpu").find(photo, options) == ["somebody"]
    assert seen == [photo.resize(looked_at, Image.Resampling.LANCZOS), options.pose_hands, options.pose_face]


def test_two_points_are_the_fewest_that_are_a_person_and_those_outside_are_none() -> None:
    from controlnet_aux.open_pose import BodyResult, PoseResult

    def found(*points: Keypoint) -> PoseResult:
        return PoseResult(BodyResult([*points, *[None] * (18 - len(points))], 1.0, len(points)), None, None, None)

    inside, outside = Keypoint(0.5, 0.5), Keypoint(1.2, 0.5)
    people = skeleton_from_people([found(inside), found(inside, outside), found(inside, inside)]).people
    assert [person[:2] for person in people] == [(inside, inside)]


class Hostile:
    """An object that creates a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("name", NAMES)
def test_code_in_a_file_of_weights_is_not_run(folder: Path, tmp_path: Path, name: str) -> None:
    trap = tmp_path / "trap"
    hostile = [saved({"conv1_1.weight": Hostile(trap)}), pickle.dumps(Hostile(trap))]
    for number, content in enumerate(hostile):
        file = tmp_path / f"{number}" / name
        file.parent.mkdir()
        file.write_bytes(content)
        files = {**{other: folder / other for other in NAMES}, name: file}
        with pytest.raises(UserError, match=f"{name} is not a plain weights file.*please delete {file}"):
            OpenPose(device="cpu").load(files, ALL)
        assert not trap.exists()


@pytest.mark.parametrize(
    "content", [b"", b"no weights", saved({}), saved([1, 2]), saved(torch.zeros(3)), saved({"conv1_1.weight": 1})]
)
def test_files_of_something_else_are_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / BODY
    file.write_bytes(content)
    with pytest.raises(UserError, match="is not a plain weights file"):
        OpenPose(device="cpu").load({BODY: file}, PoseOptions())


def test_the_points_of_a_face_keep_their_numbers_where_some_are_not_seen(folder: Path) -> None:
    heatmaps = np.zeros((71, 8, 8), dtype=np.float32)
    for point in (0, 30, 69, 70):
        heatmaps[point, point // 10, 5] = 1
    peaks = NumberedFace(str(folder / FACE)).compute_peaks_from_heatmaps(heatmaps)
    assert peaks.shape == (FACE_POINTS, 2)
    assert {number: tuple(map(int, place)) for number, place in enumerate(peaks) if place.any()} == {
        0: (5, 0),
        30: (5, 3),
        69: (5, 6),
    }


def test_hands_and_faces_that_are_found_belong_to_their_people() -> None:
    from controlnet_aux.open_pose import BodyResult, PoseResult

    points = [Keypoint(0.5, i / 18) for i in range(18)]
    body, lost = BodyResult(list(points), 10.0, 18), BodyResult([points[0]] + [None] * 17, 1.0, 1)
    hand = [Keypoint(0.2, 0.3)] * 20 + [Keypoint(-0.002, -0.002)]
    face = [Keypoint(0.4, 0.1)] * FACE_POINTS
    nothing = [Keypoint(-0.002, -0.002)] * 21
    skeleton = skeleton_from_people(
        [
            PoseResult(lost, hand, hand, face),
            PoseResult(body, hand, nothing, None),
            PoseResult(body, None, hand, face),
        ]
    )
    assert [len(person) for person in skeleton.people] == [18, 18]
    first, second = skeleton.details
    assert first.left_hand == (Keypoint(0.2, 0.3),) * 20 + (None,)
    assert first.right_hand is None and first.face is None
    assert second.left_hand is None
    assert second.right_hand is not None
    assert second.face == tuple(face)


def test_nobody_in_the_photo_is_explained() -> None:
    with pytest.raises(UserError, match="No person was found"):
        skeleton_from_people([])
