"""A compiled UNet has one graph for all image prompts: they are inputs of the graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch._dynamo.utils import counters

from ipa_app.adapter import ImagePrompt, ImagePromptBatch, RegionalPrompt, RegionalPromptBatch
from tests.adapter.conftest import MakePrompt

STEPS = 4


@pytest.fixture
def compiled(unet: UNet2DConditionModel) -> Iterator[Any]:
    torch._dynamo.reset()
    counters.clear()
    # The eager backend runs a graph unchanged: what is counted here is how many are compiled.
    yield torch.compile(unet, backend="eager", fullgraph=True)
    torch._dynamo.reset()


def predict(unet: Any, prompt: ImagePrompt, *, step: int = 1) -> Tensor:
    batch = ImagePromptBatch.stack([[prompt]], guidance=True, steps=STEPS, latent_size=(8, 8))
    batch.at_step(step)
    generator = torch.Generator().manual_seed(3)
    latents, text = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 7, 32, generator=generator)
    timestep = torch.tensor(500 - step)
    return unet(latents, timestep, text, cross_attention_kwargs={"image_prompt": batch}).sample


@torch.no_grad()
def test_scales_steps_and_references_compile_nothing_anew(
    compiled: Any, unet: UNet2DConditionModel, prompt: MakePrompt
) -> None:
    base, fine = prompt("base"), prompt("plus")
    for each in (base, fine):  # two numbers of tokens, so that the dimension becomes dynamic
        predict(compiled, each)
    graphs = counters["stats"]["unique_graphs"]
    told = [base.with_scale(number / 10) for number in range(1, 11)]
    told += [ImagePrompt.concat([prompt(kind, seed=seed) for seed in range(3)]) for kind in ("base", "plus")]
    for each in told:
        torch.testing.assert_close(predict(compiled, each), predict(unet, each))
    for step in range(STEPS):
        torch.testing.assert_close(predict(compiled, fine, step=step), predict(unet, fine, step=step))
    assert counters["stats"]["unique_graphs"] == graphs <= 2


@torch.no_grad()
def test_masks_compile_nothing_anew_after_the_first(
    compiled: Any, unet: UNet2DConditionModel, prompt: MakePrompt
) -> None:
    masks = [torch.zeros(8, 8), torch.zeros(16, 16), torch.zeros(30, 20)]
    for mask in masks:
        mask[:, : mask.shape[1] // 2] = 1
    predict(compiled, prompt("base").with_mask(masks[0]))
    graphs = counters["stats"]["unique_graphs"]
    for number, mask in enumerate(masks):
        each = prompt("base", seed=number, scale=0.5).with_mask(mask)
        torch.testing.assert_close(predict(compiled, each), predict(unet, each))
    assert counters["stats"]["unique_graphs"] == graphs


@torch.no_grad()
def test_words_for_other_places_compile_nothing_anew(compiled: Any, unet: UNet2DConditionModel) -> None:
    generator = torch.Generator().manual_seed(3)
    latents, text = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 7, 32, generator=generator)

    def told(seed: int) -> dict[str, RegionalPromptBatch]:
        random = torch.Generator().manual_seed(seed)
        shares = torch.rand(2, 8, 8, generator=random) / 2
        words = [RegionalPrompt(states=torch.randn(7, 32, generator=random), share=share) for share in shares]
        return {"regional_prompt": RegionalPromptBatch.stack([words], guidance=True, latent_size=(8, 8))}

    compiled(latents, torch.tensor(500), text, cross_attention_kwargs=told(0))
    graphs = counters["stats"]["unique_graphs"]
    for seed in range(3):
        predicted, expected = (
            each(latents, torch.tensor(499), text, cross_attention_kwargs=told(seed)).sample
            for each in (compiled, unet)
        )
        torch.testing.assert_close(predicted, expected)
    assert counters["stats"]["unique_graphs"] == graphs
