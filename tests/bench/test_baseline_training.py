"""The adapter's baselines train on the same pairs in a folder of the recipe, and resume."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from bench.baseline_training import load_baseline, plain_adapter_path, train_baseline, train_plain_adapter
from ipa_app.adapter.files import load_adapter
from tests.precision import own_precision
from toybox.recipe.adapters import FILES
from toybox.recipe.data import load_or_draw
from toybox.recipe.settings import TINY


@pytest.fixture(scope="module", autouse=True)
def recipes_precision() -> Iterator[None]:
    """Let the recipe train in the precision that suits the processor."""
    with own_precision():
        yield


@pytest.fixture(scope="module")
def work(recipe_dir: Path) -> Path:
    """Return the folder of one complete run of the recipe."""
    return recipe_dir


@pytest.fixture(scope="module")
def compared(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the folder with the trained baselines."""
    folder = tmp_path_factory.mktemp("comparison") / "work"
    shutil.copytree(work, folder)
    data, heldout = (load_or_draw(TINY, folder / "data", split) for split in ("train", "heldout"))
    train_baseline(TINY, data, heldout, folder)
    train_plain_adapter(TINY, data, heldout, folder)
    return folder


def test_the_baseline_and_the_plain_adapter_see_as_many_samples(compared: Path) -> None:
    figures = [json.loads(line) for line in (compared / "figures.jsonl").read_text("utf-8").splitlines()]
    seen = {line["stage"]: line["samples"] for line in figures if "samples" in line}
    assert seen["baseline"] == seen["adapter-plain"] == TINY.base_adapter.samples
    baseline = load_baseline(compared)
    assert load_adapter(plain_adapter_path(compared), baseline.unet).kind == "base"


def test_the_plain_adapter_does_not_start_from_the_teachers(compared: Path, work: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(work / "unet")
    taught, plain = (
        load_adapter(folder, unet) for folder in (work / "adapters" / FILES["base"], plain_adapter_path(compared))
    )
    # Two small steps do not lead from one to the other.
    assert not torch.allclose(taught.image_proj.proj.weight, plain.image_proj.proj.weight, atol=0.02)


def test_the_baseline_trains_the_whole_unet(compared: Path, work: Path) -> None:
    before = UNet2DConditionModel.from_pretrained(work / "unet").state_dict()
    after = load_baseline(compared).unet.state_dict()
    for part in ("conv_in.weight", "mid_block.attentions.0.transformer_blocks.0.attn2.to_v.weight", "conv_out.weight"):
        assert 0 < float((before[part] - after[part]).abs().max()) < 0.02


@torch.no_grad()
def test_the_baseline_draws_from_what_its_projection_makes_of_a_picture(compared: Path) -> None:
    baseline = load_baseline(compared)
    embeds = torch.randn(2, TINY.projection_dim, generator=torch.Generator().manual_seed(0))
    assert not baseline.token(torch.zeros_like(embeds)).any()
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)).expand(2, -1, -1, -1)
    first, second = baseline.unet(noisy, 500, baseline.token(embeds)).sample
    assert not torch.allclose(first, second, atol=1e-4)


def test_the_baseline_goes_on_where_it_stopped(compared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    shutil.copytree(compared, folder)
    longer = dataclasses.replace(TINY.base_adapter, samples=2 * TINY.base_adapter.samples)
    data, heldout = (load_or_draw(TINY, folder / "data", split) for split in ("train", "heldout"))
    train_baseline(dataclasses.replace(TINY, base_adapter=longer), data, heldout, folder)
    step = torch.load(folder / "baseline.ckpt", weights_only=True)["step"]
    assert step == longer.samples // longer.batch_size
    # The log has the first step once: the second run started after it.
    assert len((folder / "baseline.jsonl").read_text("utf-8").splitlines()) == 1
    first, second = (load_baseline(each).projection.weight for each in (compared, folder))
    assert not torch.equal(first, second)
