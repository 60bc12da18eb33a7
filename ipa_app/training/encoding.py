"""Everything the frozen base model computes from an example: latents, text states, image features."""

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
"""Pixels the VAE encodes at a time: each takes some kilobytes, so a few large pictures would take gigabytes."""


class FrozenEncoder:
    """Encodes the raw parts of batches for the training loop, without gradients.

    Attributes:
        device: of the base model and of all results.
        dtype: precision of the base model and of all results.
        empty_text: states of the empty text, one row, used for examples without text.
        empty_features: (1, ...) features of "no picture", the unconditional input for the adapter's kind.
    """

    def __init__(self, base: Components, *, kind: str) -> None:
        """Encode the empty text and the missing picture once.

        Args:
            base: already frozen and on its device.
            kind: of the adapter.
        """
        self._base = base
        self._kind = kind
        # Read once, not at every step: a model searches all of its modules for them.
        self.device, self.dtype = base.unet.device, base.unet.dtype
        self.empty_text = self.text_states(self.input_ids([""]))
        side = base.image_encoder.config.image_size
        self.empty_features = self.image_features(torch.zeros(1, 3, side, side)).uncond

    def input_ids(self, texts: Sequence[str]) -> Tensor:
        """Return the token ids (B, E, L) of texts; see `Components.input_ids`."""
        return self._base.input_ids(texts)

    def are_cut(self, texts: Sequence[str]) -> list[bool]:
        """Return for each text whether it is truncated because it is too long for a text encoder."""
        cut = [False] * len(texts)
        for tokenizer in self._base.tokenizers:
            ids = tokenizer(list(texts), verbose=False).input_ids if texts else []
            cut = [known or len(row) > tokenizer.model_max_length for known, row in zip(cut, ids, strict=True)]
        return cut

    def clip_pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """Return the image encoder's normalised input (B, 3, S, S), by the base model's own image processor."""
        return self._base.image_processor(images=list(images), return_tensors="pt").pixel_values

    @torch.no_grad()
    def text_states(self, input_ids: Tensor) -> TextStates:
        """Encode token ids (B, E, L) with the text encoders."""
        base, ids = self._base, input_ids.to(self.device)
        ends = torch.tensor([tokenizer.eos_token_id for tokenizer in base.tokenizers], device=self.device)
        is_end = (ids == ends[:, None]).long()
        # What comes after the first end token is padding, which may be end tokens, too.
        mask = (is_end.cumsum(-1) - is_end == 0).long()
        return TextStates(*base.family.encode_text(base.text_encoders, ids, mask))

    @torch.no_grad()
    def image_features(self, clip_pixels: Tensor) -> ImageFeatures:
        """Return the features of the reference pictures and of "no picture"."""
        return encode_image(self._base.image_encoder, clip_pixels.to(self.device, self.dtype), self._kind)

    @torch.no_grad()
    def posterior(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation (B, C, h, w) of the VAE's posterior, scaled as the UNet expects."""
        vae = self._base.vae
        rows = max(1, PIXELS_AT_A_TIME // pixel_values[0, 0].numel())
        parts = [vae.encode(part.to(self.device, vae.dtype)).latent_dist for part in pixel_values.split(rows)]
        means, deviations = ([getattr(part, name) for part in parts] for name in ("mean", "std"))
        return scaled(torch.cat(means), vae.config), scaled_deviation(torch.cat(deviations), vae.config)

    def encode(self, batch: TrainingBatch) -> EncodedBatch:
        """Encode the raw parts of a batch and move the rest to the device."""
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
        """Return the UNet's added conditions (`added_cond_kwargs`) besides the text; None if it takes none."""
        return self._base.family.added_conditions(batch.pooled_text, batch.time_ids)

    def _time_ids(self, given: Tensor | None, shape: torch.Size) -> Tensor | None:
        """Return the time ids (B, 6) of B targets; without given ones, the targets count as uncropped pictures."""
        height, width = (side * self._base.latent_factor for side in shape[-2:])
        whole = self._base.family.time_ids(height, width)
        if not whole:
            return None
        return (torch.tensor([whole] * shape[0]) if given is None else given).to(self.device, torch.float32)


def _given(part: Tensor | None) -> Tensor:
    """Return a raw part, which a TrainingBatch holds if it lacks the encoded one."""
    if part is None:
        raise ValueError("the batch holds neither the raw nor the encoded part")
    return part
