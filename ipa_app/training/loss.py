"""The training loss (mean squared error of the UNet's prediction guided by the picture) and the held-out loss.

The latter uses the same examples, timesteps and noise every time, with and without the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from diffusers import DDPMScheduler
from torch import Tensor
from torch.nn import functional

from ipa_app.training.encoding import FrozenEncoder
from ipa_app.training.examples import Draws, EncodedBatch, TrainingBatch
from ipa_app.training.reports import HeldoutReport


def clean_latents(batch: EncodedBatch, draws: Draws) -> Tensor:
    """Sample (B, C, h, w) each example's posterior, in float32, as half precision would lose the smallest noise."""
    if batch.latents_std is None:
        return batch.latents.float()
    return batch.latents.float() + batch.latents_std.float() * draws.posterior_noise


def prediction_target(schedule: DDPMScheduler, latents: Tensor, *, noise: Tensor, timesteps: Tensor) -> Tensor:
    """Return what the UNet should predict.

    epsilon: the noise; v_prediction: `sqrt(alpha_bar) * noise - sqrt(1 - alpha_bar) * latents`.

    Args:
        schedule: of the base model, see `Components.noise_schedule`.
        latents: (B, C, h, w) without noise.
        noise: (B, C, h, w) standard normal.
        timesteps: (B,) integers.

    Source: Ho et al. 2020, eq. 14; Salimans & Ho 2022, appendix D.
    """
    if schedule.config["prediction_type"] == "epsilon":
        return noise
    return schedule.get_velocity(latents, noise, timesteps)


def mse(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean squared error of each example (B,), in float32 whatever the inputs are.

    Args:
        prediction: (B, C, h, w).
        target: (B, C, h, w).
        weights: (B, 1, h, w) weight of each position, 1 on average; None weights all equally.
    """
    squares = functional.mse_loss(prediction.float(), target.float(), reduction="none")
    return (squares if weights is None else squares * weights).mean(dim=(1, 2, 3))


TIMESTEPS = 5
"""Number of noise levels measured: the centres of this many equal parts of the schedule."""


class Predict(Protocol):
    """Predicts from noisy latents, guided by a batch's texts and, if asked, its pictures."""

    def __call__(self, noisy: Tensor, timesteps: Tensor, batch: EncodedBatch, *, image: bool) -> Tensor:
        """Predict (B, C, h, w)."""
        ...


class HeldoutLoss:
    """Measures an adapter repeatedly under the same conditions.

    Source: tencent-ailab/IP-Adapter issue 253: the training loss is no guide, as its noise hides what is learned.
    """

    def __init__(
        self, batches: Sequence[TrainingBatch], *, encoder: FrozenEncoder, schedule: DDPMScheduler, seed: int
    ) -> None:
        """Encode the examples and draw their noise once.

        Args:
            batches: held-out examples; nothing can be measured without any.
            encoder: of the frozen base model.
            schedule: see `Components.noise_schedule`.
            seed: of the noise.
        """
        generator = torch.Generator().manual_seed(seed)
        self._schedule = schedule
        self._empty_text = encoder.empty_text
        self._batches: list[tuple[EncodedBatch, Tensor]] = []
        for batch in batches:
            encoded = encoder.encode(batch)
            noise = torch.randn(encoded.latents.shape, generator=generator).to(encoded.latents.device)
            self._batches.append((encoded, noise))
        self._without_image: float | None = None

    def __len__(self) -> int:
        """Return the number of batches measured."""
        return len(self._batches)

    def measure(self, predict: Predict, *, step: int) -> HeldoutReport:
        """Compute the mean loss over all examples and timesteps.

        Args:
            predict: the frozen UNet with the adapter as it is now.
            step: steps done.
        """
        if self._without_image is None:  # the frozen model's own loss never changes
            self._without_image = self._mean(predict, image=False, text=True)
        return HeldoutReport(
            step=step,
            with_image=self._mean(predict, image=True, text=True),
            without_image=self._without_image,
            image_only=self._mean(predict, image=True, text=False),
        )

    @torch.no_grad()
    def _mean(self, predict: Predict, *, image: bool, text: bool) -> float:
        total = self._schedule.config["num_train_timesteps"]
        losses = []
        for batch, noise in self._batches:
            everywhere = torch.ones(len(batch), dtype=torch.bool, device=noise.device)
            seen, latents = batch if text else batch.without_text(everywhere, self._empty_text), batch.latents.float()
            for part in range(TIMESTEPS):
                timesteps = torch.full((len(batch),), int((part + 0.5) * total / TIMESTEPS), device=noise.device)
                noisy = self._schedule.add_noise(latents, noise, timesteps).to(batch.latents.dtype)
                target = prediction_target(self._schedule, latents, noise=noise, timesteps=timesteps)
                prediction = predict(noisy, timesteps, seen, image=image)
                losses.append(mse(prediction, target))
        return torch.cat(losses).mean().item()
