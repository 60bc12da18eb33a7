"""Where a picture says most in the least room: how much each of its latents counts in the loss."""

from __future__ import annotations

import numpy as np
import torch

HEAD_WEIGHT = 4.0
"""What a latent in the middle of a face counts beyond the 1 that every latent counts."""
HEAD_REACH = 0.13
"""Standard deviation of the weight about the face, in widths of the picture; a head is about 0.35 wide."""
FACE = (0, 14, 15)
"""Nose and eyes, in OpenPose order."""


def head_weights(keypoints: np.ndarray, shape: torch.Size) -> torch.Tensor:
    """Weights that count heads for more.

    A head is a tenth of the picture and holds species, face and most of what a character wears; in a plain mean
    it is learned last.

    Args:
        keypoints: (B, 18, 2) of the pictures' figures, in [0, 1], OpenPose order.
        shape: of the latents, (B, C, h, w).

    Returns:
        (B, 1, h, w) float32, 1 on average.
    """
    height, width = shape[-2:]
    centres = torch.from_numpy(keypoints[:, FACE].mean(axis=1)).float()
    down = (torch.arange(height) + 0.5) / height - centres[:, 1, None]
    across = (torch.arange(width) + 0.5) / width - centres[:, 0, None]
    squares = down[:, :, None].square() + across[:, None, :].square()
    weights = 1 + HEAD_WEIGHT * torch.exp(-squares / (2 * HEAD_REACH**2))
    return (weights / weights.mean())[:, None]
