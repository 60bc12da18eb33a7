"""Pose pictures: drawn, recognised, fitted, and found in photos."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.pose.detect import is_skeleton, pose_image
from ipa_app.pose.draw import draw_skeleton
from ipa_app.pose.keypoints import Keypoint
from ipa_app.pose.people import skeleton_from_people
from ipa_app.pose.presets import preset_pictures, presets
from ipa_app.pose.skeleton import Skeleton


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def photo(size: tuple[int, int] = (96, 64)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def find_nobody(_: Image.Image) -> Skeleton:
    """What may not be asked for a drawing."""
    raise UserError("No person was found.")


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
        assert is_skeleton(drawn)
        assert is_skeleton(jpeg(drawn, 60))


def test_other_pictures_are_not_skeletons() -> None:
    night = Image.new("RGB", (128, 128), (5, 8, 30))
    night.paste((250, 250, 210), (60, 10, 80, 30))
    logo = Image.new("RGB", (128, 128))
    logo.paste((255, 0, 0), (50, 50, 70, 70))
    for picture in (photo(), night, logo, Image.new("RGB", (64, 64)), Image.new("RGB", (64, 64), (255, 255, 255))):
        assert not is_skeleton(picture)


def test_toy_characters_are_not_skeletons() -> None:
    import random

    from ipa_app.toybox.world import render, sample_view

    rng = random.Random(0)
    assert not any(is_skeleton(render(sample_view(rng), 128)) for _ in range(20))


def test_a_skeleton_picture_is_kept_and_padded() -> None:
    drawn = draw_skeleton(presets()["waving"], (128, 128))
    assert pose_image(drawn, (128, 128), find=find_nobody).tobytes() == drawn.tobytes()
    wide = pose_image(drawn, (256, 128), find=find_nobody)
    assert wide.crop((64, 0, 192, 128)).tobytes() == drawn.tobytes()
    assert wide.crop((0, 0, 64, 128)).getbbox() is None


def test_a_presets_picture_is_its_pose_picture() -> None:
    for name, path in preset_pictures().items():
        picture = Image.open(path).convert("RGB")
        made = pose_image(picture, (128, 128), find=find_nobody)
        assert made.tobytes() == draw_skeleton(presets()[name], (128, 128)).tobytes()


def test_a_black_picture_is_refused() -> None:
    with pytest.raises(UserError, match="black"):
        pose_image(Image.new("RGB", (64, 64), (3, 3, 3)), (64, 64), find=find_nobody)


def test_a_photo_is_looked_at_and_drawn_on_its_own_canvas() -> None:
    drawn = pose_image(photo((96, 64)), (192, 128), find=lambda _: presets()["waving"])
    assert drawn.tobytes() == draw_skeleton(presets()["waving"], (192, 128)).tobytes()
    with pytest.raises(UserError, match="No person was found"):
        pose_image(photo(), (64, 64), find=find_nobody)


def test_people_found_become_a_skeleton() -> None:
    from controlnet_aux.open_pose import BodyResult, PoseResult

    points = [Keypoint(0.5, i / 17) for i in range(17)] + [None]
    alone = [Keypoint(0.5, 0.5)] + [None] * 17
    poses = [PoseResult(BodyResult(body, 10.0, 18), None, None, None) for body in (points, alone)]
    assert skeleton_from_people(poses) == Skeleton((tuple(points),))
