"""Everything the frozen base model computes from an example: latents, text states, picture features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from ipa_app.adapter.features import ImageFeatures, encode_image
from ipa_app.adapter.kinds import AdapterKind
from ipa_app.training.components import Components
from ipa_app.training.examples import EncodedBatch, TrainingBatch


class FrozenEncoder:
    """Turns raw parts of batches into what the loop works on, without gradients.

    Attributes:
        empty_text: (1, L, D) states of the empty text, what an example without text is trained on.
        empty_features: (1, ...) features of "no picture", the unconditional side of the adapter's kind.
    """

    def __init__(self, base: Components, *, kind: AdapterKind) -> None:
        """Encode the empty text and the missing picture once.

        Args:
            base: frozen and on its device already.
            kind: of the adapter.
        """
        self._base = base
        self._kind = kind
        self.empty_text = self.text_states(self.input_ids([""]))
        side = base.image_encoder.config.image_size
        self.empty_features = self.image_features(torch.zeros(1, 3, side, side)).uncond

    @property
    def device(self) -> torch.device:
        """Where the base model is, and all results are."""
        return self._base.unet.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the base model and of all results."""
        return self._base.unet.dtype

    def input_ids(self, texts: Sequence[str]) -> Tensor:
        """Token ids (B, L), cut and padded to the tokenizer's length."""
        tokenizer = self._base.tokenizer
        return tokenizer(
            list(texts),
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids

    def clip_pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """Normalised input (B, 3, S, S) of the vision tower, by the base model's own image processor."""
        return self._base.image_processor(images=list(images), return_tensors="pt").pixel_values

    @torch.no_grad()
    def text_states(self, input_ids: Tensor) -> Tensor:
        """Last hidden states (B, L, D) of the text encoder."""
        return self._base.text_encoder(input_ids.to(self.device))[0]

    @torch.no_grad()
    def image_features(self, clip_pixels: Tensor) -> ImageFeatures:
        """Features of the reference pictures and of "no picture"."""
        return encode_image(self._base.image_encoder, clip_pixels.to(self.device, self.dtype), self._kind)

    @torch.no_grad()
    def posterior(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (B, C, h, w) of the VAE's posterior, times its scaling factor."""
        vae = self._base.vae
        distribution = vae.encode(pixel_values.to(self.device, self.dtype)).latent_dist
        scaling = vae.config["scaling_factor"]
        return distribution.mean * scaling, distribution.std * scaling

    def encode(self, batch: TrainingBatch) -> EncodedBatch:
        """Encode what came raw and move the rest to the device."""
        if batch.latents is None:
            latents, std = self.posterior(_given(batch.pixel_values))
        else:
            latents, std = batch.latents, batch.latents_std
        states = self.text_states(_given(batch.input_ids)) if batch.text_states is None else batch.text_states
        features = self.image_features(_given(batch.clip_pixels)).cond if batch.features is None else batch.features
        return EncodedBatch(
            latents=latents.to(self.device, self.dtype),
            latents_std=None if std is None else std.to(self.device, self.dtype),
            text_states=states.to(self.device, self.dtype),
            features=features.to(self.device, self.dtype),
            loss_weights=None if batch.loss_weights is None else batch.loss_weights.to(self.device),
        )


def _given(part: Tensor | None) -> Tensor:
    """A part that a TrainingBatch holds because it lacks its encoded twin."""
    if part is None:
        raise ValueError("the batch holds neither the raw nor the encoded part")
    return part
