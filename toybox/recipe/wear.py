"""Slight wear that people look past: softness, noise, the marks of JPEG, a little more or less light.

Pictures are (B, 3, H, W) float32 in [-1, 1] on any device. Everything random is drawn from a CPU generator.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2.functional import gaussian_blur

from toybox.recipe.sheets import to_pictures
from toybox.recipe.tensors import normal

SOFTNESS = (0.4, 1.4)
"""Standard deviations of the blur that `worn` draws from, in pixels of a picture of 256."""
NOISE = 0.08
"""Largest standard deviation of the noise that `worn` adds."""
QUALITIES = (40, 95)
"""JPEG qualities that `worn` draws from."""
LIGHT = 0.08
"""How much `worn` changes contrast and brightness at most."""


def soft(pictures: torch.Tensor, deviation: float) -> torch.Tensor:
    """Blur by a Gaussian of `deviation` in 256ths of the pictures' width."""
    pixels = deviation * pictures.shape[-1] / 256
    return gaussian_blur(pictures, [2 * max(1, round(3 * pixels)) + 1] * 2, [pixels] * 2)


def noisy(pictures: torch.Tensor, deviation: torch.Tensor | float, generator: torch.Generator) -> torch.Tensor:
    """Add Gaussian noise; `deviation` is one for all or (B, 1, 1, 1)."""
    count, channels, height, width = pictures.shape
    # Drawn with the channels last, as pictures lie in memory here.
    noise = normal((count, height, width, channels), generator, pictures.device).permute(0, 3, 1, 2)
    return (pictures + deviation * noise).clamp(-1, 1)


def as_jpeg(pictures: torch.Tensor, quality: int) -> torch.Tensor:
    """Save and open as JPEG files of a quality from 1 to 100."""
    opened = [np.asarray(_reopened(picture, quality)) for picture in to_pictures(pictures)]
    return (torch.from_numpy(np.stack(opened)).permute(0, 3, 1, 2).float() / 127.5 - 1).to(pictures)


def _reopened(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file)


def worn(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Change the light of every picture a little; soften a quarter, save one as JPEG, add noise to one."""
    count = len(pictures)

    def between(low: float, high: float, count: int) -> torch.Tensor:
        return (low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)).to(pictures)

    changed = (pictures * between(1 - LIGHT, 1 + LIGHT, count)).add_(between(-LIGHT, LIGHT, count)).clamp_(-1, 1)
    order = torch.randperm(count, generator=generator).to(pictures.device)
    softened, packed, grained, _ = order.tensor_split(4)
    changed[softened] = soft(changed[softened], float(between(*SOFTNESS, 1)))
    changed[packed] = as_jpeg(changed[packed], round(float(between(*QUALITIES, 1))))
    changed[grained] = noisy(changed[grained], between(0, NOISE, len(grained)), generator)
    return changed
