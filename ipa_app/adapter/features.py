"""From pictures to the vision tower's features, for both sides of classifier-free guidance."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import CLIPVisionModelWithProjection

    from ipa_app.adapter.kinds import AdapterKind


class ImageFeatures(NamedTuple):
    """Features of pictures (cond) and of "no picture" (uncond), of the same shape."""

    cond: Tensor
    uncond: Tensor


def encode_image(
    image_encoder: CLIPVisionModelWithProjection, pixel_values: Tensor, kind: AdapterKind
) -> ImageFeatures:
    """Encode pictures as an adapter of this kind was trained to see them.

    "No picture" is a zero embedding for base, and for the others the tower run on zero pixels after
    normalisation (a picture of the mean colour). It is not zero tokens.

    Args:
        image_encoder: the vision tower.
        pixel_values: (batch, 3, height, width), normalised as the tower's processor does it.
        kind: the adapter's kind.

    Returns:
        base: pooled, projected ``image_embeds`` (batch, projection_dim). Others: the last hidden states but
        one (batch, sequence, hidden_size).

    Source: tencent-ailab/IP-Adapter, ip_adapter.py ``get_image_embeds``; diffusers ``encode_image``.
    """
    pixel_values = pixel_values.to(device=image_encoder.device, dtype=image_encoder.dtype)
    if kind == "base":
        image_embeds = image_encoder(pixel_values).image_embeds
        return ImageFeatures(image_embeds, torch.zeros_like(image_embeds))
    hidden = image_encoder(pixel_values, output_hidden_states=True).hidden_states[-2]
    # "No picture" is the same for every row.
    nothing = image_encoder(torch.zeros_like(pixel_values[:1]), output_hidden_states=True).hidden_states[-2]
    return ImageFeatures(hidden, nothing.expand_as(hidden))
