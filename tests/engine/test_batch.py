"""The default batch size: as many pictures as are faster together and fit, and one where exactness is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ipa_app.engine import batch
from ipa_app.engine.batch import USUAL_BATCH_LIMIT, usual_batch_limit
from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import Progress
from ipa_app.errors import UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from ipa_app.pose.draw import draw_sheet
from ipa_app.pose.presets import preset_sheets
from tests.drawn_skeletons import STANDING, drawn
from tests.engine.conftest import TIMEOUT_S, reference

THREE = {"task": "mix", "prompt": "a cat", "references": (reference(1),), "steps": 2, "seed": 7, "count": 3}


def engine_of(bundle: Path, *, exact: bool = False, batch_limit: int | None = None) -> Engine:
    entry = replace(entry_from_folder(bundle, name="toybox"), guidance_scale=1.0)
    return Engine(ModelManager({"toybox": entry}, device="cpu", exact=exact), batch_limit=batch_limit)


@pytest.fixture(scope="module")
def usual(tiny_bundle_dir: Path) -> Iterator[Engine]:
    """Yield an engine with the app's default settings."""
    engine = engine_of(tiny_bundle_dir)
    yield engine
    engine.close()


@contextmanager
def memory_for(most: int, engine: Engine) -> Iterator[list[int]]:
    """Limit an engine's memory to `most` pictures at once, and yield the number of pictures in each UNet call."""
    calls: list[int] = []

    def look(_unet: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        calls.append(len(inputs[0]))
        if len(inputs[0]) > most:
            raise torch.OutOfMemoryError

    hook = engine.manager.get("toybox").pipelines["text_to_image"].unet.register_forward_pre_hook(look)
    yield calls
    hook.remove()


def test_the_pictures_of_a_request_are_drawn_together_and_look_as_alone(usual: Engine) -> None:
    with memory_for(99, usual) as calls:
        job = usual.submit(GenerateRequest(**THREE))
        told = [str(event.message) for event in job.events() if isinstance(event, Progress)]
        together = job.result(TIMEOUT_S).images
    assert calls == [3, 3]
    assert "pictures 1 to 3 of 3" in told
    for number, picture in enumerate(together):
        alone = usual.submit(GenerateRequest(**{**THREE, "seed": 7 + number, "count": 1})).result(TIMEOUT_S).images[0]
        assert np.abs(np.asarray(picture, int) - np.asarray(alone, int)).max() <= 1


def test_who_wants_equal_bytes_has_one_at_a_time(tiny_bundle_dir: Path) -> None:
    for how in ({"exact": True}, {"batch_limit": 1}):
        engine = engine_of(tiny_bundle_dir, **how)
        with memory_for(99, engine) as calls:
            engine.submit(GenerateRequest(**THREE)).result(TIMEOUT_S)
        engine.close()
        assert calls == [1] * 6


def test_large_pictures_share_a_batch_with_fewer_others(usual: Engine) -> None:
    entry = usual.manager.entry("toybox")
    with memory_for(99, usual) as calls:
        size = {"width": 2 * entry.width, "height": 2 * entry.height}
        usual.submit(GenerateRequest(**THREE, **size)).result(TIMEOUT_S)
    assert calls == [2, 2, 1, 1]


def test_what_does_not_fit_into_memory_at_once_is_drawn_in_parts(tiny_bundle_dir: Path) -> None:
    engine = engine_of(tiny_bundle_dir)
    whole = engine.submit(GenerateRequest(**THREE)).result(TIMEOUT_S).images
    with memory_for(1, engine) as calls:
        parts = engine.submit(GenerateRequest(**THREE)).result(TIMEOUT_S).images
        assert calls == [3, 1, 1, 2, 1, 1, 1, 1]
        calls.clear()
        engine.submit(GenerateRequest(**THREE)).result(TIMEOUT_S)
        assert calls == [1] * 6, "what did not fit is not tried again"
    engine.manager.free("toybox")
    with memory_for(99, engine) as calls:
        engine.submit(GenerateRequest(**THREE)).result(TIMEOUT_S)
        assert calls == [3, 3], "another model may find more memory"
    for one, other in zip(whole, parts, strict=True):
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1
    with memory_for(0, engine), pytest.raises(UserError, match="memory"):
        engine.submit(GenerateRequest(**THREE)).result(TIMEOUT_S)
    engine.close()


def test_a_request_that_fails_for_memory_has_no_more_of_its_pictures_tried(tiny_bundle_dir: Path) -> None:
    engine = engine_of(tiny_bundle_dir)
    with memory_for(0, engine) as calls:
        for count in (8, 1):  # the first has ended when the second one is drawn
            with pytest.raises(UserError, match="memory"):
                engine.submit(GenerateRequest(**{**THREE, "count": count})).result(TIMEOUT_S)
    engine.close()
    assert calls == [8, 4, 2, 1, 1]


def test_a_large_unet_is_faster_in_a_batch_on_a_gpu_alone(usual: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    model = usual.manager.get("toybox")
    assert usual_batch_limit(model, exact=False) == USUAL_BATCH_LIMIT
    monkeypatch.setattr(batch, "SMALL_UNET", 1)
    assert usual_batch_limit(model, exact=False) == 1
    model = SimpleNamespace(pipelines=model.pipelines, device=torch.device("cuda"))
    assert usual_batch_limit(model, exact=False) == USUAL_BATCH_LIMIT
    assert usual_batch_limit(model, exact=True) == 1


def test_poses_that_are_drawn_already_share_a_batch_whatever_they_come_as(usual: Engine) -> None:
    sheet = next(iter(preset_sheets().values()))
    poses = (draw_sheet(sheet, (256, 256)), drawn(STANDING, ground=(255, 255, 255)), sheet)
    with memory_for(99, usual) as calls:
        with usual._changed:  # so that all of them are queued before the first one starts
            jobs = [usual.submit(GenerateRequest(task="pose", pose=pose, prompt="a cat", steps=2)) for pose in poses]
        for job in jobs:
            assert job.result(TIMEOUT_S).images
    assert calls == [3, 3]
