"""Decoupled cross-attention: `Attn(Q, K_text, V_text) + scale * Attn(Q, K_img, V_img)`.

One processor class serves every attention layer of a UNet. It holds no weights, no scale and no state: image prompts
come with the call, as an `ipa_app.adapter.image_prompt.ImagePromptBatch`, and so do words for parts of the new picture,
as an `ipa_app.adapter.regional_prompt.RegionalPromptBatch`. One UNet can therefore serve calls with different adapters,
or none, at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch.nn.functional as F

from ipa_app.adapter.image_prompt import masks_of_layer
from ipa_app.adapter.layers import attention_layers, attention_module, is_cross_attention
from ipa_app.errors import UserError

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import Attention, AttentionProcessor
    from torch import Tensor, nn

    from ipa_app.adapter.image_prompt import ImagePromptBatch
    from ipa_app.adapter.regional_prompt import RegionalPromptBatch


@dataclass(frozen=True, slots=True)
class IPAttnProcessor:
    """Attention processor for self-attention, text cross-attention, regional words and image prompts.

    Without an image prompt or regional words it does what diffusers' `AttnProcessor2_0` does, operation for operation,
    so the results are bit-identical.

    Attributes:
        layer: this layer's name in image prompts; None where prompts play no part (self-attention).

    Source: arXiv 2308.06721, equation 5; diffusers models/attention_processor.py `AttnProcessor2_0`.
    """

    layer: str | None = None

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        image_prompt: ImagePromptBatch | None = None,
        regional_prompt: RegionalPromptBatch | None = None,
    ) -> Tensor:
        """Compute the attention of one layer.

        Args:
            attn: the layer, with its projections.
            hidden_states: (batch, sequence, channels), or (batch, channels, height, width).
            encoder_hidden_states: text tokens (batch, tokens, cross_attention_dim); None for self-attention.
            attention_mask: bias added to the text scores, as diffusers prepares it.
            temb: time embedding, used by layers with a spatial norm.
            image_prompt: the image prompts of this call, for the same rows as hidden_states.
            regional_prompt: the words that replace the text in parts of a picture, for the same rows.

        Returns:
            A tensor of the same shape as hidden_states.
        """
        residual = hidden_states
        if attn.spatial_norm is not None:
            hidden_states = attn.spatial_norm(hidden_states, temb)
        spatial_shape = hidden_states.shape[2:] if hidden_states.ndim == 4 else None
        if spatial_shape is not None:
            hidden_states = hidden_states.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)

        query = _split_heads(attn.to_q(hidden_states), attn.heads)
        out = _text_attention(attn, query, _context(attn, hidden_states, encoder_hidden_states), attention_mask)
        if regional_prompt is not None and self.layer is not None:
            out = _with_regions(out, attn=attn, query=query, regional_prompt=regional_prompt)
        if image_prompt is not None and self.layer is not None:
            out = _add_image_terms(out, query=query, image_prompt=image_prompt, layer=self.layer)

        to_out, dropout = cast("nn.ModuleList", attn.to_out)
        out = dropout(to_out(out))
        if spatial_shape is not None:
            out = out.transpose(-1, -2).unflatten(-1, spatial_shape)
        if attn.residual_connection:
            out = out + residual
        return out / attn.rescale_output_factor


def install_processors(unet: UNet2DConditionModel) -> None:
    """Install the processor in every attention layer of a UNet, once, when the model is loaded.

    No weight changes: the UNet then serves plain calls and calls with any adapter. Do not call anything that replaces
    the processors later (`enable_attention_slicing`, `enable_xformers_memory_efficient_attention`).

    Raises:
        UserError: the UNet has a sort of attention that Stable Diffusion does not have.
    """
    attention_layers(unet)
    for name in unet.attn_processors:
        if attention_module(unet, name).added_kv_proj_dim is not None:
            raise UserError("adapter.foreign_attention")
    processors = {name: IPAttnProcessor(name if is_cross_attention(name) else None) for name in unet.attn_processors}
    # The annotation lists diffusers' own processors, but any callable with their signature will do.
    unet.set_attn_processor(cast("dict[str, AttentionProcessor]", processors))


def _context(attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None) -> Tensor:
    """Return what keys and values are computed from: the text, or the hidden states themselves in self-attention."""
    if encoder_hidden_states is None:
        return hidden_states
    return attn.norm_encoder_hidden_states(encoder_hidden_states) if attn.norm_cross else encoder_hidden_states


def _text_attention(attn: Attention, query: Tensor, context: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Attend from query (batch, heads, sequence, head_dim) to context; return (batch, sequence, hidden)."""
    if attention_mask is not None:
        attention_mask = attn.prepare_attention_mask(attention_mask, context.shape[1], context.shape[0])
        attention_mask = attention_mask.view(context.shape[0], attn.heads, -1, attention_mask.shape[-1])
    to_k, to_v = cast("nn.Linear", attn.to_k), cast("nn.Linear", attn.to_v)
    key, value = _split_heads(to_k(context), attn.heads), _split_heads(to_v(context), attn.heads)
    if attn.norm_q is not None:
        query = attn.norm_q(query)
    if attn.norm_k is not None:
        key = attn.norm_k(key)
    return _merge_heads(F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)).to(query.dtype)


def _with_regions(out: Tensor, *, attn: Attention, query: Tensor, regional_prompt: RegionalPromptBatch) -> Tensor:
    """Mix in regional words: `(1 - sum s_i) * Attn(Q, K_text, V_text) + sum s_i * Attn(Q, K_i, V_i)`.

    Keys and values come from the layer's own projections, so this works in any UNet. Rows without regional words are
    not touched. Source: see `ipa_app.adapter.regional_prompt`.
    """
    regional_prompt.check_rows(out.shape[0])
    rows = regional_prompt.rows.to(query.device)
    rest = masks_of_layer(regional_prompt.rest, out.shape[1]).to(out)
    out = out.index_copy(0, rows, out.index_select(0, rows) * rest)
    for term in regional_prompt.terms:
        rows, regions = term.rows.to(query.device), term.states.shape[1]
        queries = query.index_select(0, rows).repeat_interleave(regions, dim=0)
        states = term.states.flatten(0, 1).to(query)
        said = _text_attention(attn, queries, _context(attn, states, states), None).unflatten(0, (-1, regions))
        shares = masks_of_layer(term.shares, out.shape[1]).transpose(1, 2).unsqueeze(-1).to(out)
        out = out.index_add(0, rows, (said * shares).sum(dim=1).to(out.dtype))
    return out


def _add_image_terms(out: Tensor, *, query: Tensor, image_prompt: ImagePromptBatch, layer: str) -> Tensor:
    """Add `scale * Attn(Q, K_img, V_img)` to the rows that have an image prompt.

    Other rows are not touched, not even by adding zero: they stay bit-identical to plain Stable Diffusion. Not in
    place, because the backward pass of the text attention may need its output unchanged.
    """
    image_prompt.check_rows(out.shape[0])
    for term in image_prompt.terms(layer):
        rows = term.rows.to(query.device)
        key, value = (_split_heads(x.to(query), query.shape[1]) for x in (term.key, term.value))
        image_out = _merge_heads(F.scaled_dot_product_attention(query.index_select(0, rows), key, value))
        if term.mask is not None:
            image_out = image_out * term.mask_for(image_out.shape[1]).to(image_out)
        out = out.index_add(0, rows, image_out.to(out.dtype))
    return out


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, length, hidden) to (batch, heads, length, head_dim)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _merge_heads(x: Tensor) -> Tensor:
    """(batch, heads, length, head_dim) to (batch, length, hidden)."""
    return x.transpose(1, 2).flatten(2)
