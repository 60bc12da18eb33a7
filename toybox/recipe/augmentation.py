"""Augment pictures to look like people's uploads, for training the pose reader and the judge.

Pictures are (B, 3, H, W) float32 in [-1, 1] on any device. All random numbers come from a CPU generator, so that they
are reproducible.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms.v2.functional import gaussian_blur

from toybox.recipe.images import normal, to_pictures

ZOOMS = (0.4, 1.15)
"""Range of a pasted toy picture's side, as a share of the canvas's side."""
CROPS = (2.2, 4.0)
"""Zooms at which a toy picture never shows a whole character."""
CONTINUED_SHARE = 0.4
"""Share of pasted pictures surrounded by their own repeated outermost pixels instead of a canvas."""
SOFT_SHARE = 0.5
SOFT_SIDES = (40, 112)
"""Sides in pixels that pictures are shrunk to and enlarged from, to be as soft as a small diffusion model's."""
DEGRADED_NOISE = 0.1
"""Largest standard deviation of the noise that `degraded` adds."""
_CLOUD_SIDES = (1, 2, 4, 8, 16, 32, 64)
# How far a character extends beyond its joints, in shares of the picture: ears and hats, hands, feet.
_ABOVE, _BESIDE, _BELOW = 0.2, 0.06, 0.05


def pasted_toys(
    toys: torch.Tensor, keypoints: torch.Tensor, *, canvases: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Paste toy pictures into canvases at random sizes and places that show the whole character.

    Args:
        toys: of one character each.
        keypoints: (B, 18, 2) of the characters, in [0, 1].
        canvases: backgrounds, of the same shape.
        generator: decides sizes and places.

    Returns:
        The pictures, and their keypoints.
    """
    zoom = _between(ZOOMS, len(toys), generator)
    low, high = keypoints.amin(dim=1), keypoints.amax(dim=1)
    low = (low - torch.tensor([_BESIDE, _ABOVE])) * zoom[:, None]
    high = (high + torch.tensor([_BESIDE, _BELOW])) * zoom[:, None]
    # The corner may be anywhere that keeps the character inside; a character that fills the canvas is centred.
    u = torch.rand(len(toys), 2, generator=generator)
    corner = torch.where(high - low < 1, -low + u * (1 - (high - low)), 0.5 - (low + high) / 2)
    return _paste(toys, canvases, zoom, corner, generator), keypoints * zoom[:, None, None] + corner[:, None]


def pasted_anywhere(pictures: torch.Tensor, *, canvases: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Paste pictures without a toy into canvases, so that visible frames do not reveal the answer."""
    zoom = _between(ZOOMS, len(pictures), generator)
    corner = torch.rand(len(pictures), 2, generator=generator) * (1 - zoom[:, None])
    return _paste(pictures, canvases, zoom, corner, generator)


def degraded(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Change light and colours, soften some pictures, and add noise."""

    def draw(low: float, high: float, channels: int = 1) -> torch.Tensor:
        return _between((low, high), len(pictures) * channels, generator).view(-1, channels, 1, 1).to(pictures)

    grey = pictures.mean(dim=1, keepdim=True)
    batch = grey + (pictures - grey) * draw(0.2, 1.3)
    batch = batch * draw(0.6, 1.2) * draw(0.85, 1.15, channels=3) + draw(-0.25, 0.25)
    side = int(torch.randint(*SOFT_SIDES, (), generator=generator))
    small = F.interpolate(batch, size=(side, side), mode="bilinear", antialias=True)
    soft = F.interpolate(small, size=batch.shape[-2:], mode="bilinear")
    batch = torch.where(draw(0, 1) < SOFT_SHARE, soft, batch)
    noise = torch.randn(batch.shape, generator=generator).to(batch)
    return (batch + noise * draw(0, DEGRADED_NOISE)).clamp(-1, 1)


def clouds(count: int, side: int, generator: torch.Generator) -> torch.Tensor:
    """Draw pictures of nothing: from plain colour over soft gradients to noise, with photo-like mixtures between."""
    batch = torch.zeros(count, 3, 1, 1)
    smoothness = _between((0.3, 3.0), count, generator)
    for octave, cells in enumerate((*_CLOUD_SIDES, side)):
        grain = torch.randn(count, 3, cells, cells, generator=generator)
        # As in photos, the channels are correlated: colours vary mostly in brightness.
        grain = 0.4 * grain + 0.6 * grain[:, :1]
        strength = torch.exp2(-smoothness * octave).view(-1, 1, 1, 1)
        batch = F.interpolate(batch, size=(cells, cells), mode="bilinear") + grain * strength
    return batch.clamp(-1, 1)


def _cropped(toys: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Crop pieces of toys, too close to show a whole character."""
    zoom = _between(CROPS, len(toys), generator)
    corner = torch.rand(len(toys), 2, generator=generator) * (1 - zoom[:, None])
    return _paste(toys, toys, zoom, corner, generator)


def _shuffled(toys: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Cut toys into 4 x 4 tiles and shuffle them."""
    side = toys.shape[-1] // 4
    tiles = toys.unfold(2, side, side).unfold(3, side, side).flatten(2, 3)  # (B, 3, 16, side, side)
    tiles = tiles[:, :, torch.randperm(16, generator=generator)].unflatten(2, (4, 4))
    return tiles.permute(0, 1, 2, 4, 3, 5).reshape(toys.shape)


def _upside_down(toys: torch.Tensor, _generator: torch.Generator) -> torch.Tensor:
    return toys.flip(2)


def _crowds(toys: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Combine several characters in one picture: two side by side, or four."""
    size = toys.shape[-2:]
    half = F.interpolate(toys, scale_factor=0.5, mode="bilinear", antialias=True)
    others = [half.roll(steps, dims=0) for steps in (1, 2, 3)]
    four = torch.cat([torch.cat([half, others[0]], dim=3), torch.cat(others[1:], dim=3)], dim=2)
    two = F.interpolate(four[:, :, : size[0] // 2], size=size, mode="bilinear")
    return torch.where(torch.rand(len(toys), 1, 1, 1, generator=generator).to(toys) < 0.5, two, four)


MISUSES: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {
    "pieces": _cropped,
    "shuffled": _shuffled,
    "upside down": _upside_down,
    "several": _crowds,
}
"""Transformations of toy pictures whose results do not show one whole, upright character."""


def _paste(
    pictures: torch.Tensor, canvases: torch.Tensor, zoom: torch.Tensor, corner: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Paste pictures scaled to `zoom` (B,) of the canvas's side, with their top left at `corner` (B, 2; x, y) of it."""
    shift = (1 - 2 * corner) / zoom[:, None] - 1
    diagonal = torch.diag_embed((1 / zoom)[:, None].expand(-1, 2))
    theta = torch.cat([diagonal, shift[:, :, None]], dim=2).to(pictures)
    places = F.affine_grid(theta, list(pictures.shape), align_corners=False)
    laid = F.grid_sample(pictures, places, padding_mode="border", align_corners=False)
    inside = (places.abs() <= 1).all(dim=-1)[:, None]
    continued = torch.rand(len(pictures), 1, 1, 1, generator=generator).to(pictures) < CONTINUED_SHARE
    return torch.where(inside | continued, laid, canvases)


def _between(span: tuple[float, float], count: int, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(count, generator=generator) * (span[1] - span[0]) + span[0]


SOFTNESS = (0.4, 1.4)
"""Standard deviations of the blur that `lightly_degraded` draws from, in pixels of a picture of 256."""
LIGHT_NOISE = 0.08
"""Largest standard deviation of the noise that `lightly_degraded` adds."""
QUALITIES = (40, 95)
"""JPEG qualities that `lightly_degraded` draws from."""
LIGHT = 0.08
"""Largest change of contrast and brightness by `lightly_degraded`."""


def soft(pictures: torch.Tensor, deviation: float) -> torch.Tensor:
    """Apply a Gaussian blur of `deviation` in 256ths of the pictures' width."""
    pixels = deviation * pictures.shape[-1] / 256
    return gaussian_blur(pictures, [2 * max(1, round(3 * pixels)) + 1] * 2, [pixels] * 2)


def noisy(pictures: torch.Tensor, deviation: torch.Tensor | float, generator: torch.Generator) -> torch.Tensor:
    """Add Gaussian noise; `deviation` is a number for all or (B, 1, 1, 1)."""
    count, channels, height, width = pictures.shape
    # Drawn channels-last, the memory format of pictures here.
    noise = normal((count, height, width, channels), generator, pictures.device).permute(0, 3, 1, 2)
    return (pictures + deviation * noise).clamp(-1, 1)


def as_jpeg(pictures: torch.Tensor, quality: int) -> torch.Tensor:
    """Compress and decompress as JPEG with a quality from 1 to 100."""
    files = [io.BytesIO() for _ in pictures]
    for file, picture in zip(files, to_pictures(pictures), strict=True):
        picture.save(file, "JPEG", quality=quality)
    opened = np.stack([np.asarray(Image.open(file)) for file in files])
    return (torch.from_numpy(opened).permute(0, 3, 1, 2).float() / 127.5 - 1).to(pictures)


def lightly_degraded(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Change the light of every picture a little; blur a quarter, JPEG-compress a quarter, add noise to a quarter."""
    count = len(pictures)

    def between(low: float, high: float, count: int) -> torch.Tensor:
        return (low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)).to(pictures)

    changed = (pictures * between(1 - LIGHT, 1 + LIGHT, count)).add_(between(-LIGHT, LIGHT, count)).clamp_(-1, 1)
    order = torch.randperm(count, generator=generator).to(pictures.device)
    softened, packed, grained, _ = order.tensor_split(4)
    changed[softened] = soft(changed[softened], float(between(*SOFTNESS, 1)))
    changed[packed] = as_jpeg(changed[packed], round(float(between(*QUALITIES, 1))))
    changed[grained] = noisy(changed[grained], between(0, LIGHT_NOISE, len(grained)), generator)
    return changed
