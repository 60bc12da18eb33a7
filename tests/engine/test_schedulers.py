"""Schedulers of published models, some of which take more iterations than steps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    SchedulerMixin,
    StableDiffusionPipeline,
)

from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import Progress
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from ipa_app.pose.presets import preset_sheets
from tests.engine.conftest import TIMEOUT_S, pixels

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SCHEDULERS: dict[str, Callable[[], SchedulerMixin]] = {
    "sd15": lambda: PNDMScheduler(skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False, **BETAS),
    "ddim": lambda: DDIMScheduler(steps_offset=1, clip_sample=False, set_alpha_to_one=False, **BETAS),
    "sdxl": lambda: EulerDiscreteScheduler(steps_offset=1, timestep_spacing="leading", **BETAS),
    "dpm": lambda: DPMSolverMultistepScheduler(use_karras_sigmas=True, **BETAS),
    "heun": lambda: HeunDiscreteScheduler(**BETAS),
}


def with_scheduler(bundle: Path, folder: Path, scheduler: SchedulerMixin) -> Path:
    shutil.copytree(bundle, folder)
    shutil.rmtree(folder / "scheduler")
    scheduler.save_pretrained(folder / "scheduler")
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", type(scheduler).__name__]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("name", ["sd15", "heun"])
def test_a_pose_counts_in_each_of_the_steps_that_it_may_count_in(
    tiny_bundle_dir: Path, tmp_path: Path, name: str
) -> None:
    folder = with_scheduler(tiny_bundle_dir, tmp_path / "model", SCHEDULERS[name]())
    engine = Engine(ModelManager({"toybox": entry_from_folder(folder, name="toybox")}, device="cpu"))
    request = GenerateRequest(task="pose", pose=next(iter(preset_sheets().values())), prompt="a cat", seed=5, steps=5)
    try:
        without = pixels(engine.submit(replace(request, control_scale=0.0)).result(TIMEOUT_S))
        for step in range(5):
            ranged = replace(request, control_start=step / 5, control_end=(step + 1) / 5)
            assert pixels(engine.submit(ranged).result(TIMEOUT_S)) != without, step
    finally:
        engine.close()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_it_draws_as_in_diffusers_and_counts_its_steps(tiny_bundle_dir: Path, tmp_path: Path, name: str) -> None:
    scheduler = SCHEDULERS[name]()
    folder = with_scheduler(tiny_bundle_dir, tmp_path / "model", scheduler)

    engine = Engine(ModelManager({"toybox": entry_from_folder(folder, name="toybox")}, device="cpu"))
    try:
        job = engine.submit(GenerateRequest(task="mix", prompt="a red cat", seed=5, steps=3))
        drawn = job.result(TIMEOUT_S)
    finally:
        engine.close()
    progress = [event for event in job.events() if isinstance(event, Progress) and event.steps == 3]
    assert [event.step for event in progress] == [0, 1, 2, 3]
    assert [event.phase for event in progress] == ["denoising"] * 3 + ["decoding"]
    assert drawn.settings["scheduler"] == type(scheduler).__name__

    plain = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    plain.set_progress_bar_config(disable=True)
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(5))
    expected = plain("a red cat", latents=noise, num_inference_steps=3, guidance_scale=3.0, width=64, height=64).images[
        0
    ]
    assert pixels(drawn) == [expected.tobytes()]
