"""The attention processor equals the formula, and diffusers' own processor if there is no image prompt."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnAddedKVProcessor2_0, AttnProcessor2_0
from torch import Tensor

from ipa_app.adapter import ImagePrompt, ImagePromptBatch, IPAttnProcessor, install_processors
from ipa_app.adapter.image_prompt import KeyValue
from ipa_app.errors import UserError
from tests.tiny_models import tiny_unet

HEADS, HIDDEN = 3, 24


@pytest.fixture
def attn() -> Attention:
    return Attention(query_dim=20, cross_attention_dim=16, heads=HEADS, dim_head=HIDDEN // HEADS).eval()


def written_out(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return `softmax(Q K^T / sqrt(d)) V`, head by head for one sample, all (length, hidden)."""
    d = HIDDEN // HEADS
    heads = [slice(head * d, (head + 1) * d) for head in range(HEADS)]
    parts = [torch.softmax(query[:, h] @ key[:, h].T / math.sqrt(d), dim=-1) @ value[:, h] for h in heads]
    return torch.cat(parts, dim=-1)


@torch.no_grad()
@pytest.mark.parametrize("scale", [0.3, 1.0, -0.5])
def test_is_the_formula_of_decoupled_cross_attention(attn: Attention, scale: float) -> None:
    hidden_states, text = torch.randn(1, 10, 20), torch.randn(1, 7, 16)
    key_img, value_img = torch.randn(4, HIDDEN), torch.randn(4, HIDDEN)
    prompt = ImagePrompt(cond={"attn2": KeyValue(key_img, value_img)}, scale=scale)
    batch = ImagePromptBatch.stack([[prompt]], guidance=False, steps=1)

    out = IPAttnProcessor("attn2")(attn, hidden_states, text, image_prompt=batch)

    query = attn.to_q(hidden_states[0])
    expected = written_out(query, attn.to_k(text[0]), attn.to_v(text[0]))
    expected = expected + scale * written_out(query, key_img, value_img)
    torch.testing.assert_close(out[0], attn.to_out[0](expected), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_several_prompts_of_a_row_are_added_up(attn: Attention) -> None:
    hidden_states, text = torch.randn(1, 10, 20), torch.randn(1, 7, 16)
    pairs = [KeyValue(torch.randn(n, HIDDEN), torch.randn(n, HIDDEN)) for n in (4, 4, 9)]
    scales = (0.5, 0.8, 1.2)
    row = [ImagePrompt(cond={"attn2": pair}, scale=scale) for pair, scale in zip(pairs, scales, strict=True)]

    out = IPAttnProcessor("attn2")(
        attn, hidden_states, text, image_prompt=ImagePromptBatch.stack([row], guidance=False, steps=1)
    )

    query = attn.to_q(hidden_states[0])
    expected = written_out(query, attn.to_k(text[0]), attn.to_v(text[0]))
    for pair, scale in zip(pairs, scales, strict=True):
        expected = expected + scale * written_out(query, pair.key, pair.value)
    torch.testing.assert_close(out[0], attn.to_out[0](expected), rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("options", [{"cross_attention_norm": "layer_norm"}, {"qk_norm": "layer_norm"}])
def test_layers_with_norms_of_their_own_equal_diffusers(options: dict[str, Any]) -> None:
    attn = Attention(query_dim=20, cross_attention_dim=16, heads=HEADS, dim_head=HIDDEN // HEADS, **options).eval()
    for parameter in attn.parameters():
        parameter.normal_()
    hidden_states, text = torch.randn(2, 10, 20), torch.randn(2, 7, 16)
    expected = AttnProcessor2_0()(attn, hidden_states, text)
    assert torch.equal(IPAttnProcessor("attn2")(attn, hidden_states, text), expected)


@torch.no_grad()
def test_a_spatial_norm_sees_picture_and_embedding_as_in_diffusers() -> None:
    attn = Attention(query_dim=32, heads=HEADS, dim_head=HIDDEN // HEADS, spatial_norm_dim=8).eval()
    hidden_states, temb = torch.randn(2, 32, 4, 4), torch.randn(2, 8, 4, 4)
    expected = AttnProcessor2_0()(attn, hidden_states, temb=temb)
    assert torch.equal(IPAttnProcessor(None)(attn, hidden_states, temb=temb), expected)


@torch.no_grad()
def test_each_head_and_each_place_can_have_a_mask_of_its_own(attn: Attention) -> None:
    hidden_states, text = torch.randn(2, 10, 20), torch.randn(2, 7, 16)
    mask = torch.randn(2 * HEADS, 10, 7)
    expected = AttnProcessor2_0()(attn, hidden_states, text, attention_mask=mask)
    assert torch.equal(IPAttnProcessor("attn2")(attn, hidden_states, text, attention_mask=mask), expected)


@torch.no_grad()
@pytest.mark.parametrize("masked", [False, True])
def test_text_path_equals_diffusers_bit_for_bit(attn: Attention, masked: bool) -> None:
    hidden_states, text = torch.randn(2, 10, 20), torch.randn(2, 7, 16)
    mask = torch.zeros(2, 1, 7).index_fill(2, torch.tensor([5, 6]), -10000.0) if masked else None
    expected = AttnProcessor2_0()(attn, hidden_states, text, attention_mask=mask)
    assert torch.equal(IPAttnProcessor("attn2")(attn, hidden_states, text, attention_mask=mask), expected)


@torch.no_grad()
def test_self_attention_over_a_feature_map_equals_diffusers_bit_for_bit() -> None:
    attn = Attention(query_dim=16, heads=2, dim_head=8, norm_num_groups=4, residual_connection=True).eval()
    attn.rescale_output_factor = 1.5
    feature_map = torch.randn(2, 16, 5, 3)
    assert torch.equal(IPAttnProcessor()(attn, feature_map), AttnProcessor2_0()(attn, feature_map))


@torch.no_grad()
def test_self_attention_pays_no_heed_to_an_image_prompt(attn: Attention) -> None:
    attn = Attention(query_dim=HIDDEN, heads=HEADS, dim_head=HIDDEN // HEADS).eval()
    pair = KeyValue(torch.randn(4, HIDDEN), torch.randn(4, HIDDEN))
    batch = ImagePromptBatch.stack([[ImagePrompt(cond={"attn2": pair})]], guidance=False, steps=1)
    hidden_states = torch.randn(1, 10, HIDDEN)
    assert torch.equal(
        IPAttnProcessor()(attn, hidden_states, image_prompt=batch), AttnProcessor2_0()(attn, hidden_states)
    )


@torch.no_grad()
def test_installing_changes_no_weight_and_no_result() -> None:
    model = tiny_unet(seed=3)
    weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    inputs = (torch.randn(2, 4, 8, 8), 500, torch.randn(2, 7, 32))
    expected = model(*inputs).sample
    install_processors(model)
    assert torch.equal(model(*inputs).sample, expected)
    assert model.state_dict().keys() == weights.keys()
    assert all(torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())


def test_a_unet_without_text_attention_is_refused() -> None:
    model = UNet2DConditionModel(
        block_out_channels=(8,),
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        mid_block_type=None,
        norm_num_groups=4,
    )
    with pytest.raises(UserError, match="no text cross-attention"):
        install_processors(model)


def test_joint_text_and_picture_attention_is_refused() -> None:
    model = tiny_unet()
    name = next(name for name in model.attn_processors if name.endswith("attn2.processor"))
    module = model.get_submodule(name.removesuffix(".processor"))
    joint = Attention(query_dim=32, added_kv_proj_dim=32, processor=AttnAddedKVProcessor2_0())
    joint.to_k, joint.to_v = module.to_k, module.to_v
    model.set_submodule(name.removesuffix(".processor"), joint)
    with pytest.raises(UserError, match="cannot work with this base model"):
        install_processors(model)
