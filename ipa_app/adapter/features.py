"""Encoding pictures to CLIP image features, for both sides of classifier-free guidance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ipa_app.adapter.kinds import HIDDEN_STATES, IMAGE_EMBEDS, KINDS

if TYPE_CHECKING:
    from transformers import CLIPVisionModelWithProjection


class ImageFeatures(NamedTuple):
    """Features of pictures (cond) and of "no picture" (uncond), of the same shape."""

    cond: Tensor
    uncond: Tensor


def encode_image(image_encoder: CLIPVisionModelWithProjection, pixel_values: Tensor, kind: str) -> ImageFeatures:
    """Encode pictures into the features that an adapter of this kind was trained on.

    For adapters that take image embeddings, "no picture" is a zero embedding. For the others it is what the image
    encoder returns for pixels that are zero after normalisation (a picture of the mean colour). It is never zero
    tokens.

    Args:
        image_encoder: the image encoder.
        pixel_values: (batch, 3, height, width), normalised as the encoder's own processor does.
        kind: the adapter's kind, a name in `KINDS`.

    Returns:
        Pooled, projected `image_embeds` (batch, projection_dim), or the penultimate hidden states (batch, sequence,
        hidden_size).

    Source: tencent-ailab/IP-Adapter, ip_adapter.py `get_image_embeds`; diffusers `encode_image`.
    """
    pixel_values = pixel_values.to(device=image_encoder.device, dtype=image_encoder.dtype)
    return _ENCODE[KINDS[kind].features.name](image_encoder, pixel_values)


def _image_embeds(image_encoder: CLIPVisionModelWithProjection, pixel_values: Tensor) -> ImageFeatures:
    image_embeds = image_encoder(pixel_values).image_embeds
    return ImageFeatures(image_embeds, torch.zeros_like(image_embeds))


def _hidden_states(image_encoder: CLIPVisionModelWithProjection, pixel_values: Tensor) -> ImageFeatures:
    hidden = image_encoder(pixel_values, output_hidden_states=True).hidden_states[-2]
    # "No picture" is the same for every row. An offloaded encoder is on the GPU by now: ask for its device again.
    zeros = torch.zeros_like(pixel_values[:1], device=image_encoder.device)
    nothing = image_encoder(zeros, output_hidden_states=True).hidden_states[-2]
    return ImageFeatures(hidden, nothing.expand_as(hidden))


_ENCODE: dict[str, Callable[[CLIPVisionModelWithProjection, Tensor], ImageFeatures]] = {
    IMAGE_EMBEDS.name: _image_embeds,
    HIDDEN_STATES.name: _hidden_states,
}
