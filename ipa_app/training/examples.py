"""The batch contract between data preparation and the training loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TrainingBatch:
    """Examples for one pass, each part either raw or already encoded by the frozen base model.

    What the base model computes from an example stays the same for the whole run, so a caller with memory to
    spare passes encoded parts; the loop encodes raw ones. Nothing is dropped here: the loop draws which examples
    are trained without text or picture.

    Exactly one of each pair must be given; all have the same number of rows B.

    Attributes:
        latents: (B, C, h, w) mean of the VAE's posterior times its scaling factor: what the UNet works on.
        latents_std: (B, C, h, w) its standard deviation times the scaling factor; None uses the mean without sampling.
        pixel_values: (B, 3, H, W) in [-1, 1], instead of `latents`.
        text_states: (B, L, D) hidden states of the text encoder; those of SDXL's two are concatenated.
        pooled_text: (B, P) pooled text embedding of SDXL's second text encoder, in addition to `text_states`.
        input_ids: (B, E, L) token ids for each of E text encoders, padded to the tokenizer's length, instead of
            `text_states`.
        time_ids: (B, 6) SDXL's size conditions: original height and width, top and left of the crop, target height
            and width. By default those of uncropped pictures of the latents' size.
        features: the image encoder's output for the reference: (B, clip_dim) `image_embeds` for a base adapter,
            (B, S, hidden) `hidden_states[-2]` for a plus adapter.
        clip_pixels: (B, 3, S, S) normalised input of the image encoder, instead of `features`.
        loss_weights: (B, 1, h, w) weight of each latent in the loss, 1 on average; None weights all equally.
    """

    latents: Tensor | None = None
    latents_std: Tensor | None = None
    pixel_values: Tensor | None = None
    text_states: Tensor | None = None
    pooled_text: Tensor | None = None
    input_ids: Tensor | None = None
    time_ids: Tensor | None = None
    features: Tensor | None = None
    clip_pixels: Tensor | None = None
    loss_weights: Tensor | None = None

    def __post_init__(self) -> None:
        """Check the contract; batches are built by code, so a violation is a bug there."""
        for encoded, raw in (("latents", "pixel_values"), ("text_states", "input_ids"), ("features", "clip_pixels")):
            if (getattr(self, encoded) is None) == (getattr(self, raw) is None):
                raise ValueError(f"a TrainingBatch needs either {encoded} or {raw}")
        if len({len(part) for part in self._parts()}) != 1:
            raise ValueError("the parts of a TrainingBatch differ in their number of rows")

    def __len__(self) -> int:
        """Number of examples B."""
        return len(self._parts()[0])

    def _parts(self) -> list[Tensor]:
        values = (getattr(self, item.name) for item in fields(self))
        return [value for value in values if value is not None]


@dataclass(frozen=True, kw_only=True)
class EncodedBatch:
    """An encoded batch, on the device and in the precision of the frozen model.

    Attributes:
        latents: (B, C, h, w) posterior mean, scaled.
        latents_std: (B, C, h, w) or None, see `TrainingBatch`.
        text_states: (B, L, D).
        features: (B, clip_dim) or (B, S, hidden).
        pooled_text: (B, P) for SDXL, else None.
        time_ids: (B, 6) float32 for SDXL, else None.
        loss_weights: (B, 1, h, w) float32 or None, see `TrainingBatch`.
    """

    latents: Tensor
    latents_std: Tensor | None
    text_states: Tensor
    features: Tensor
    pooled_text: Tensor | None = None
    time_ids: Tensor | None = None
    loss_weights: Tensor | None = None

    def __len__(self) -> int:
        """Number of examples B."""
        return len(self.latents)

    def without_text(self, which: Tensor, empty: TextStates) -> EncodedBatch:
        """Return the batch with the empty text in the rows where `which` (B,) is true."""
        states = _replace_rows(self.text_states, which, empty.states)
        if self.pooled_text is None or empty.pooled is None:
            return replace(self, text_states=states)
        return replace(self, text_states=states, pooled_text=_replace_rows(self.pooled_text, which, empty.pooled))

    def without_image(self, which: Tensor, empty: Tensor) -> EncodedBatch:
        """Return the batch with the features `empty` (1, ...) of "no picture" where `which` (B,) is true."""
        return replace(self, features=_replace_rows(self.features, which, empty))


class TextStates(NamedTuple):
    """The text encoders' output for B texts.

    Attributes:
        states: (B, L, D) hidden states; those of SDXL's two encoders are concatenated.
        pooled: (B, P) pooled embedding of SDXL's second encoder; None for other models.
    """

    states: Tensor
    pooled: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Draws:
    """The random numbers of one batch.

    Attributes:
        timesteps: (B,) integers within the schedule.
        noise: (B, C, h, w) standard normal, added to the latents.
        posterior_noise: (B, C, h, w) standard normal, selects the sample of the VAE's posterior.
        no_text: (B,) bool, examples trained without text.
        no_image: (B,) bool, examples trained without picture.
    """

    timesteps: Tensor
    noise: Tensor
    posterior_noise: Tensor
    no_text: Tensor
    no_image: Tensor

    @classmethod
    def cat(cls, rows: Sequence[Draws]) -> Draws:
        """Concatenate the draws of several batches."""
        return cls(**{item.name: torch.cat([getattr(row, item.name) for row in rows]) for item in fields(cls)})

    def to(self, device: torch.device) -> Draws:
        """Move the draws to a device."""
        return Draws(**{item.name: getattr(self, item.name).to(device) for item in fields(self)})


def draw(
    shape: torch.Size,
    *,
    generator: torch.Generator,
    num_train_timesteps: int,
    drop_text: float,
    drop_image: float,
    drop_both: float,
    late: bool = False,
) -> Draws:
    """Draw the random numbers of one batch.

    One number per example decides whether it loses its text, its picture, both or neither, so the three shares
    are exact and mutually exclusive.

    Args:
        shape: of the latents, (B, C, h, w).
        generator: a CPU generator, so that every device trains on the same draws.
        num_train_timesteps: timesteps range from 0 to this, exclusive.
        drop_text: share without text, in [0, 1].
        drop_image: share without picture.
        drop_both: share without either.
        late: prefer noisy timesteps, where a picture's layout and main colours are decided.

    Source: tencent-ailab/IP-Adapter tutorial_train.py, MyDataset.__getitem__; Mou et al. 2023 (T2I-Adapter),
    section 3.3, for `late`.
    """
    lot = torch.rand(shape[0], generator=generator)
    places = torch.rand(shape[0], generator=generator, dtype=torch.float64)
    if late:
        places = 1 - places**3
    both = (lot >= drop_text + drop_image) & (lot < drop_text + drop_image + drop_both)
    return Draws(
        timesteps=(places * num_train_timesteps).long().clamp(max=num_train_timesteps - 1),
        noise=torch.randn(shape, generator=generator),
        posterior_noise=torch.randn(shape, generator=generator),
        no_text=(lot < drop_text) | both,
        no_image=((lot >= drop_text) & (lot < drop_text + drop_image)) | both,
    )


def _replace_rows(rows: Tensor, which: Tensor, empty: Tensor) -> Tensor:
    """Return `rows` (B, ...) with `empty` (1, ...) in the rows where `which` (B,) is true."""
    return torch.where(which.view(-1, *[1] * (rows.ndim - 1)), empty.to(rows.dtype), rows)
