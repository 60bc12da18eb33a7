"""The attention layers of a UNet that an adapter works in, numbered as published files number them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from ipa_app.errors import UserError

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import Attention
    from torch import nn

    from ipa_app.adapter.header import Header

# By diffusers' names and by those of checkpoint files; the order within a block is the same.
_BLOCKS = {
    "down_blocks": 0, "up_blocks": 1, "mid_block": 2, "input_blocks": 0, "output_blocks": 1, "middle_block": 2,
}  # fmt: skip
_TEXT_KEYS = re.compile(rf"(?:.*\.)?(?P<name>(?:{'|'.join(_BLOCKS)})\..*\.attn2)\.to_k\.weight")


@dataclass(frozen=True, slots=True)
class AttentionLayer:
    """One text cross-attention layer.

    Attributes:
        index: the number in published keys; see `numbered`.
        name: the processor's name, such as `mid_block.attentions.0.transformer_blocks.0.attn2.processor`.
        hidden_size: width of keys and values.
        cross_attention_dim: width of the tokens that keys and values are computed from.
    """

    index: int
    name: str
    hidden_size: int
    cross_attention_dim: int


def is_cross_attention(name: str) -> bool:
    """Whether a processor's name is that of a text cross-attention layer."""
    return name.endswith("attn2.processor")


def attention_module(unet: UNet2DConditionModel, name: str) -> Attention:
    """Return the attention layer that a processor's name belongs to."""
    return cast("Attention", unet.get_submodule(name.removesuffix(".processor")))


def text_projections(unet: UNet2DConditionModel, name: str) -> tuple[nn.Linear, nn.Linear]:
    """Return the key and value projections of a cross-attention layer; it always has both."""
    attn = attention_module(unet, name)
    return cast("nn.Linear", attn.to_k), cast("nn.Linear", attn.to_v)


def attention_layers(unet: UNet2DConditionModel) -> tuple[AttentionLayer, ...]:
    """List the text cross-attention layers of a UNet in the order of the published layout.

    Raises:
        UserError: the model has no such layer.
    """
    layers = []
    for name, index in numbered(filter(is_cross_attention, unet.attn_processors)).items():
        to_k, _ = text_projections(unet, name)
        layers.append(AttentionLayer(index, name, to_k.out_features, to_k.in_features))
    if not layers:
        raise UserError("adapter.no_cross_attention")
    return tuple(layers)


def layers_in(header: Header) -> tuple[AttentionLayer, ...]:
    """List the same layers from a header: of a UNet's own weight file, or of a whole checkpoint."""
    keys = {match["name"]: key for key in header if (match := _TEXT_KEYS.fullmatch(key))}
    numbers = numbered(keys)
    layers = [
        AttentionLayer(numbers[name], f"{name}.processor", *header[key].shape)
        for name, key in keys.items()
        if len(header[key].shape) == 2
    ]
    return tuple(sorted(layers, key=lambda layer: layer.index))


def numbered(names: Iterable[str]) -> dict[str, int]:
    """Number cross-attention layers by name, in the order down, up, mid: the n-th (from 0) gets 2n + 1.

    In published files the numbers are positions in `list(unet.attn_processors)`, in which self-attention takes the even
    ones. Blocks that have self-attention only (`AttnDownBlock2D`) would shift the others; they do not count here, nor
    are any adapters published for such a UNet.

    Source: diffusers loaders/unet.py `_convert_ip_adapter_attn_to_diffusers`, whose `key_id` grows by two.
    """

    def order(name: str) -> tuple[int, list[int]]:
        return _BLOCKS[name.split(".")[0]], [int(number) for number in re.findall(r"\d+", name)]

    return {name: 2 * position + 1 for position, name in enumerate(sorted(names, key=order))}
