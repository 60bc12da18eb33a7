"""Previews of a picture: they arrive before the result, change nothing and cost little."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    UniPCMultistepScheduler,
)
from PIL import Image

from ipa_app.engine.batch import BatchItem
from ipa_app.engine.engine import Engine
from ipa_app.engine.job import Job
from ipa_app.engine.previews import TIME_SHARE, Previewer, TimeBudget, pictures_of
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import Progress
from ipa_app.models.families import SD1, SDXL
from tests.engine.conftest import TIMEOUT_S, noise_picture, pixels, reference
from tests.sample_requests import sample_request
from tests.tiny_models import tiny_vae


def previews_of(job: Job) -> list[Image.Image]:
    seen = [event.preview for event in job.events() if isinstance(event, Progress)]
    return [preview for preview in seen if preview is not None]


@pytest.mark.parametrize("task", ["variation", "mix", "inpaint", "pose"])
def test_the_pictures_are_the_same_bytes_with_previews_and_without(engine: Engine, task: str) -> None:
    request = sample_request(task, model="toybox", part="all", style="", speed="best", steps=6)
    watched = engine.submit(request, previews=True)
    assert previews_of(watched)
    unwatched = engine.submit(request)
    assert not previews_of(unwatched)
    assert pixels(watched.result()) == pixels(unwatched.result())


def test_a_strip_shows_what_is_finished_beside_what_is_being_drawn(engine: Engine) -> None:
    request = GenerateRequest(task="variation", references=(reference(),), count=3, steps=40, seed=1)
    widths = [preview.width for preview in previews_of(engine.submit(request, previews=True))]
    assert widths
    assert widths == sorted(widths)
    assert set(widths) <= {64, 130, 196}


def test_late_watchers_find_one_preview_at_most(engine: Engine) -> None:
    job = engine.submit(GenerateRequest(task="mix", prompt="a cat", steps=60), previews=True)
    job.result(TIMEOUT_S)
    assert len(previews_of(job)) == 1


def test_nothing_is_previewed_while_somebody_else_waits(engine: Engine) -> None:
    long = GenerateRequest(task="mix", prompt="a dog", steps=100, count=8)
    running = engine.submit(long)
    looked_at = engine.submit(GenerateRequest(task="mix", prompt="a cat", steps=50), previews=True)
    somebody = engine.submit(long)
    running.cancel()
    assert not previews_of(looked_at)
    somebody.cancel()


def test_the_budget_is_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    budget = TimeBudget()
    assert budget.allows_one_more(), "what one costs is only known after the first"
    budget.spend(1)
    now[0] += 2 / TIME_SHARE - 0.1
    assert not budget.allows_one_more()
    now[0] += 0.2
    assert budget.allows_one_more()


def big_vae(*, channels: int = 4) -> AutoencoderKL:
    """Return a VAE whose decoder is as large as Stable Diffusion's."""
    vae = tiny_vae() if channels == 4 else AutoencoderKL(latent_channels=channels)
    vae.decoder.ballast = torch.nn.Parameter(torch.zeros(6_000_000))
    return vae


def test_large_decoders_are_not_asked() -> None:
    latents = torch.zeros(2, 4, 64, 32)
    latents[:, 2] = 3
    vae = big_vae()
    pictures = pictures_of(vae, latents, family=SD1)
    assert [picture.size for picture in pictures] == [(16, 32)] * 2
    red, green, blue = np.asarray(pictures[0])[3, 3]
    assert red < green < blue
    assert pictures_of(big_vae(channels=16), torch.zeros(1, 16, 8, 8), family=SD1) == []
    assert pictures_of(vae, latents, family=SDXL) == [], "its latents have other colours"
    vae.register_to_config(scaling_factor=0.13025)
    assert pictures_of(vae, latents, family=SD1) == []


def test_what_a_mask_keeps_is_shown_as_it_is(engine: Engine) -> None:
    plain = Image.new("RGB", (64, 64), (200, 30, 30))
    mask = Image.new("L", (64, 64))
    mask.paste(255, (32, 0, 64, 64))
    job = engine.submit(
        GenerateRequest(task="inpaint", image=plain, mask=mask, references=(reference(),), steps=8), previews=True
    )
    preview = previews_of(job)[0]
    kept = preview.getpixel((8, 32))
    assert all(abs(one - other) <= 2 for one, other in zip(kept, (200, 30, 30), strict=True))
    assert preview.size == noise_picture(size=(64, 64)).size


class SmallModel:
    """A model without a small decoder: its VAE makes the previews."""

    family = SD1

    def __init__(self) -> None:
        self.vae = self.draft_vae = tiny_vae()


@pytest.mark.parametrize(
    "scheduler",
    [
        DDIMScheduler(prediction_type="sample", clip_sample=False),
        DPMSolverMultistepScheduler(prediction_type="sample"),
        DPMSolverMultistepScheduler(prediction_type="sample", algorithm_type="sde-dpmsolver++"),
        DPMSolverSinglestepScheduler(prediction_type="sample"),
        UniPCMultistepScheduler(prediction_type="sample"),
        EDMDPMSolverMultistepScheduler(),
        EDMEulerScheduler(),
    ],
    ids=lambda each: type(each).__name__,
)
@torch.no_grad()
def test_what_is_shown_is_the_clean_picture_that_a_step_predicts(scheduler: Any) -> None:
    """The latents after a step are noisy, and with EDM schedules eighty times as large as a picture's."""
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(1, 4, 8, 8, generator=generator)
    latents = torch.randn(1, 4, 8, 8, generator=generator)
    scheduler.set_timesteps(6)
    latents = latents * scheduler.init_noise_sigma
    seen: list[Image.Image] = []
    previewer = Previewer(budget=TimeBudget(share=1e6), wanted=lambda: True, show=seen.extend)
    previewer.follow(scheduler)
    model, row = SmallModel(), BatchItem(prompt="", negative_prompt="", seed=0)
    for step, timestep in enumerate(scheduler.timesteps[:4]):
        scheduler.scale_model_input(latents, timestep)
        predicted = clean
        if not hasattr(scheduler, "alphas_cumprod"):  # EDM: Karras et al. 2022, equation 7
            sigma, data = scheduler.sigmas[scheduler.step_index], scheduler.config.sigma_data
            skipped = latents * data**2 / (sigma**2 + data**2)
            predicted = (clean - skipped) * (sigma**2 + data**2) ** 0.5 / (sigma * data)
        latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
        previewer.after_step(model, [row], step=step + 1, steps=6, latents=latents)
    expected = np.asarray(pictures_of(model.vae, clean, family=model.family)[0], int)
    assert len(seen) == 4
    assert all(np.abs(np.asarray(picture, int) - expected).max() <= 1 for picture in seen)
