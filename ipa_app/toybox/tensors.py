"""From the data set's uint8 pictures to what the networks take."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPImageProcessorPil

# OpenAI's CLIP statistics, which CLIPImageProcessor applies by default.
_CLIP = CLIPImageProcessorPil()
CLIP_MEAN = torch.tensor(_CLIP.image_mean).view(1, 3, 1, 1)
CLIP_STD = torch.tensor(_CLIP.image_std).view(1, 3, 1, 1)


def pixels(images: np.ndarray, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Pictures for the VAE.

    Args:
        images: (N, H, W, 3) uint8.
        rows: (B,) indices.
        device: where the result lives.

    Returns:
        (B, 3, H, W) float32 in [-1, 1], channels last in memory (faster convolutions on a CPU).
    """
    order = rows.numpy()
    batch = torch.from_numpy(np.ascontiguousarray(images[order])).to(device)
    return batch.permute(0, 3, 1, 2).to(dtype=torch.float32, memory_format=torch.channels_last) / 127.5 - 1


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
