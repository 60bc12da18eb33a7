"""Everything the frozen base model computes from an example: latents, text states, picture features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from ipa_app.adapter.features import ImageFeatures, encode_image
from ipa_app.models.latents import scaled, scaled_deviation
from ipa_app.training.components import Components
from ipa_app.training.examples import EncodedBatch, TextStates, TrainingBatch

PIXELS_AT_A_TIME = 2**20
"""Pixels the VAE encodes at a time: it needs some kilobytes for each, which is gigabytes for a few large pictures."""


class FrozenEncoder:
    """Turns raw parts of batches into what the loop works on, without gradients.

    Attributes:
        device: where the base model is, and all results are.
        dtype: precision of the base model and of all results.
        empty_text: of one row, the empty text: what an example without text is trained on.
        empty_features: (1, ...) features of "no picture", the unconditional side of the adapter's kind.
    """

    def __init__(self, base: Components, *, kind: str) -> None:
        """Encode the empty text and the missing picture once.

        Args:
            base: frozen and on its device already.
            kind: of the adapter.
        """
        self._base = base
        self._kind = kind
        # Not asked for at every step: a model looks through all of its modules to tell them.
        self.device, self.dtype = base.unet.device, base.unet.dtype
        self.empty_text = self.text_states(self.input_ids([""]))
        side = base.image_encoder.config.image_size
        self.empty_features = self.image_features(torch.zeros(1, 3, side, side)).uncond

    def input_ids(self, texts: Sequence[str]) -> Tensor:
        """Token ids (B, E, L) for each of E text encoders, cut and padded to the tokenizer's length."""
        ids = [
            tokenizer(
                list(texts),
                padding="max_length",
                max_length=tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            ).input_ids
            for tokenizer in self._base.tokenizers
        ]
        return torch.stack(ids, dim=1)

    def are_cut(self, texts: Sequence[str]) -> list[bool]:
        """Return for each text whether it is longer than what a text encoder reads, so that its end is not seen."""
        cut = [False] * len(texts)
        for tokenizer in self._base.tokenizers:
            ids = tokenizer(list(texts), verbose=False).input_ids if texts else []
            cut = [known or len(row) > tokenizer.model_max_length for known, row in zip(cut, ids, strict=True)]
        return cut

    def clip_pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """Normalised input (B, 3, S, S) of the image encoder, by the base model's own image processor."""
        return self._base.image_processor(images=list(images), return_tensors="pt").pixel_values

    @torch.no_grad()
    def text_states(self, input_ids: Tensor) -> TextStates:
        """What the text encoders say of token ids (B, E, L)."""
        base = self._base
        return TextStates(*base.family.encode_text(base.text_encoders, input_ids.to(self.device)))

    @torch.no_grad()
    def image_features(self, clip_pixels: Tensor) -> ImageFeatures:
        """Features of the reference pictures and of "no picture"."""
        return encode_image(self._base.image_encoder, clip_pixels.to(self.device, self.dtype), self._kind)

    @torch.no_grad()
    def posterior(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (B, C, h, w) of the VAE's posterior, in the range that the UNet sees."""
        vae = self._base.vae
        rows = max(1, PIXELS_AT_A_TIME // pixel_values[0, 0].numel())
        parts = [vae.encode(part.to(self.device, vae.dtype)).latent_dist for part in pixel_values.split(rows)]
        means, deviations = ([getattr(part, name) for part in parts] for name in ("mean", "std"))
        return scaled(torch.cat(means), vae.config), scaled_deviation(torch.cat(deviations), vae.config)

    def encode(self, batch: TrainingBatch) -> EncodedBatch:
        """Encode what came raw and move the rest to the device."""
        if batch.latents is None:
            latents, std = self.posterior(_given(batch.pixel_values))
        else:
            latents, std = batch.latents, batch.latents_std
        if batch.text_states is None:
            states, pooled = self.text_states(_given(batch.input_ids))
        else:
            states, pooled = batch.text_states, batch.pooled_text
        features = self.image_features(_given(batch.clip_pixels)).cond if batch.features is None else batch.features
        return EncodedBatch(
            latents=latents.to(self.device, self.dtype),
            latents_std=None if std is None else std.to(self.device, self.dtype),
            text_states=states.to(self.device, self.dtype),
            features=features.to(self.device, self.dtype),
            pooled_text=None if pooled is None else pooled.to(self.device, self.dtype),
            time_ids=self._time_ids(batch.time_ids, latents.shape),
            loss_weights=None if batch.loss_weights is None else batch.loss_weights.to(self.device),
        )

    def added(self, batch: EncodedBatch) -> dict[str, Tensor] | None:
        """What the base model's UNet is told beside the text, by its own names; None where it is told nothing."""
        return self._base.family.added_conditions(batch.pooled_text, batch.time_ids)

    def _time_ids(self, given: Tensor | None, shape: torch.Size) -> Tensor | None:
        """What the UNet is told of B targets (B, 6); those that nothing is known of are whole pictures."""
        height, width = (side * self._base.latent_factor for side in shape[-2:])
        whole = self._base.family.time_ids(height, width)
        if not whole:
            return None
        return (torch.tensor([whole] * shape[0]) if given is None else given).to(self.device, torch.float32)


def _given(part: Tensor | None) -> Tensor:
    """A part that a TrainingBatch holds because it lacks its encoded twin."""
    if part is None:
        raise ValueError("the batch holds neither the raw nor the encoded part")
    return part
