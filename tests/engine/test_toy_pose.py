"""The pose of a toy picture, read by the model's own network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from ipa_app.pose.detector import PoseOptions
from ipa_app.pose.sheet import PoseSheet
from tests.engine.conftest import TIMEOUT_S, noise_picture, pixels


@pytest.fixture(scope="module")
def reading_engine(reading_bundle_dir: Path, tiny_bundle_dir: Path) -> Iterator[Engine]:
    """Yield an engine with two models, of which "toybox" reads toy pictures."""
    folders = {"toybox": reading_bundle_dir, "other": tiny_bundle_dir}
    entries = {name: entry_from_folder(folder, name=name) for name, folder in folders.items()}
    engine = Engine(ModelManager(entries, device="cpu"))
    yield engine
    engine.close()


def find(engine: Engine, *, size: tuple[int, int] = (80, 60), model: str = "toybox") -> PoseSheet:
    return engine.find_pose(noise_picture(size=size), model=model, options=PoseOptions()).result(TIMEOUT_S)


@pytest.mark.parametrize("size", [(64, 64), (90, 48), (300, 500)])
def test_a_toys_pose_is_found_on_its_own_canvas(reading_engine: Engine, size: tuple[int, int]) -> None:
    sheet = find(reading_engine, size=size)
    assert (sheet.width, sheet.height) == size
    assert len(sheet.skeleton.people) == 1


def test_only_a_model_with_a_reader_reads_toys(reading_engine: Engine) -> None:
    with pytest.raises(UserError, match="^OpenPose is not on this computer, and downloading is switched off here"):
        find(reading_engine, model="other")
    with pytest.raises(UserError, match="There is no model 'third'"):
        find(reading_engine, model="third")


def test_a_toy_picture_sets_the_pose_as_its_keypoints_do(reading_engine: Engine) -> None:
    toy = noise_picture(size=(64, 64))
    found = find(reading_engine, size=(64, 64))
    drawn = [
        reading_engine.submit(GenerateRequest(task="pose", pose=pose, prompt="a cat", seed=1)).result(TIMEOUT_S)
        for pose in (toy, found)
    ]
    assert pixels(drawn[0]) == pixels(drawn[1])
