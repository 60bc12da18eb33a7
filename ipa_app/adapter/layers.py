"""The attention layers of a UNet that an adapter works in, numbered as published files number them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipa_app.errors import UserError

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


@dataclass(frozen=True, slots=True)
class AttentionLayer:
    """One text cross-attention layer.

    Attributes:
        index: position in ``list(unet.attn_processors)``, the number in published keys: odd, as
            self-attention takes the even ones; blocks in the order down, up, mid.
        name: the processor's name, such as ``mid_block.attentions.0.transformer_blocks.0.attn2.processor``.
        hidden_size: width of keys and values.
        cross_attention_dim: width of the tokens they are made from.
    """

    index: int
    name: str
    hidden_size: int
    cross_attention_dim: int


def is_cross_attention(name: str) -> bool:
    """Whether a processor's name is that of a text cross-attention layer."""
    return name.endswith("attn2.processor")


def attention_layers(unet: UNet2DConditionModel) -> tuple[AttentionLayer, ...]:
    """List the text cross-attention layers of a UNet in the order of the published layout.

    Raises:
        UserError: the model has no such layer.

    Source: tencent-ailab/IP-Adapter, ip_adapter.py ``load_ip_adapter``: a ModuleList over
    ``unet.attn_processors.values()``, whose positions are the keys in the file.
    """
    layers = []
    for index, name in enumerate(unet.attn_processors):
        if is_cross_attention(name):
            attn = unet.get_submodule(name.removesuffix(".processor"))
            layers.append(AttentionLayer(index, name, attn.to_k.out_features, attn.to_k.in_features))
    if not layers:
        raise UserError("This base model has no text cross-attention, so an IP-Adapter cannot work with it.")
    return tuple(layers)
