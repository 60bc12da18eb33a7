"""Poses of toy characters: read by a model's own network anywhere in a picture, and refused in other pictures."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import init_empty_weights
from PIL import Image
from safetensors.torch import load_file, save_file

from ipa_app.errors import UserError
from ipa_app.models.catalog import catalog
from ipa_app.pose.detect import PoseDetector, find_pose, pose_image
from ipa_app.pose.detector import PoseOptions
from ipa_app.pose.draw import draw_sheet
from ipa_app.pose.toy_reader import SIDE, ToyReader, ToyReading, load_toy_reader
from ipa_app.runtime import BUILD_LOCK
from tests.tiny_models import tiny_toy_reader
from toybox import world
from toybox.recipe.training import save_halves

BUNDLED = catalog()["toybox"].pose_reader


class DotReader(ToyReader):
    """Sees red areas only, and puts all joints in their middle, except one at either corner."""

    def forward(self, batch: torch.Tensor) -> ToyReading:
        red = (batch[:, 0] > 0) & (batch[:, 1] < 0)
        down, across = torch.nonzero(red[0], as_tuple=True)
        if len(across) == 0:
            return ToyReading(torch.full((1, 18, 2), 0.5), torch.zeros(1, 18, 16, 16), torch.tensor([-9.0]))
        spots = torch.stack([across, down], dim=1).float().add(0.5) / SIDE
        points = spots.mean(dim=0).repeat(1, 18, 1)
        points[0, 0], points[0, 1] = spots.amin(dim=0), spots.amax(dim=0)
        return ToyReading(points, torch.zeros(1, 18, 16, 16), torch.tensor([9.0]))


class FarReader(DotReader):
    """Sees small figures only: those that are at most a tenth of the network's input."""

    def forward(self, batch: torch.Tensor) -> ToyReading:
        reading = super().forward(batch)
        near = float((reading.keypoints[0, 1] - reading.keypoints[0, 0]).max()) > 0.1
        return ToyReading(reading.keypoints, reading.heat, reading.presence - 18 * near)


def noise(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def test_the_network_reads_a_batch() -> None:
    with torch.no_grad():
        reading = ToyReader()(torch.randn(3, 3, SIDE, SIDE))
    assert reading.keypoints.shape == (3, 18, 2)
    assert float(reading.keypoints.min()) >= 0 and float(reading.keypoints.max()) <= 1
    assert reading.presence.shape == (3,)


def test_a_joint_is_the_mean_of_its_map() -> None:
    reader = ToyReader()
    with torch.no_grad():
        reader.heat.weight.zero_()
    keypoints = reader(torch.randn(1, 3, SIDE, SIDE)).keypoints
    assert torch.allclose(keypoints, torch.full_like(keypoints, 0.5))


def test_weights_survive_their_file_and_are_small(tmp_path: Path) -> None:
    reader, file = tiny_toy_reader(sees=True), tmp_path / "reader" / "model.safetensors"
    save_halves(reader.state_dict(), file)
    assert file.stat().st_size <= 1.5e6
    assert {tensor.dtype for tensor in load_file(file).values()} == {torch.float16}
    batch = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        expected, loaded = reader(batch), load_toy_reader(file)(batch)
    assert torch.allclose(loaded.keypoints, expected.keypoints, atol=0.01)
    assert torch.allclose(loaded.presence, expected.presence, atol=0.05)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    cut, other = tmp_path / "cut.safetensors", tmp_path / "other.safetensors"
    cut.write_bytes(b"no weights")
    save_file({"heat.weight": torch.zeros(2)}, other)
    for file in (cut, other, tmp_path / "missing.safetensors"):
        with pytest.raises(UserError) as caught:
            load_toy_reader(file)
        assert str(caught.value) == (
            f"The model's pose reader ({tmp_path.name}/{file.name}) is damaged or of the wrong kind; please"
            " download the model again."
        )


@pytest.mark.parametrize("size", [(128, 128), (90, 60), (60, 90), (1600, 300), (300, 2400), (2000, 250), (8, 8)])
def test_points_lie_where_they_are_in_pictures_of_any_shape(size: tuple[int, int]) -> None:
    width, height = size
    picture = Image.new("RGB", size, (0, 60, 200))
    box = (round(width * 0.6), round(height * 0.25), round(width * 0.7) + 3, round(height * 0.5) + 2)
    picture.paste((255, 0, 0), box)
    read = DotReader().read(picture)
    assert read is not None
    step = max(size) / SIDE  # size of one network pixel in the picture
    for point, x, y in ((read[0], box[0], box[1]), (read[1], min(width, box[2]), min(height, box[3]))):
        assert point is not None
        assert point.x * width == pytest.approx(x, abs=step + 0.5)
        assert point.y * height == pytest.approx(y, abs=step + 0.5)
        assert 0 <= point.x <= 1 and 0 <= point.y <= 1


def test_a_small_figure_is_looked_at_closely() -> None:
    picture = Image.new("RGB", (1000, 1000), (0, 60, 200))
    picture.paste((255, 0, 0), (703, 402, 731, 431))
    read = DotReader().read(picture)
    assert read is not None and read[0] is not None
    # In the first pass one network pixel is eight picture pixels.
    assert read[0].x * 1000 == pytest.approx(703, abs=1.5)
    assert read[0].y * 1000 == pytest.approx(402, abs=1.5)


def test_a_figure_that_is_not_known_again_at_a_close_look_is_where_it_was_seen_at_first() -> None:
    picture = Image.new("RGB", (1000, 500), (0, 60, 200))
    picture.paste((255, 0, 0), (700, 200, 740, 240))
    read = FarReader().read(picture)
    assert read is not None and read[0] is not None and read[1] is not None
    places = [value * side for point in read[:2] if point for value, side in zip(point, (1000, 500), strict=True)]
    # One network pixel is eight picture pixels.
    assert places == pytest.approx([700, 200, 740, 240], abs=9)
    picture.paste((255, 0, 0), (500, 100, 900, 400))
    assert FarReader().read(picture) is None


def test_a_picture_without_a_toy_is_not_read() -> None:
    assert DotReader().read(Image.new("RGB", (64, 48), (0, 60, 200))) is None
    assert tiny_toy_reader(sees=False).read(noise((64, 48))) is None


def no_weights(_: PoseOptions) -> dict[str, Path]:
    raise UserError.plain("There are no weights.")


def test_the_toy_is_looked_for_before_people(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    find = partial(PoseDetector().detect, weights=no_weights, toy_reader=file)
    save_halves(tiny_toy_reader(sees=True).state_dict(), file)
    sheet = find_pose(noise((200, 100)), find=find)
    assert (sheet.width, sheet.height) == (200, 100)
    assert all(point is not None for point in sheet.skeleton.people[0])
    drawn = pose_image(noise((200, 100)), (64, 64), find=find)
    assert drawn.image.tobytes() == draw_sheet(sheet, (64, 64)).tobytes()


def test_where_there_is_neither_toy_nor_detector_both_are_named(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_halves(tiny_toy_reader(sees=False).state_dict(), file)
    with pytest.raises(UserError, match="No toy character was recognised.*There are no weights"):
        find_pose(noise((96, 64)), find=partial(PoseDetector().detect, weights=no_weights, toy_reader=file))


def read_right(picture: Image.Image, expected: np.ndarray, *, height: float) -> float:
    """Return the share of joints (18, 2; fractions of the picture) within a tenth of the figure's height."""
    assert BUNDLED is not None
    read = load_toy_reader(BUNDLED).read(picture)
    if read is None:
        return 0.0
    points = np.array([(point.x, point.y) for point in read if point is not None])
    return float((np.linalg.norm((points - expected) * picture.size, axis=1) <= 0.1 * height).mean())


@pytest.mark.parametrize(("size", "side"), [((128, 128), 128), ((512, 512), 512), ((400, 200), 200), ((300, 500), 220)])
def test_the_bundled_reader_reads_characters_it_has_never_seen(size: tuple[int, int], side: int) -> None:
    rng = random.Random("reader")
    shares = []
    for _ in range(12):
        view = world.sample_view(rng, held_out=True)
        corner = np.array([rng.randint(0, size[0] - side), rng.randint(0, size[1] - side)])
        picture = Image.new("RGB", size, tuple(rng.randint(0, 255) for _ in range(3)))
        picture.paste(world.render(view, side), tuple(corner.tolist()))
        joints = np.array(world.keypoints(view)) * side
        shares.append(read_right(picture, (joints + corner) / np.array(size), height=float(np.ptp(joints[:, 1]))))
    assert np.mean(shares) > 0.85


def test_the_bundled_reader_refuses_what_is_no_toy() -> None:
    assert BUNDLED is not None
    reader, rng = load_toy_reader(BUNDLED), random.Random("places")
    places = [world.render_place(world.sample_scene(rng), 128) for _ in range(12)]
    refused = [reader.read(picture) is None for picture in (*places, noise((96, 64)), Image.new("RGB", (64, 64)))]
    assert np.mean(refused) > 0.9


def test_a_reader_waits_until_a_model_has_been_built(reading_bundle_dir: Path) -> None:
    file, detector = reading_bundle_dir / "pose_reader" / "model.safetensors", PoseDetector()
    with ThreadPoolExecutor() as pool:
        # As diffusers does in another thread while it builds a model.
        with BUILD_LOCK, init_empty_weights():
            found = pool.submit(detector.detect, noise((128, 128)), weights=no_weights, toy_reader=file)
            with pytest.raises(TimeoutError):
                found.result(timeout=1)
        assert len(found.result(timeout=60).people) == 1
