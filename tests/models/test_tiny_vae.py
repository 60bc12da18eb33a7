"""A model's small decoder: fast live pictures and previews come from it, results do not."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, LCMScheduler, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import GenerateResult, Progress
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.entry import TINY_VAE_FOLDER
from ipa_app.models.manager import ModelManager
from tests.engine.conftest import TIMEOUT_S, furthest, pixels
from tests.tiny_models import TINY_LORA, tiny_fast_way

WISH = {"task": "mix", "prompt": "a red cat", "negative_prompt": "a hat", "seed": 5, "steps": 4}
FAST = {"speed": "fast", "negative_prompt": ""}
WEIGHTS = "diffusion_pytorch_model.safetensors"

Add = Callable[[AutoencoderTiny], Path]


def small_decoder(*, seed: int = 0, levels: int = 4) -> AutoencoderTiny:
    """Return a decoder for the tiny bundle's latents; with other `levels`, one that does not fit them."""
    torch.manual_seed(seed)
    return AutoencoderTiny(
        encoder_block_out_channels=(8,) * levels,
        decoder_block_out_channels=(8,) * levels,
        num_encoder_blocks=(1,) * levels,
        num_decoder_blocks=(1,) * levels,
    ).eval()


@pytest.fixture
def with_decoder(tiny_bundle_dir: Path, tmp_path: Path) -> Add:
    """Return a function that copies the tiny bundle and adds a small decoder."""

    def add(decoder: AutoencoderTiny) -> Path:
        folder = Path(shutil.copytree(tiny_bundle_dir, tmp_path / "model"))
        decoder.save_pretrained(folder / TINY_VAE_FOLDER)
        return folder

    return add


@contextmanager
def engine_of(folder: Path) -> Iterator[Engine]:
    entry = replace(entry_from_folder(folder, name="toybox"), fast=tiny_fast_way(folder))
    engine = Engine(ModelManager({"toybox": entry}, device="cpu"))
    try:
        yield engine
    finally:
        engine.close()


def drawn(folder: Path, *, live: bool, **changes: Any) -> GenerateResult:
    with engine_of(folder) as engine:
        return engine.submit(GenerateRequest(**{**WISH, **changes}), live=live).result(TIMEOUT_S)


@torch.no_grad()
def test_a_fast_live_picture_is_what_diffusers_decodes_with_it(with_decoder: Add) -> None:
    folder = with_decoder(small_decoder(seed=3))
    plain = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, safety_checker=None)
    plain.vae = AutoencoderTiny.from_pretrained(folder / TINY_VAE_FOLDER, dtype=torch.float32)
    plain.scheduler = LCMScheduler.from_config(plain.scheduler.config)
    plain.load_lora_weights(folder / TINY_LORA)
    side = plain.unet.config.sample_size * 8
    expected = plain(
        WISH["prompt"],
        num_inference_steps=WISH["steps"],
        guidance_scale=1.0,
        width=side,
        height=side,
        generator=[torch.Generator().manual_seed(WISH["seed"])],
    ).images[0]
    assert furthest(drawn(folder, live=True, **FAST).images[0], expected) <= 1
    assert furthest(drawn(folder, live=False, **FAST).images[0], expected) > 1


@pytest.mark.parametrize("changes", [{}, FAST], ids=["best", "fast"])
def test_what_is_no_live_picture_is_the_same_with_it_and_without(
    changes: dict[str, Any], with_decoder: Add, tiny_bundle_dir: Path
) -> None:
    kept = pixels(drawn(with_decoder(small_decoder()), live=False, **changes))
    assert kept == pixels(drawn(tiny_bundle_dir, live=False, **changes))


def test_a_live_picture_drawn_at_its_best_is_the_one_that_is_kept(with_decoder: Add) -> None:
    folder = with_decoder(small_decoder())
    assert pixels(drawn(folder, live=True)) == pixels(drawn(folder, live=False))


def test_previews_come_from_it(with_decoder: Add) -> None:
    """A decoder with zero weights decodes everything to one colour."""
    grey = small_decoder()
    for weight in grey.parameters():
        weight.data.zero_()
    with engine_of(with_decoder(grey)) as engine:
        job = engine.submit(GenerateRequest(**{**WISH, "steps": 30}), previews=True)
        seen = [event.preview for event in job.events() if isinstance(event, Progress) and event.preview]
        assert seen
        assert all(_is_one_colour(preview) for preview in seen)
        assert not _is_one_colour(job.result(TIMEOUT_S).images[0])


def _is_one_colour(image: Image.Image) -> bool:
    values = np.asarray(image)
    return bool((values == values[0, 0]).all())


def _damaged(folder: Path) -> None:
    file = folder / TINY_VAE_FOLDER / WEIGHTS
    file.write_bytes(file.read_bytes()[:-8])


def _with_nan(folder: Path) -> None:
    tensors = load_file(folder / TINY_VAE_FOLDER / WEIGHTS)
    save_file({name: tensor * torch.nan for name, tensor in tensors.items()}, folder / TINY_VAE_FOLDER / WEIGHTS)


def _of_another_factor(folder: Path) -> None:
    small_decoder(levels=3).save_pretrained(folder / TINY_VAE_FOLDER)


def _another_sort(folder: Path) -> None:
    shutil.rmtree(folder / TINY_VAE_FOLDER)
    shutil.copytree(folder / "vae", folder / TINY_VAE_FOLDER)


@pytest.mark.parametrize("spoil", [_damaged, _with_nan, _of_another_factor, _another_sort])
def test_with_one_that_cannot_be_used_live_pictures_come_from_the_large_one(
    spoil: Callable[[Path], None], with_decoder: Add, tiny_bundle_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = with_decoder(small_decoder())
    spoil(folder)
    with caplog.at_level(logging.WARNING):
        live = drawn(folder, live=True, **FAST)
    assert pixels(live) == pixels(drawn(tiny_bundle_dir, live=True, **FAST))
    assert "the large one does its work" in caplog.text
