"""The pose of a toy picture, through a model that reads such pictures itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from tests.engine.conftest import TIMEOUT_S, noise_picture, pixels


@pytest.fixture(scope="module")
def reading_engine(reading_bundle_dir: Path, tiny_bundle_dir: Path) -> Iterator[Engine]:
    """With two models, of which "toybox" reads toys."""
    folders = {"toybox": reading_bundle_dir, "other": tiny_bundle_dir}
    entries = {name: entry_from_folder(folder, name=name) for name, folder in folders.items()}
    engine = Engine(ModelManager(entries, device="cpu"))
    yield engine
    engine.close()


@pytest.mark.parametrize("size", [(64, 64), (90, 48), (300, 500)])
def test_a_toys_pose_is_found_on_its_own_canvas(reading_engine: Engine, size: tuple[int, int]) -> None:
    sheet = reading_engine.find_pose(noise_picture(size=size), model="toybox")
    assert (sheet.width, sheet.height) == size
    assert len(sheet.skeleton.people) == 1


def test_only_a_model_with_a_reader_reads_toys(reading_engine: Engine) -> None:
    with pytest.raises(UserError, match="^Poses cannot be read from photos here"):
        reading_engine.find_pose(noise_picture(), model="other")
    with pytest.raises(UserError, match="There is no model 'third'"):
        reading_engine.find_pose(noise_picture(), model="third")


def test_a_toy_picture_sets_the_pose_as_its_keypoints_do(reading_engine: Engine) -> None:
    toy = noise_picture(size=(64, 64))
    found = reading_engine.find_pose(toy, model="toybox")
    drawn = [
        reading_engine.submit(GenerateRequest(task="pose", pose=pose, prompt="a cat", seed=1)).result(TIMEOUT_S)
        for pose in (toy, found)
    ]
    assert pixels(drawn[0]) == pixels(drawn[1])
