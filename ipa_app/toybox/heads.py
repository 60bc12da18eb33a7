"""Where a picture says most in the least room: the weight of each latent in the loss."""

from __future__ import annotations

import numpy as np
import torch

HEAD_WEIGHT = 4.0
"""What a latent in the middle of a head weighs beyond the 1 that every latent weighs."""
HEAD_REACH = 0.13
"""Standard deviation of the weight about the face, in widths of the picture; a head is about 0.35 wide."""
_FACE = (0, 14, 15)
"""Nose and eyes, in OpenPose order."""


def weighted_mse(
    prediction: torch.Tensor, target: torch.Tensor, keypoints: np.ndarray, *, head_weight: float = HEAD_WEIGHT
) -> torch.Tensor:
    """Mean squared error in which heads count for more.

    A head is a tenth of the picture and holds species, face and most of what a character wears; in a plain mean
    it is learned last.

    Args:
        prediction: (B, C, h, w).
        target: (B, C, h, w).
        keypoints: (B, 18, 2) of the pictures' figures, in [0, 1], OpenPose order.
        head_weight: 0 gives the plain mean.
    """
    weights = 1 + head_weight * _nearness(torch.from_numpy(keypoints[:, _FACE].mean(axis=1)), target.shape[-2:])
    weights = (weights / weights.mean()).to(target)
    return (weights[:, None] * (prediction.float() - target).square()).mean()


def _nearness(centres: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """(B, h, w): 1 at each row's centre (x, y), falling off as a Gaussian."""
    height, width = shape
    down = (torch.arange(height) + 0.5) / height - centres[:, 1, None]
    across = (torch.arange(width) + 0.5) / width - centres[:, 0, None]
    squares = down[:, :, None].square() + across[:, None, :].square()
    return torch.exp(-squares / (2 * HEAD_REACH**2))
