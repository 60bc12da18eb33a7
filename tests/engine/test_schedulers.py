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
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    SASolverScheduler,
    SchedulerMixin,
    StableDiffusionPipeline,
)

from ipa_app.engine.engine import Engine
from ipa_app.engine.observable import InternalError
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import Progress
from ipa_app.errors import UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from ipa_app.pose.presets import preset_sheets
from tests.engine.conftest import TIMEOUT_S, noise_picture, pixels

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SCHEDULERS: dict[str, Callable[[], SchedulerMixin]] = {
    "sd15": lambda: PNDMScheduler(skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False, **BETAS),
    "ddim": lambda: DDIMScheduler(steps_offset=1, clip_sample=False, set_alpha_to_one=False, **BETAS),
    "sdxl": lambda: EulerDiscreteScheduler(steps_offset=1, timestep_spacing="leading", **BETAS),
    "dpm": lambda: DPMSolverMultistepScheduler(use_karras_sigmas=True, **BETAS),
    "heun": lambda: HeunDiscreteScheduler(**BETAS),
}
WORDS = GenerateRequest(task="mix", prompt="a red cat", seed=5, steps=3)
TASKS = {
    "words": WORDS,
    "start": replace(WORDS, start_image=noise_picture(6, (64, 64)), strength=0.7),
    "inpaint": replace(WORDS, task="inpaint", image=noise_picture(3), mask=noise_picture(4).convert("L")),
    "pose": replace(WORDS, task="pose", pose=next(iter(preset_sheets().values()))),
}


def with_scheduler(bundle: Path, folder: Path, scheduler: SchedulerMixin) -> Path:
    shutil.copytree(bundle, folder)
    shutil.rmtree(folder / "scheduler")
    scheduler.save_pretrained(folder / "scheduler")
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", type(scheduler).__name__]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def with_configuration(bundle: Path, folder: Path, kind: type[SchedulerMixin], **config: object) -> Path:
    """A model whose scheduler_config.json says no more than this."""
    with_scheduler(bundle, folder, kind())
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({"_class_name": kind.__name__, **BETAS, **config}))
    return folder


def draw(folder: Path, request: GenerateRequest) -> list[bytes]:
    engine = Engine(ModelManager({"toybox": entry_from_folder(folder, name="toybox")}, device="cpu"))
    try:
        return pixels(engine.submit(request).result(TIMEOUT_S))
    finally:
        engine.close()


def draw_plainly(folder: Path) -> list[bytes]:
    """What plain diffusers draws after `WORDS`."""
    plain = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    plain.set_progress_bar_config(disable=True)
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(5))
    images = plain("a red cat", latents=noise, num_inference_steps=3, guidance_scale=3.0, width=64, height=64).images
    return [image.tobytes() for image in images]


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
        job = engine.submit(WORDS)
        drawn = job.result(TIMEOUT_S)
    finally:
        engine.close()
    progress = [event for event in job.events() if isinstance(event, Progress) and event.steps == 3]
    assert [event.step for event in progress] == [0, 1, 2, 3]
    assert [event.phase for event in progress] == ["denoising"] * 3 + ["decoding"]
    assert drawn.settings["scheduler"] == type(scheduler).__name__
    assert pixels(drawn) == draw_plainly(folder)


@pytest.mark.filterwarnings("ignore:The configuration file of this scheduler:FutureWarning")
@pytest.mark.parametrize("config", [{}, {"clip_sample": True, "steps_offset": 0}], ids=["left out", "written"])
@pytest.mark.parametrize(
    "kind", [DDIMScheduler, EulerDiscreteScheduler, LMSDiscreteScheduler, HeunDiscreteScheduler, PNDMScheduler]
)
def test_what_diffusers_corrects_is_corrected_as_there(
    tiny_bundle_dir: Path, tmp_path: Path, kind: type[SchedulerMixin], config: dict[str, object]
) -> None:
    """Its pipelines draw without clipping, and from an offset of 1, whatever a configuration says or leaves out."""
    own = {"timestep_spacing": "leading", "skip_prk_steps": True, **config}
    folder = with_configuration(tiny_bundle_dir, tmp_path / "model", kind, **own)
    assert draw(folder, WORDS) == draw_plainly(folder)


@pytest.mark.parametrize("bundle", ["tiny_bundle_dir", "tiny_sdxl_dir"])
def test_pndm_draws_without_the_steps_that_a_configuration_may_forget_to_skip(
    bundle: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Diffusers takes them by default, and draws nothing with fewer than four steps then."""
    drawn = [
        draw(with_configuration(request.getfixturevalue(bundle), tmp_path / name, PNDMScheduler, **config), WORDS)
        for name, config in (("skipped", {"skip_prk_steps": True}), ("left out", {}))
    ]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_draws_on_the_corrected_schedule(tiny_bundle_dir: Path, tmp_path: Path, task: str) -> None:
    right, wrong = {"clip_sample": False, "steps_offset": 1}, {"clip_sample": True, "steps_offset": 0}
    drawn = [
        draw(with_configuration(tiny_bundle_dir, tmp_path / str(number), DDIMScheduler, **config), TASKS[task])
        for number, config in enumerate((right, wrong, {}))
    ]
    assert drawn == drawn[:1] * 3


@pytest.mark.parametrize(
    ("kind", "config", "most"),
    [
        (LCMScheduler, {}, 50),
        (SASolverScheduler, {"use_karras_sigmas": True, "beta_schedule": "squaredcos_cap_v2"}, 5),
    ],
)
def test_a_number_of_steps_that_a_scheduler_cannot_do_is_named(
    tiny_bundle_dir: Path, tmp_path: Path, kind: type[SchedulerMixin], config: dict[str, object], most: int
) -> None:
    folder = with_configuration(tiny_bundle_dir, tmp_path / "model", kind, **config)
    assert draw(folder, replace(WORDS, steps=most))
    with pytest.raises(UserError, match=f"which cannot do {most + 2} steps .* another number of steps") as caught:
        draw(folder, replace(WORDS, steps=most + 2))
    assert caught.value.field == "steps"


def test_what_else_goes_wrong_is_no_matter_of_the_steps(
    tiny_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(*_: object, **__: object) -> None:
        raise ValueError("a bug")

    folder = with_configuration(tiny_bundle_dir, tmp_path / "model", DDIMScheduler)
    monkeypatch.setattr("ipa_app.engine.drawing.prompt_inputs", spoiled)
    with pytest.raises(InternalError):
        draw(folder, WORDS)
