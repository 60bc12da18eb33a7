"""Sample sheets and figures that the recipe leaves while it trains: what loss does not tell."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

from toybox.recipe.tensors import pixels

logger = logging.getLogger(__name__)


def note(folder: Path, stage: str, figures: dict[str, float]) -> None:
    """Append held-out figures of a stage to ``figures.jsonl`` and log them."""
    logger.info("%s held out: %s", stage, figures)
    with (folder / "figures.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"stage": stage, **figures}) + "\n")


def grid(pictures: Sequence[Image.Image], columns: int, gap: int = 4) -> Image.Image:
    """Pictures of one size, row by row on white."""
    width, height = pictures[0].size
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        sheet.paste(picture, (column * (width + gap), row * (height + gap)))
    return sheet


def to_pictures(batch: torch.Tensor) -> list[Image.Image]:
    """(B, 3, H, W) in [-1, 1] as pictures, rounded to the nearest of 256 levels."""
    array = ((batch.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [Image.fromarray(image) for image in array.permute(0, 2, 3, 1).cpu().numpy()]


@torch.no_grad()
def reconstruction_sheet(vae: AutoencoderKL, images: np.ndarray, path: Path) -> dict[str, float]:
    """Held-out pictures (N, H, W, 3) above their reconstructions; returns the mean PSNR in dB over 64 of them."""
    device = next(vae.parameters()).device
    batch = pixels(images, torch.from_numpy(np.arange(0, min(128, len(images)), 2)), device)
    decoded = torch.cat([vae.decode(vae.encode(part).latent_dist.mean).sample for part in batch.split(16)])
    mse = (decoded.clamp(-1, 1) - batch).pow(2).mean(dim=(1, 2, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    grid([*to_pictures(batch[:8]), *to_pictures(decoded[:8])], columns=8).save(path)
    return {"psnr": round(float((10 * torch.log10(4 / mse)).mean()), 2)}
