"""The training loss: mean squared error of what the frozen UNet predicts with the picture's help."""

from __future__ import annotations

from diffusers import DDPMScheduler
from torch import Tensor
from torch.nn import functional

from ipa_app.training.examples import Draws, EncodedBatch


def clean_latents(batch: EncodedBatch, draws: Draws) -> Tensor:
    """One sample (B, C, h, w) of each example's posterior."""
    if batch.latents_std is None:
        return batch.latents
    return batch.latents + batch.latents_std * draws.posterior_noise.to(batch.latents.dtype)


def prediction_target(schedule: DDPMScheduler, latents: Tensor, *, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What the UNet should predict.

    epsilon: the noise; v_prediction: ``sqrt(alpha_bar) * noise - sqrt(1 - alpha_bar) * latents``.

    Args:
        schedule: of the base model, see :meth:`Components.noise_schedule`.
        latents: (B, C, h, w) without noise.
        noise: (B, C, h, w) standard normal.
        timesteps: (B,) integers.

    Source: Ho et al. 2020, eq. 14; Salimans & Ho 2022, appendix D.
    """
    if schedule.config["prediction_type"] == "epsilon":
        return noise
    return schedule.get_velocity(latents, noise, timesteps)


def mse(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean squared error of each example (B,), in float32 whatever the inputs are.

    Args:
        prediction: (B, C, h, w).
        target: (B, C, h, w).
        weights: (B, 1, h, w), how much each place counts, 1 on average; None counts all alike.
    """
    squares = functional.mse_loss(prediction.float(), target.float(), reduction="none")
    return (squares if weights is None else squares * weights).mean(dim=(1, 2, 3))
