"""Features that each kind of adapter takes from the image encoder, with and without an image."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import CLIPVisionModelWithProjection

from ipa_app.adapter import IPAdapter, encode_image
from tests.adapter.conftest import random_pixels


@torch.no_grad()
def test_base_takes_the_projected_embedding_and_zeros(tower: CLIPVisionModelWithProjection) -> None:
    pixels = random_pixels(1, 2)
    cond, uncond = encode_image(tower, pixels, "base")
    pooled = tower.vision_model(pixels).pooler_output
    torch.testing.assert_close(cond, tower.visual_projection(pooled))
    assert torch.equal(uncond, torch.zeros(2, 24))


@pytest.mark.parametrize("kind", ["plus", "full"])
@torch.no_grad()
def test_the_others_take_all_tokens_before_the_last_layer(tower: CLIPVisionModelWithProjection, kind: str) -> None:
    def by_hand(pixels: torch.Tensor) -> torch.Tensor:
        vision = tower.vision_model
        hidden_states = vision.pre_layrnorm(vision.embeddings(pixels))
        for layer in vision.encoder.layers[:-1]:
            output = layer(hidden_states, attention_mask=None)
            hidden_states = output if isinstance(output, torch.Tensor) else output[0]
        return hidden_states

    pixels = random_pixels(1, 3)
    cond, uncond = encode_image(tower, pixels, kind)
    assert cond.shape == (3, 17, 32)
    torch.testing.assert_close(cond, by_hand(pixels))
    # "No image" is zero after normalisation, i.e. an image of the mean colour; it is not zero features.
    torch.testing.assert_close(uncond, by_hand(torch.zeros_like(pixels)))
    assert uncond.abs().max() > 0.1


@torch.no_grad()
def test_no_picture_is_not_zero_tokens(adapters: dict[str, IPAdapter], tower: CLIPVisionModelWithProjection) -> None:
    adapter = adapters["base"]
    _, uncond = encode_image(tower, random_pixels(1), "base")
    image_proj: Any = adapter.image_proj
    bias = image_proj.proj.bias.view(4, 32)
    torch.testing.assert_close(adapter.tokens(uncond)[0], image_proj.norm(bias))
    assert adapter.tokens(uncond).abs().max() > 0.1


@torch.no_grad()
def test_no_picture_is_encoded_where_the_tower_has_gone_for_the_picture(tower: CLIPVisionModelWithProjection) -> None:
    """As for an offloaded tower: accelerate moves only the inputs of the first pass with it."""
    tower = copy.deepcopy(tower)
    tower.register_forward_hook(lambda module, *_: module.to("meta") and None)
    _, uncond = encode_image(tower, random_pixels(1), "plus")
    assert uncond.device.type == "meta"


@pytest.mark.parametrize("kind", ["base", "plus", "full"])
@torch.no_grad()
def test_pixels_and_features_are_brought_to_the_precision_of_what_reads_them(
    adapters: dict[str, IPAdapter], tower: CLIPVisionModelWithProjection, kind: str
) -> None:
    half, pixels = copy.deepcopy(tower).bfloat16(), random_pixels(1, 2)
    features = encode_image(half, pixels, kind)
    assert {each.dtype for each in features} == {torch.bfloat16}
    for mine, theirs in zip(features, encode_image(half, pixels.bfloat16(), kind), strict=True):
        assert torch.equal(mine, theirs)
    assert adapters[kind].tokens(features[0]).dtype == torch.float32
