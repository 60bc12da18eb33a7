"""Loss weights of latents, which emphasise the small parts of a picture that hold the most information."""

from __future__ import annotations

from typing import NamedTuple

import torch

FACE = (0, 14, 15)
"""Nose and eyes, in OpenPose order."""
NOSE = (0,)
"""The nose, which mouth and eyes surround."""
BODY = (1, 8, 11)
"""Neck and hips."""
LIMBS = (3, 4, 6, 7, 9, 10, 12, 13)
"""Elbows and wrists, knees and ankles: their positions are what words for a pose mean."""


class Emphasis(NamedTuple):
    """A part of the figure with a higher weight.

    Attributes:
        joints: the joints around whose mean it is centred.
        weight: weight at the centre, added to the 1 of every latent.
        reach: standard deviation of the weight around the centre, in picture widths.
    """

    joints: tuple[int, ...]
    weight: float
    reach: float


EMPHASES = (
    Emphasis(FACE, weight=4.0, reach=0.14),
    Emphasis(NOSE, weight=10.0, reach=0.06),
    Emphasis(BODY, weight=3.0, reach=0.08),
    *(Emphasis((joint,), weight=2.5, reach=0.04) for joint in LIMBS),
)
"""A head is about 0.35 wide with its hat on, the front of a shirt 0.2, an arm 0.07, a mouth 0.05 below the nose."""


def loss_weights(keypoints: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Return loss weights that emphasise heads, faces, shirts and limbs.

    A head is a tenth of the picture and holds species, face and most of what a character wears, a shirt holds its
    pattern in less, limbs are thin, and a mouth is a few latents; in a plain mean they are learned last.

    Args:
        keypoints: (B, 18, 2) of the pictures' figures, in [0, 1], OpenPose order.
        shape: of the latents, (B, C, h, w).

    Returns:
        (B, 1, h, w) float32, 1 on average over each picture, where the keypoints are.
    """
    height, width = shape[-2:]
    weights = keypoints.new_ones(len(keypoints), height, width)
    for part in EMPHASES:
        centres = keypoints[:, list(part.joints)].mean(dim=1)
        down = (torch.arange(height).to(weights) + 0.5) / height - centres[:, 1, None]
        across = (torch.arange(width).to(weights) + 0.5) / width - centres[:, 0, None]
        squares = down[:, :, None].square() + across[:, None, :].square()
        weights += part.weight * torch.exp(-squares / (2 * part.reach**2))
    return (weights / weights.mean(dim=(1, 2), keepdim=True))[:, None]
