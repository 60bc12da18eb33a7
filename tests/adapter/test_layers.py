"""The numbers by which published files refer to a UNet's cross-attention layers."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel

from ipa_app.adapter import attention_layers
from ipa_app.adapter.header import header_of
from ipa_app.adapter.layers import layers_in
from tests.tiny_models import tiny_unet


@pytest.mark.parametrize("name", ["unet", "sdxl_unet"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.diffusion_model."])
def test_a_header_tells_the_layers_of_its_unet(request: pytest.FixtureRequest, name: str, prefix: str) -> None:
    """Whatever the order of the tensors in the file."""
    model: UNet2DConditionModel = request.getfixturevalue(name)
    weights = {f"{prefix}{key}": tensor for key, tensor in reversed(model.state_dict().items())}
    assert layers_in(header_of(weights)) == attention_layers(model)


def test_blocks_of_self_attention_alone_shift_no_number() -> None:
    """Whether the layers are listed from the UNet, as when an adapter is trained, or from its file, as when offered."""
    config = {
        **tiny_unet().config,
        "down_block_types": ("CrossAttnDownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "CrossAttnUpBlock2D"),
    }
    model = UNet2DConditionModel.from_config(config)
    layers = attention_layers(model)
    assert [layer.index for layer in layers] == [1, 3, 5, 7]
    assert layers_in(header_of(model.state_dict())) == layers


def test_what_is_no_projection_of_tokens_is_left_out() -> None:
    block = "mid_block.attentions.0.transformer_blocks.0"
    weights = {
        f"{block}.attn2.to_k.weight": torch.ones(6, 5),
        f"{block}.attn1.to_k.weight": torch.ones(6, 6),
        f"{block}.attn2.to_v.weight": torch.ones(6, 5),
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": torch.ones(6, 5, 1),
        "conv_in.weight": torch.ones(3, 3),
    }
    (layer,) = layers_in(header_of(weights))
    assert (layer.name, layer.hidden_size, layer.cross_attention_dim) == (f"{block}.attn2.processor", 6, 5)
