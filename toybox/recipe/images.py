"""Convert pictures for the networks and back, and log the figures of a stage."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.utils import make_image_grid
from PIL import Image
from transformers import CLIPImageProcessorPil

logger = logging.getLogger(__name__)

# OpenAI's CLIP statistics, which CLIPImageProcessor applies by default.
_CLIP = CLIPImageProcessorPil()
CLIP_MEAN = torch.tensor(_CLIP.image_mean).view(1, 3, 1, 1)
CLIP_STD = torch.tensor(_CLIP.image_std).view(1, 3, 1, 1)

Rows = np.ndarray | torch.Tensor
"""One row per picture: an array of a split, or the result of `on_device`."""


def on_device(array: np.ndarray, device: torch.device) -> Rows:
    """Move an array to GPU memory, from which batches are taken at no cost; on a CPU, return it unchanged."""
    return array if device.type == "cpu" else torch.from_numpy(array).to(device)


def take_rows(array: Rows, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return the given `rows` (B,) of an array, on the device."""
    if isinstance(array, torch.Tensor):
        return array[rows.to(array.device, non_blocking=True)].to(device)
    return torch.from_numpy(np.ascontiguousarray(array[rows.numpy()])).to(device)


def normal(shape: Sequence[int], generator: torch.Generator, device: torch.device) -> torch.Tensor:
    """Draw standard normal numbers on the device, determined by a CPU generator.

    A GPU draws them itself from a seed of the generator: drawing the millions that a large batch needs would take a CPU
    longer than the rest of the step.
    """
    if device.type == "cpu":
        return torch.randn(shape, generator=generator)
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.randn(shape, generator=torch.Generator(device).manual_seed(seed), device=device)


def pixels(images: Rows, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Convert pictures for the VAE.

    Args:
        images: (N, H, W, 3) uint8.
        rows: (B,) indices.
        device: of the result.

    Returns:
        (B, 3, H, W) float32 in [-1, 1], channels last in memory (faster convolutions on a CPU).
    """
    batch = take_rows(images, rows, device).permute(0, 3, 1, 2)
    return batch.to(dtype=torch.float32, memory_format=torch.channels_last) / 127.5 - 1


def clip_pixels(batch: torch.Tensor, size: int) -> torch.Tensor:
    """Convert pictures for the image encoder.

    Args:
        batch: (B, 3, H, W) in [-1, 1], square.
        size: side of the tower's input.

    Returns:
        (B, 3, size, size), normalised as CLIPImageProcessor does.
    """
    if batch.shape[-1] != size:
        batch = F.interpolate(batch, size=(size, size), mode="bicubic", antialias=True).clamp(-1, 1)
    return ((batch + 1) / 2 - CLIP_MEAN.to(batch)) / CLIP_STD.to(batch)


def log_figures(folder: Path, stage: str, figures: dict[str, float]) -> None:
    """Append held-out figures of a stage to `figures.jsonl` and log them."""
    logger.info("%s held out: %s", stage, figures)
    with (folder / "figures.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"stage": stage, **figures}) + "\n")


def to_pictures(batch: torch.Tensor) -> list[Image.Image]:
    """Convert (B, 3, H, W) in [-1, 1] to pictures, rounded to the nearest of 256 levels."""
    array = ((batch.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [Image.fromarray(image) for image in array.permute(0, 2, 3, 1).cpu().numpy()]


def save_samples(path: Path, *rows: Sequence[Image.Image]) -> None:
    """Write rows of equally many pictures as one picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    make_image_grid([picture for row in rows for picture in row], rows=len(rows), cols=len(rows[0])).save(path)


@torch.no_grad()
def reconstruction_grid(vae: AutoencoderKL, images: np.ndarray, path: Path) -> dict[str, float]:
    """Draw held-out pictures (N, H, W, 3) above their reconstructions; return the mean PSNR in dB over 64 of them."""
    device = next(vae.parameters()).device
    batch = pixels(images, torch.from_numpy(np.arange(0, min(128, len(images)), 2)), device)
    decoded = torch.cat([vae.decode(vae.encode(part).latent_dist.mean).sample for part in batch.split(16)])
    save_samples(path, to_pictures(batch[:8]), to_pictures(decoded[:8]))
    return {"psnr": psnr(decoded.clamp(-1, 1), batch)}


def psnr(pictures: torch.Tensor, meant: torch.Tensor) -> float:
    """Return the mean PSNR of pictures (B, 3, H, W) in [-1, 1], in dB."""
    errors = (pictures - meant).square().mean(dim=(1, 2, 3))
    return round(float((10 * torch.log10(4 / errors)).mean()), 2)
