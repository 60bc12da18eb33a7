"""Guidance in a range of steps: outside it the unconditional rows are not computed, and nothing else changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ipa_app.engine.batch import BatchItem
from ipa_app.engine.drawing import denoise
from ipa_app.engine.engine import Engine
from ipa_app.engine.plan import make_plan
from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from tests.checkpoints import load, plain_pipeline
from tests.engine.conftest import TIMEOUT_S, furthest, reference
from tests.sample_requests import OF_TASK

STEPS, GUIDANCE, PROMPT = 4, 5.0, "a red cat"
GUIDED = range(1, 3)
INTERVAL = {"guidance_start": 0.25, "guidance_end": 0.75}
ASKED = {
    "variation": {"task": "variation"},
    "mix": {"task": "mix", "prompt": PROMPT, **OF_TASK["mix"], "strength": 1.0},
    "inpaint": {"task": "inpaint", **OF_TASK["inpaint"]},
    "pose": {"task": "pose", **OF_TASK["pose"]},
}
SHARED = {"references": (reference(1),), "scale": 0.7, "steps": STEPS, "guidance_scale": GUIDANCE, "seed": 3}


@pytest.fixture(scope="module", params=["tiny_bundle_dir", "tiny_sdxl_dir"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    entry = entry_from_folder(request.getfixturevalue(request.param), name="toybox")
    engine = Engine(ModelManager({"toybox": entry}, device="cpu"), batch_limit=4)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def unet(engine: Engine) -> Any:
    return engine.manager.get("toybox", TIMEOUT_S).pipelines["text_to_image"].unet


def draw(engine: Engine, **fields: Any) -> Image.Image:
    return engine.submit(GenerateRequest(**{**SHARED, **fields})).result(TIMEOUT_S).images[0]


@contextmanager
def watched(unet: Any) -> Iterator[list[int]]:
    """Yield the number of rows in each call of a UNet."""
    rows: list[int] = []
    hook = unet.register_forward_pre_hook(lambda _unet, inputs: rows.append(len(inputs[0])))
    yield rows
    hook.remove()


@contextmanager
def without_guidance_outside(unet: Any, guided: range) -> Iterator[None]:
    """Outside the guided steps, predict for a UNet's unconditional rows what it predicts for the conditional ones."""
    step = iter(range(99))

    def keep_one_side(_unet: Any, _inputs: Any, outputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        conditional = outputs[0].chunk(2)[1]
        return outputs if next(step) in guided else (torch.cat([conditional, conditional]),)

    hook = unet.register_forward_hook(keep_one_side)
    yield
    hook.remove()


@pytest.mark.parametrize("task", ASKED)
def test_a_step_without_guidance_runs_on_half_the_rows_and_says_the_same(engine: Engine, unet: Any, task: str) -> None:
    with without_guidance_outside(unet, GUIDED):
        expected = draw(engine, **ASKED[task])
    with watched(unet) as rows:
        drawn = draw(engine, **ASKED[task], **INTERVAL)
    assert rows == [1, 2, 2, 1]
    assert furthest(drawn, expected) <= 1
    assert furthest(drawn, draw(engine, **ASKED[task])) > 1


@pytest.mark.parametrize("bundle", ["tiny_bundle_dir", "tiny_sdxl_dir"])
def test_a_controlnet_with_pooled_residuals_keeps_to_the_conditional_side(
    request: pytest.FixtureRequest, tmp_path: Path, bundle: str
) -> None:
    """Diffusers' pipelines ask such a ControlNet for these rows alone, and pass the UNet zeros for the others."""
    folder = shutil.copytree(request.getfixturevalue(bundle), tmp_path / "toybox")
    config = json.loads((folder / "controlnet" / "config.json").read_text())
    (folder / "controlnet" / "config.json").write_text(json.dumps({**config, "global_pool_conditions": True}))
    engine = Engine(ModelManager({"toybox": entry_from_folder(folder, name="toybox")}, device="cpu"))
    unet = engine.manager.get("toybox", TIMEOUT_S).pipelines["text_to_image"].unet
    with without_guidance_outside(unet, GUIDED):
        expected = draw(engine, **ASKED["pose"])
    with watched(unet) as rows:
        drawn = draw(engine, **ASKED["pose"], **INTERVAL)
    assert rows == [1, 2, 2, 1]
    assert furthest(drawn, expected) <= 1
    assert furthest(drawn, draw(engine, **ASKED["pose"])) > 1
    engine.close()


def test_words_alone_are_drawn_as_the_loop_written_out(tiny_bundle_dir: Path) -> None:
    entry = entry_from_folder(tiny_bundle_dir, name="toybox")
    request = GenerateRequest(task="mix", prompt=PROMPT, **INTERVAL, steps=STEPS, guidance_scale=GUIDANCE)
    plan = make_plan(request, entry)
    item = BatchItem(prompt=PROMPT, negative_prompt="", seed=5, guided=plan.guided)
    with torch.inference_mode():
        drawn = denoise(load(entry), [item], plan=plan, on_step=lambda _: None)

    plain: Any = plain_pipeline(tiny_bundle_dir)
    plain.scheduler.set_timesteps(STEPS)
    latents = torch.randn(drawn.shape, generator=torch.Generator().manual_seed(5)) * plain.scheduler.init_noise_sigma
    with torch.inference_mode():
        words, nothing = plain.encode_prompt(PROMPT, "cpu", 1, True)
        for number, timestep in enumerate(plain.scheduler.timesteps):
            noisy = plain.scheduler.scale_model_input(latents, timestep)
            noise = plain.unet(noisy, timestep, words).sample
            if number in GUIDED:
                away = plain.unet(noisy, timestep, nothing).sample
                noise = away + GUIDANCE * (noise - away)
            latents = plain.scheduler.step(noise, timestep, latents).prev_sample
    torch.testing.assert_close(drawn, latents, rtol=1e-4, atol=1e-4)


def test_pictures_of_one_batch_have_intervals_of_their_own(engine: Engine, unet: Any) -> None:
    words = {"task": "mix", "prompt": PROMPT, "references": ()}
    orders = [{**words, **INTERVAL}, {"task": "variation"}, {"task": "variation", "guidance_end": 0.25}]
    blocker = engine.submit(GenerateRequest(**{**SHARED, "task": "variation", "steps": 100}))
    with engine._changed:  # so that all of them are queued before the first one starts
        jobs = [engine.submit(GenerateRequest(**{**SHARED, **order})) for order in orders]
    with watched(unet) as rows:
        blocker.cancel()
        together = [job.result(TIMEOUT_S).images[0] for job in jobs]
    assert rows[-STEPS:] == [5, 5, 5, 4]
    for picture, order in zip(together, orders, strict=True):
        assert furthest(picture, draw(engine, **order)) <= 1


def test_an_interval_has_to_hold_a_step_and_begin_before_it_ends(engine: Engine) -> None:
    with pytest.raises(UserError, match=r"From 0\.4 to 0\.5 of 4 steps there is no whole step in which the guidance"):
        draw(engine, task="variation", guidance_start=0.4, guidance_end=0.5)
    with pytest.raises(UserError, match=r"The guidance begins at 0\.5 and ends at 0\.5"):
        GenerateRequest(**SHARED, task="variation", guidance_start=0.5, guidance_end=0.5)


def test_a_models_own_part_of_the_steps_counts_where_none_is_asked_for(tiny_bundle_dir: Path) -> None:
    entry = replace(entry_from_folder(tiny_bundle_dir, name="toybox"), guidance_start=0.25, guidance_end=0.75)

    def guided(**asked: float) -> range:
        return make_plan(GenerateRequest(**SHARED, task="variation", **asked), entry).guided

    assert guided() == GUIDED
    assert guided(guidance_start=0.5) == range(2, 3)
    assert guided(guidance_end=1) == range(STEPS)
    assert guided(guidance_end=0.5) == range(2)
    with pytest.raises(UserError, match=r"From 0\.8 to 0\.8 of 4 steps there is no whole step"):
        guided(guidance_start=0.8)
