"""The adapter as a trainable module: initialisation, gradients, Resampler."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from ipa_app.adapter import ImagePromptBatch, IPAdapter, attention_layers, install_processors
from ipa_app.adapter.resampler import Resampler
from ipa_app.adapter.shapes import ProjectionSizes
from ipa_app.errors import UserError
from tests.adapter.conftest import new_adapter
from tests.tiny_models import CLIP_HIDDEN, CLIP_PROJECTION, tiny_unet


def features_for(kind: str, pictures: int) -> Tensor:
    return torch.randn(pictures, CLIP_PROJECTION) if kind == "base" else torch.randn(pictures, 17, CLIP_HIDDEN)


def test_new_keys_and_values_start_as_the_texts_own(unet: UNet2DConditionModel) -> None:
    adapter = IPAdapter.for_unet(unet, kind="base", clip_dim=CLIP_PROJECTION)
    for layer in attention_layers(unet):
        attn: Any = unet.get_submodule(layer.name.removesuffix(".processor"))
        projection: Any = adapter.ip_adapter[str(layer.index)]
        assert torch.equal(projection.to_k_ip.weight, attn.to_k.weight)
        assert torch.equal(projection.to_v_ip.weight, attn.to_v.weight)
        assert projection.to_k_ip.weight.data_ptr() != attn.to_k.weight.data_ptr()


@pytest.mark.parametrize(("kind", "num_tokens", "clip_dim"), [("base", 4, 24), ("plus", 16, 32), ("full", 17, 32)])
def test_an_adapter_tells_what_it_is(adapters: dict[str, IPAdapter], kind: str, num_tokens: int, clip_dim: int) -> None:
    adapter = adapters[kind]
    assert (adapter.kind, adapter.clip_dim, adapter.cross_attention_dim) == (kind, clip_dim, 32)
    assert adapter.tokens(features_for(kind, 3)).shape == (3, num_tokens, 32)


@pytest.mark.parametrize("kind", ["base", "plus", "full"])
def test_only_the_adapter_gets_gradients(kind: str) -> None:
    model = tiny_unet().requires_grad_(False)
    weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    install_processors(model)
    adapter = new_adapter(model, kind)
    prompts = adapter.image_prompts(features_for(kind, 3))
    batch = ImagePromptBatch.stack([[prompt] for prompt in prompts], guidance=False, steps=1)
    predicted = model(
        torch.randn(3, 4, 8, 8), 500, torch.randn(3, 7, 32), cross_attention_kwargs={"image_prompt": batch}
    ).sample
    predicted.square().mean().backward()

    assert all(parameter.grad is None for parameter in model.parameters())
    without = [name for name, parameter in adapter.named_parameters() if parameter.grad is None]
    assert not without
    assert all(parameter.grad.abs().sum() > 0 for parameter in adapter.parameters())
    assert all(torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())


def test_gradients_pass_through_gradient_checkpointing() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = tiny_unet().requires_grad_(False).train()
        install_processors(model)
        if checkpointing:
            model.enable_gradient_checkpointing()
        adapter = new_adapter(model, "base")
        torch.manual_seed(1)
        prompts = adapter.image_prompts(features_for("base", 2))
        batch = ImagePromptBatch.stack([[prompt] for prompt in prompts], guidance=False, steps=1)
        inputs = torch.randn(2, 4, 8, 8), 500, torch.randn(2, 7, 32)
        model(*inputs, cross_attention_kwargs={"image_prompt": batch}).sample.square().mean().backward()
        gradients.append([parameter.grad for parameter in adapter.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_draws_nearly_the_same(unet: UNet2DConditionModel, autocast: bool) -> None:
    """A bfloat16 UNet with a float32 adapter, and float32 throughout under autocast, as in training."""
    adapter, features = new_adapter(unet, "plus"), features_for("plus", 2)
    mask = torch.ones(8, 8)
    inputs = torch.randn(2, 4, 8, 8), 500, torch.randn(2, 7, 32)

    def predict(model: UNet2DConditionModel, dtype: torch.dtype) -> Tensor:
        plain, masked = adapter.image_prompts(features)
        batch = ImagePromptBatch.stack([[plain], [masked.with_mask(mask)]], guidance=False, steps=1, latent_size=(8, 8))
        latents, timestep, text = inputs
        kwargs = {"image_prompt": batch}
        return model(latents.to(dtype), timestep, text.to(dtype), cross_attention_kwargs=kwargs).sample.float()

    expected = predict(unet, torch.float32)
    if autocast:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            predicted = predict(unet, torch.float32)
        predicted.square().mean().backward()
        assert all(parameter.grad is not None for parameter in adapter.parameters())
    else:
        model = tiny_unet().bfloat16()
        install_processors(model)
        predicted = predict(model, torch.bfloat16)
    torch.testing.assert_close(predicted, expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("kind", ["base", "plus"])
@torch.no_grad()
def test_prompts_made_together_equal_prompts_made_one_by_one(adapters: dict[str, IPAdapter], kind: str) -> None:
    features = features_for(kind, 3)
    together = adapters[kind].image_prompts(features, scale=0.5)
    for i, prompt in enumerate(together):
        alone = adapters[kind].image_prompt(features[i : i + 1], None, scale=0.5)
        assert prompt.scale == alone.scale and prompt.uncond is None
        for layer, pair in prompt.cond.items():
            torch.testing.assert_close(pair.key, alone.cond[layer].key)
            torch.testing.assert_close(pair.value, alone.cond[layer].value)


def test_a_head_width_that_files_cannot_record_is_refused(unet: UNet2DConditionModel) -> None:
    with pytest.raises(UserError, match="dim_head must be 64"):
        IPAdapter.for_unet(unet, kind="plus", clip_dim=CLIP_HIDDEN, dim_head=32)


def test_the_resamplers_queries_begin_as_published() -> None:
    """Normal, with a standard deviation of dim^-1/2."""
    latents = Resampler(
        ProjectionSizes(clip_dim=12, cross_attention_dim=10, dim=64, depth=1, heads=2, num_tokens=64)
    ).latents
    assert float(latents.std()) == pytest.approx(64**-0.5, rel=0.1)


@torch.no_grad()
def test_the_resampler_is_the_published_one_written_out() -> None:
    """Queries attend to image tokens and themselves; q and k each scaled by dim_head^-1/4; softmax in float32."""
    resampler = Resampler(ProjectionSizes(clip_dim=12, cross_attention_dim=10, dim=16, depth=2, heads=2, num_tokens=3))
    hidden_states = torch.randn(2, 5, 12)
    x = resampler.proj_in(hidden_states)
    latents = resampler.latents.repeat(2, 1, 1)
    layers: Any = resampler.layers
    for attention, feed_forward in layers:
        normed = attention.norm2(latents)
        key, value = attention.to_kv(torch.cat([attention.norm1(x), normed], dim=1)).chunk(2, dim=-1)
        query = attention.to_q(normed)
        heads = []
        for head in (slice(0, 64), slice(64, 128)):
            scores = (query[..., head] * 64**-0.25) @ (key[..., head] * 64**-0.25).transpose(1, 2)
            heads.append(torch.softmax(scores, dim=-1) @ value[..., head])
        latents = attention.to_out(torch.cat(heads, dim=-1)) + latents
        normed = feed_forward[0](latents)
        inner = normed @ feed_forward[1].weight.T
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        latents = inner @ feed_forward[3].weight.T + latents
    expected = resampler.norm_out(resampler.proj_out(latents))
    torch.testing.assert_close(resampler(hidden_states), expected, rtol=1e-5, atol=1e-5)
