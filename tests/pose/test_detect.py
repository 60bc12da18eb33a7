"""Pose pictures: drawings used as they are or redrawn, and people detected in photos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ipa_app.errors import UserError
from ipa_app.pose import detect
from ipa_app.pose.detect import PoseDetector, find_pose, pose_image
from ipa_app.pose.detector import FoundPerson, PoseOptions, skeleton_from_people
from ipa_app.pose.draw import draw_sheet, draw_skeleton
from ipa_app.pose.drawn import drawn_pose
from ipa_app.pose.keypoints import Keypoint
from ipa_app.pose.openpose import OPENPOSE
from ipa_app.pose.presets import preset_pictures, presets
from ipa_app.pose.sheet import PoseSheet
from ipa_app.pose.skeleton import Skeleton
from tests.drawn_skeletons import STANDING, as_openpose, drawn, jpeg, without


def photo(size: tuple[int, int] = (96, 64)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def find_nobody(_: Image.Image) -> Skeleton:
    """A detector that must not be called for a drawing."""
    raise UserError.plain("No person was found.")


def test_joints_are_drawn_where_they_are() -> None:
    drawn = draw_skeleton(presets()["arms out"], (128, 128))
    assert drawn.size == (128, 128)
    for point in presets()["arms out"].people[0]:
        assert point is not None
        assert max(drawn.getpixel((int(point.x * 128), int(point.y * 128)))) > 100
    assert drawn.getpixel((2, 2)) == (0, 0, 0)


@pytest.mark.parametrize("size", [(128, 128), (256, 512), (1024, 768)])
def test_sticks_are_as_thick_at_every_size(size: tuple[int, int]) -> None:
    body: list[Keypoint | None] = [None] * 18
    body[1], body[8] = Keypoint(0.5, 0.1), Keypoint(0.5, 0.9)
    column = np.asarray(draw_skeleton(Skeleton((tuple(body),)), size))[size[1] // 2].max(axis=1) > 60
    assert np.count_nonzero(column) == pytest.approx(min(size) * 9 / 512, abs=1.5)


@pytest.mark.parametrize("size", [(128, 128), (512, 768)])
def test_skeletons_are_recognised(size: tuple[int, int]) -> None:
    for skeleton in presets().values():
        drawn = draw_skeleton(skeleton, size)
        assert drawn_pose(drawn) is not None
        assert drawn_pose(jpeg(drawn, 60)) is not None


def test_toy_characters_are_not_skeletons() -> None:
    import random

    from toybox.world import render, sample_view

    rng = random.Random(0)
    assert not any(drawn_pose(render(sample_view(rng), side)) for side in (128, 256) for _ in range(20))


def test_a_skeleton_picture_is_kept_and_padded() -> None:
    drawn = draw_skeleton(presets()["waving"], (128, 128))
    assert pose_image(drawn, (128, 128), find=find_nobody).image.tobytes() == drawn.tobytes()
    wide = pose_image(drawn, (256, 128), find=find_nobody).image
    assert wide.crop((64, 0, 192, 128)).tobytes() == drawn.tobytes()
    assert wide.crop((0, 0, 64, 128)).getbbox() is None


def test_a_presets_picture_is_its_pose_picture() -> None:
    for name, path in preset_pictures().items():
        picture = Image.open(path).convert("RGB")
        made = pose_image(picture, (128, 128), find=find_nobody).image
        assert made.tobytes() == draw_skeleton(presets()[name], (128, 128)).tobytes()


def test_a_black_picture_is_refused() -> None:
    with pytest.raises(UserError, match="black"):
        pose_image(Image.new("RGB", (64, 64), (3, 3, 3)), (64, 64), find=find_nobody)


def test_a_photo_is_looked_at_and_drawn_on_its_own_canvas() -> None:
    drawn = pose_image(photo((96, 64)), (192, 128), find=lambda _: presets()["waving"])
    assert drawn.notes == ()
    assert drawn.image.tobytes() == draw_skeleton(presets()["waving"], (192, 128)).tobytes()
    with pytest.raises(UserError, match="No person was found"):
        pose_image(photo(), (64, 64), find=find_nobody)


def test_people_are_looked_for_in_the_photo_that_is_brought() -> None:
    source, looked_at = photo((96, 64)), list[Image.Image]()

    def find(picture: Image.Image) -> Skeleton:
        looked_at.append(picture)
        return presets()["waving"]

    pose_image(source, (128, 128), find=find)
    assert find_pose(source, find=find) == PoseSheet(presets()["waving"], 96, 64)
    assert [picture is source for picture in looked_at] == [True, True]


def tiny(_: Image.Image) -> Skeleton:
    """Return a very small person."""
    person = presets()["waving"].people[0]
    return Skeleton((tuple(point and Keypoint(0.5 + point.x / 20, 0.5 + point.y / 20) for point in person),))


def test_somebody_tiny_in_a_photo_is_brought_closer() -> None:
    made = pose_image(photo((300, 200)), (96, 64), find=tiny)
    assert made.notes == ("The figure was too small on its canvas to be followed, so it was enlarged.",)
    assert (made.image.getbbox() or (0, 0, 0, 0))[3] - (made.image.getbbox() or (0, 0, 0, 0))[1] > 40
    assert find_pose(photo((300, 200)), find=tiny).notes == made.notes


def test_the_joints_of_a_drawing_can_be_edited() -> None:
    sheet = find_pose(drawn(STANDING, ground=(255, 255, 255)), find=find_nobody)
    assert (sheet.width, sheet.height) == (512, 768)
    places = sheet.to_openpose()["people"][0]["pose_keypoints_2d"]
    assert places == pytest.approx(as_openpose(STANDING, confidence=1.0)[0], abs=3)
    assert sheet.notes == ()
    # The picture was made from the same joints.
    made = pose_image(drawn(STANDING, ground=(255, 255, 255)), (128, 128), find=find_nobody)
    assert made.image.tobytes() == draw_sheet(sheet, (128, 128)).tobytes()


def test_a_drawing_whose_joints_cannot_be_read_is_not_edited() -> None:
    arm = drawn(without(STANDING, 0, *range(5, 18)))
    with pytest.raises(UserError, match="its joints cannot be read: generate from it as it is"):
        find_pose(arm, find=find_nobody)
    assert pose_image(arm, (512, 768), find=find_nobody).image.tobytes() == arm.tobytes()


def test_fingers_of_a_drawing_are_not_edited_and_that_is_said() -> None:
    picture = drawn(STANDING)
    for finger in range(-3, 4):
        ImageDraw.Draw(picture).line((345, 340, 345 + 9 * finger, 400), fill=(0, 0, 255), width=3)
        ImageDraw.Draw(picture).line((170, 340, 170 + 9 * finger, 400), fill=(0, 0, 255), width=3)
    sheet = find_pose(picture, find=find_nobody)
    assert sheet.notes == ("The fingers and faces of this drawing cannot be read, and are left out.",)


@dataclass
class Finder:
    """A detector that finds a person in the middle, and records the calls."""

    device: str
    asked: list[Any] = field(default_factory=list)

    def is_ready(self, options: PoseOptions) -> bool:
        return ("load", options) in self.asked

    def load(self, files: Mapping[str, Path], options: PoseOptions) -> None:
        assert files == {"weights": Path("here")}
        self.asked.append(("load", options))

    def find(self, photo: Image.Image, options: PoseOptions) -> list[FoundPerson]:
        from controlnet_aux.open_pose import BodyResult, PoseResult

        self.asked.append((photo.size, options))
        return [PoseResult(BodyResult([Keypoint(0.5, 0.5)] * 18, 1.0, 18), None, None, None)]


@pytest.mark.parametrize(("given", "device"), [({}, "cpu"), ({"device": "cuda:1"}, "cuda:1")])
def test_a_detector_is_made_once_for_its_device_and_loaded_once_for_what_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], device: str
) -> None:
    made: list[Finder] = []

    def make(on: str) -> Finder:
        made.append(Finder(on))
        return made[-1]

    monkeypatch.setattr(detect, "DETECTORS", {"openpose": replace(OPENPOSE, make=make)})
    detector, weighed = PoseDetector(**given), list[PoseOptions]()

    def weights(options: PoseOptions) -> dict[str, Path]:
        weighed.append(options)
        return {"weights": Path("here")}

    usual, hands = PoseOptions(), PoseOptions(pose_hands=True)
    for options in ({}, {"options": usual}, {"options": hands}, {"options": hands}):
        assert len(detector.detect(photo((96, 64)), weights=weights, **options).people) == 1
    (finder,) = made
    assert finder.device == device
    looked = [((96, 64), options) for options in (usual, usual, hands, hands)]
    assert finder.asked == [("load", usual), *looked[:2], ("load", hands), *looked[2:]]
    assert weighed == [usual, hands]


def test_people_found_become_a_skeleton() -> None:
    from controlnet_aux.open_pose import BodyResult, PoseResult

    points = [Keypoint(0.5, i / 17) for i in range(17)] + [None]
    alone = [Keypoint(0.5, 0.5)] + [None] * 17
    poses = [PoseResult(BodyResult(body, 10.0, 18), None, None, None) for body in (points, alone)]
    assert skeleton_from_people(poses) == Skeleton((tuple(points),))
