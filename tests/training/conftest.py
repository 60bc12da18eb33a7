"""A tiny frozen base model, examples on disk, and helpers to run a few steps."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from ipa_app.training.components import Components, load_components
from ipa_app.training.config import DataConfig, TrainConfig
from ipa_app.training.data import Examples, read_examples
from ipa_app.training.examples import TrainingBatch
from tests.precision import own_precision
from tests.tiny_models import CLIP_HIDDEN, CLIP_PROJECTION, CROSS_ATTENTION_DIM

COLOURS = ("red", "green", "blue", "yellow")
PLUS_SEQUENCE = 17


@pytest.fixture(scope="session")
def loaded_base(tiny_bundle_dir: Path) -> Components:
    return load_components(tiny_bundle_dir)


@pytest.fixture
def base(loaded_base: Components) -> Components:
    """Shared by all tests: training must not change any of its weights."""
    return loaded_base


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., TrainConfig]:
    def make(**changes: object) -> TrainConfig:
        values = {
            "output": tmp_path / "out",
            "max_steps": 4,
            "batch_size": 2,
            "resampler_depth": 1,
            "resampler_heads": 1,
            "log_steps": 1,
            "num_inference_steps": 2,
            "eval_steps": 0,
            "sample_steps": 0,
        }
        return TrainConfig(**(values | changes))

    return make


@pytest.fixture
def batches() -> Callable[..., Iterator[TrainingBatch]]:
    """Return a function that makes endless encoded batches; batch n is always the same."""

    def make(*, kind: str = "base", rows: int = 2, start: int = 0) -> Iterator[TrainingBatch]:
        number = start
        while True:
            yield encoded_batch(number, kind=kind, rows=rows)
            number += 1

    return make


def encoded_batch(number: int, *, kind: str = "base", rows: int = 2) -> TrainingBatch:
    generator = torch.Generator().manual_seed(number)
    shape = (CLIP_PROJECTION,) if kind == "base" else (PLUS_SEQUENCE, CLIP_HIDDEN)
    return TrainingBatch(
        latents=torch.randn(rows, 4, 8, 8, generator=generator),
        latents_std=torch.full((rows, 4, 8, 8), 0.1),
        text_states=torch.randn(rows, 24, CROSS_ATTENTION_DIM, generator=generator),
        features=torch.randn(rows, *shape, generator=generator),
    )


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a folder with twelve small pictures of two shapes and their data.json."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    entries = []
    for number in range(12):
        picture = Image.new("RGB", (40 + number, 48), COLOURS[number % 4])
        ImageDraw.Draw(picture).ellipse((8, 8, 24 + number, 30), fill=COLOURS[(number + 1) % 4])
        picture.save(folder / f"{number}.png")
        entries.append({"image_file": f"{number}.png", "text": f"a {COLOURS[number % 4]} hat"})
    (folder / "data.json").write_text(json.dumps(entries))
    return folder


def examples_in(folder: Path, **settings: object) -> Examples:
    """Return the examples listed in a folder's data.json."""
    return read_examples(DataConfig(base=folder, data=folder / "data.json", **settings), seed=0)


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    """Let a test train in another precision."""
    with own_precision():
        yield


@pytest.fixture
def frozen_weights(base: Components) -> Iterator[None]:
    """Fail a test that changes a weight of the base model."""
    modules = (base.unet, base.vae, base.text_encoder, base.image_encoder)
    before = [copy.deepcopy(module.state_dict()) for module in modules]
    yield
    for module, weights in zip(modules, before, strict=True):
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, weights[name]), name
        assert all(weight.grad is None for weight in module.parameters())
