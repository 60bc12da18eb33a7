"""A picture that overflows in half precision is redrawn in single precision, and the model is left unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ipa_app.engine.batch import BatchItem
from ipa_app.engine.drawing import draw
from ipa_app.engine.engine import Engine
from ipa_app.engine.plan import make_plan
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import Progress
from ipa_app.engine.series import Part
from ipa_app.imaging.cropping import square_for_clip
from ipa_app.models.catalog import ModelEntry, entry_from_folder
from ipa_app.models.loaded import LoadedModel
from ipa_app.models.loading import load_model
from ipa_app.models.manager import ModelManager
from tests.checkpoints import pose_pipeline
from tests.engine.conftest import TIMEOUT_S, noise_picture

TOO_LOUD = 100_000
"""Factor of the first convolution's weights; the group norm after it undoes the scaling."""


@pytest.fixture(scope="module")
def entry(tiny_bundle_dir: Path) -> ModelEntry:
    return entry_from_folder(tiny_bundle_dir, name="tiny")


@pytest.fixture
def half_model(entry: ModelEntry) -> LoadedModel:
    return load_model(entry, device="cpu", dtype=torch.float16, report=lambda *_: None)


def _drawn(model: LoadedModel, entry: ModelEntry) -> bytes:
    plan = make_plan(GenerateRequest(task="mix", prompt="a red cat", seed=3), entry)
    prompt = model.encode(square_for_clip(noise_picture()), model.entry.adapters["base"]).to(
        model.pipelines["text_to_image"].unet.dtype
    )
    row = BatchItem(prompt="a red cat", negative_prompt="", seed=3, image_prompts=(prompt,))
    return draw(model, [row], plan=plan, on_step=lambda _: None)[0].tobytes()


@torch.no_grad()
def _shout(model: LoadedModel, part: str) -> None:
    module = getattr(model.pipelines["text_to_image"], part)
    first = module.conv_in if part == "unet" else module.decoder.conv_in
    first.weight *= TOO_LOUD


def test_an_image_prompt_out_of_range_is_made_in_single_precision_and_kept_so(
    half_model: LoadedModel, entry: ModelEntry, caplog: pytest.LogCaptureFixture
) -> None:
    base, picture = entry.adapters["base"], square_for_clip(noise_picture())
    network = half_model.adapters.get(base).network
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith("to_v_ip.weight"):
                weight.copy_(weight.sign() * 6e4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    prompt = half_model.encode(picture, base)
    assert prompt.is_finite
    assert "again in float32" in caplog.text
    assert half_model.encode(picture, base) is prompt
    assert half_model.image_encoder is not None
    assert half_model.image_encoder.dtype == torch.float16
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())


def test_an_image_prompt_that_is_out_of_range_in_any_precision_is_not_kept(
    half_model: LoadedModel, entry: ModelEntry
) -> None:
    base, picture = entry.adapters["base"], square_for_clip(noise_picture())
    network = half_model.adapters.get(base).network
    with torch.no_grad():
        next(network.parameters()).fill_(torch.inf)
    assert not half_model.encode(picture, base).is_finite
    assert len(half_model.prompt_cache) == 0


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_what_runs_out_of_range_is_drawn_in_single_precision(
    half_model: LoadedModel, entry: ModelEntry, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    calm = _drawn(half_model, entry)
    _shout(half_model, part)
    before = {name: value.clone() for name, value in pose_pipeline(half_model).unet.state_dict().items()}
    drawn = _drawn(half_model, entry)
    assert "again in float32" in caplog.text
    assert len(set(drawn)) > 10  # neither black nor a single colour
    assert drawn != calm
    after = pose_pipeline(half_model).unet.state_dict()
    assert all(torch.equal(after[name], value) and value.dtype == torch.float16 for name, value in before.items())


def test_single_precision_gives_what_it_gives_from_the_start(half_model: LoadedModel, entry: ModelEntry) -> None:
    _shout(half_model, "unet")
    _shout(half_model, "vae")
    drawn = _drawn(half_model, entry)
    with half_model.in_float32():
        assert _drawn(half_model, entry) == drawn


def test_that_it_is_drawn_once_more_is_said_while_progress_begins_anew(
    entry: ModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipa_app.models.memory.default_dtype", lambda *_, **__: torch.float16)
    manager = ModelManager({"tiny": entry}, device="cpu", exact=False)
    _shout(manager.get("tiny", TIMEOUT_S), "unet")
    engine = Engine(manager)
    try:
        request = GenerateRequest(task="mix", model="tiny", prompt="a red cat", steps=3, seed=3)
        series = engine.submit_series([Part(title="Only", request=request)])
        told = [event for event in series.events() if isinstance(event, Progress) and event.phase == "denoising"]
    finally:
        engine.close()
    again = [event.step for event in told if "drawing again" in str(event.message)]
    assert ([event.step for event in told], again) == ([0, 1, 2, 0, 1, 2], [0, 1, 2])
