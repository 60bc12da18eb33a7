"""From the data set's uint8 pictures to what the networks take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPImageProcessorPil

# OpenAI's CLIP statistics, which CLIPImageProcessor applies by default.
_CLIP = CLIPImageProcessorPil()
CLIP_MEAN = torch.tensor(_CLIP.image_mean).view(1, 3, 1, 1)
CLIP_STD = torch.tensor(_CLIP.image_std).view(1, 3, 1, 1)

Rows = np.ndarray | torch.Tensor
"""One row per picture: an array of a split, or what `at_hand` makes of it."""


def at_hand(array: np.ndarray, device: torch.device) -> Rows:
    """An array that batches are taken from: in a GPU's own memory, where that costs a step no time, else as it is."""
    return array if device.type == "cpu" else torch.from_numpy(array).to(device)


def taken(array: Rows, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The given ``rows`` (B,) of an array, on the device."""
    if isinstance(array, torch.Tensor):
        return array[rows.to(array.device, non_blocking=True)].to(device)
    return torch.from_numpy(np.ascontiguousarray(array[rows.numpy()])).to(device)


def normal(shape: Sequence[int], generator: torch.Generator, device: torch.device) -> torch.Tensor:
    """Standard normal numbers on the device, decided by a CPU generator.

    A GPU draws its own, from a seed that the generator gives: the millions that a large batch needs would take a CPU
    longer than all the rest of the step.
    """
    if device.type == "cpu":
        return torch.randn(shape, generator=generator)
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.randn(shape, generator=torch.Generator(device).manual_seed(seed), device=device)


def pixels(images: Rows, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Pictures for the VAE.

    Args:
        images: (N, H, W, 3) uint8.
        rows: (B,) indices.
        device: where the result lives.

    Returns:
        (B, 3, H, W) float32 in [-1, 1], channels last in memory (faster convolutions on a CPU).
    """
    batch = taken(images, rows, device).permute(0, 3, 1, 2)
    return batch.to(dtype=torch.float32, memory_format=torch.channels_last) / 127.5 - 1


def clip_pixels(batch: torch.Tensor, size: int) -> torch.Tensor:
    """Pictures for the vision tower.

    Args:
        batch: (B, 3, H, W) in [-1, 1], square.
        size: side that the tower sees.

    Returns:
        (B, 3, size, size), normalised as CLIPImageProcessor does.
    """
    if batch.shape[-1] != size:
        batch = F.interpolate(batch, size=(size, size), mode="bicubic", antialias=True).clamp(-1, 1)
    return ((batch + 1) / 2 - CLIP_MEAN.to(batch)) / CLIP_STD.to(batch)
