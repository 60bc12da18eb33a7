"""Looking at a picture while it is drawn: it is there before the result, changes nothing and costs little."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from ipa_app.engine.engine import Engine
from ipa_app.engine.job import Job
from ipa_app.engine.previews import TIME_SHARE, TimeBudget, pictures_of
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import Progress
from tests.engine.conftest import TIMEOUT_S, noise_picture, pixels, reference
from tests.sample_requests import sample_request
from tests.tiny_models import tiny_vae


def previews_of(job: Job) -> list[Image.Image]:
    seen = [event.preview for event in job.events() if isinstance(event, Progress)]
    return [preview for preview in seen if preview is not None]


@pytest.mark.parametrize("task", ["variation", "mix", "inpaint", "pose"])
def test_the_pictures_are_the_same_bytes_with_previews_and_without(engine: Engine, task: str) -> None:
    request = sample_request(task, model="toybox", part="all", steps=6)
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


class BigModel:
    """A pipeline whose decoder is as large as Stable Diffusion's."""

    def __init__(self, *, channels: int = 4) -> None:
        self.vae = tiny_vae() if channels == 4 else AutoencoderKL(latent_channels=channels)
        self.vae.decoder.ballast = torch.nn.Parameter(torch.zeros(6_000_000))


def test_large_decoders_are_not_asked() -> None:
    latents = torch.zeros(2, 4, 64, 32)
    latents[:, 2] = 3
    pictures = pictures_of(BigModel(), latents)
    assert [picture.size for picture in pictures] == [(16, 32)] * 2
    red, green, blue = pictures[0].getpixel((3, 3))
    assert red < green < blue
    assert pictures_of(BigModel(channels=16), torch.zeros(1, 16, 8, 8)) == []


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
