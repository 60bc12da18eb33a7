"""Pictures as people bring them: what the pose reader and the judge learn on.

Pictures are (B, 3, H, W) float32 in [-1, 1] on any device. Everything random is drawn from a CPU generator, so that it
can be repeated.
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
"""How large a toy picture is pasted into its canvas, as a share of the canvas's side."""
CROPS = (2.2, 4.0)
"""Zooms at which a toy picture never shows a whole character."""
CONTINUED_SHARE = 0.4
"""Share of pasted pictures around which their own outermost pixels go on, in place of a canvas."""
SOFT_SHARE = 0.5
SOFT_SIDES = (40, 112)
"""Sides in pixels that pictures are shrunk to and enlarged from again, as soft as a small diffusion model draws."""
DEGRADED_NOISE = 0.1
"""Largest standard deviation of the noise that `degraded` adds."""
_CLOUD_SIDES = (1, 2, 4, 8, 16, 32, 64)
# What of a character reaches beyond its joints, in shares of the picture: ears and hats, hands, feet.
_ABOVE, _BESIDE, _BELOW = 0.2, 0.06, 0.05


def pasted_toys(
    toys: torch.Tensor, keypoints: torch.Tensor, *, canvases: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Paste toy pictures into canvases at any size and place where the whole character is seen.

    Args:
        toys: of one character each.
        keypoints: (B, 18, 2) of the characters, in [0, 1].
        canvases: what shows around them, of the same shape.
        generator: decides.

    Returns:
        The pictures, and their keypoints.
    """
    zoom = _between(ZOOMS, len(toys), generator)
    low, high = keypoints.amin(dim=1), keypoints.amax(dim=1)
    low = (low - torch.tensor([_BESIDE, _ABOVE])) * zoom[:, None]
    high = (high + torch.tensor([_BESIDE, _BELOW])) * zoom[:, None]
    # The picture's corner may lie where the character is inside; one that fills the canvas stays in the middle.
    u = torch.rand(len(toys), 2, generator=generator)
    corner = torch.where(high - low < 1, -low + u * (1 - (high - low)), 0.5 - (low + high) / 2)
    return _paste(toys, canvases, zoom, corner, generator), keypoints * zoom[:, None, None] + corner[:, None]


def pasted_anywhere(pictures: torch.Tensor, *, canvases: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Paste pictures without a toy into canvases, so that their frames give nothing away."""
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
    """Pictures of nothing: from one colour over soft gradients to noise, with the mixture that photos have between."""
    batch = torch.zeros(count, 3, 1, 1)
    smoothness = _between((0.3, 3.0), count, generator)
    for octave, cells in enumerate((*_CLOUD_SIDES, side)):
        grain = torch.randn(count, 3, cells, cells, generator=generator)
        # Like those of photos, the colours of one place are mostly light and dark of one another.
        grain = 0.4 * grain + 0.6 * grain[:, :1]
        strength = torch.exp2(-smoothness * octave).view(-1, 1, 1, 1)
        batch = F.interpolate(batch, size=(cells, cells), mode="bilinear") + grain * strength
    return batch.clamp(-1, 1)


def _cropped(toys: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Pieces of toys, from too near."""
    zoom = _between(CROPS, len(toys), generator)
    corner = torch.rand(len(toys), 2, generator=generator) * (1 - zoom[:, None])
    return _paste(toys, toys, zoom, corner, generator)


def _shuffled(toys: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Toys cut into four tiles by four in another order."""
    side = toys.shape[-1] // 4
    tiles = toys.unfold(2, side, side).unfold(3, side, side).flatten(2, 3)  # (B, 3, 16, side, side)
    tiles = tiles[:, :, torch.randperm(16, generator=generator)].unflatten(2, (4, 4))
    return tiles.permute(0, 1, 2, 4, 3, 5).reshape(toys.shape)


def _upside_down(toys: torch.Tensor, _generator: torch.Generator) -> torch.Tensor:
    return toys.flip(2)


def _crowds(toys: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Several characters in one picture: two beside each other, or four."""
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
"""What toy pictures become that show no single character, whole and upright."""


def _paste(
    pictures: torch.Tensor, canvases: torch.Tensor, zoom: torch.Tensor, corner: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Lay pictures of `zoom` (B,) times the canvas's side with their top left at `corner` (B, 2; x, y) of it."""
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
"""How much `lightly_degraded` changes contrast and brightness at most."""


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
    files = [io.BytesIO() for _ in pictures]
    for file, picture in zip(files, to_pictures(pictures), strict=True):
        picture.save(file, "JPEG", quality=quality)
    opened = np.stack([np.asarray(Image.open(file)) for file in files])
    return (torch.from_numpy(opened).permute(0, 3, 1, 2).float() / 127.5 - 1).to(pictures)


def lightly_degraded(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Change the light of every picture a little; soften a quarter, save one as JPEG, add noise to one."""
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
