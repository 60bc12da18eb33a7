"""Stage: the vision tower learns on to tell apart what contrast alone lets it pass over.

A caption is told from the others of its batch mostly by its place, so contrast leaves the tower blind to much of the
character. Here every attribute must follow from the projected embedding by a linear layer that is thrown away. What a
reference picture can hand on is bounded by this.

The measure is the squared error and not the likelihood of the right word: the base adapter puts a linear layer on the
embedding, and no softmax afterwards sorts out for it what is merely likelier.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from PIL import Image
from torch import nn
from transformers import CLIPVisionModelWithProjection

from toybox import world
from toybox.recipe import sheets
from toybox.recipe.clip import load_image_encoder
from toybox.recipe.dataset import Split, ToyData
from toybox.recipe.drawn import drawn_once
from toybox.recipe.settings import Recipe
from toybox.recipe.tensors import at_hand, clip_pixels, pixels, taken
from toybox.recipe.training import Figures, mixed_precision, pick_device, share, train_module

SHIFT, ZOOM = 0.08, 0.1
"""Pictures are moved by up to this share of their side and scaled by up to this much, and half of them are mirrored, so
that the tower does not learn the training pictures by heart."""


class AttributeReader(nn.Module):
    """The vision tower with a linear layer on its embeddings that says which words hold."""

    def __init__(self, encoder: CLIPVisionModelWithProjection) -> None:
        super().__init__()
        self.encoder = encoder
        self.words = nn.Linear(encoder.config.projection_dim, sum(map(len, world.ATTRIBUTES.values())))

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """1 for words that hold and 0 for the others, as nearly as they can be told: (B, words) of every attribute."""
        values = self.words(self.encoder(pixel_values).image_embeds)
        return values.split([len(words) for words in world.ATTRIBUTES.values()], dim=1)


class WordTargets:
    """Which words hold of the pictures of a split, and what there is to explain of each attribute."""

    def __init__(self, labels: torch.Tensor) -> None:
        """``labels`` are the data set's, (N, attributes), on the device that the pictures are read on."""
        attributes = zip(labels.T, world.ATTRIBUTES.values(), strict=True)
        self._holds = [F.one_hot(column, len(words)).float() for column, words in attributes]
        self._variances = [holds.var(dim=0, correction=0).sum().clamp(min=1e-6) for holds in self._holds]

    def unexplained(self, told: tuple[torch.Tensor, ...], rows: torch.Tensor) -> torch.Tensor:
        """Share of each attribute's variance that ``told`` leaves unexplained in ``rows``, (attributes,)."""
        shares = [
            (values - taken(holds, rows, values.device)).square().sum(dim=1).mean() / variance
            for values, holds, variance in zip(told, self._holds, self._variances, strict=True)
        ]
        return torch.stack(shares)


def train_vision(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Train ``image_encoder`` on and write it anew; held-out shares of attributes read go to figures.jsonl."""
    device = pick_device()
    reader = AttributeReader(load_image_encoder(folder).requires_grad_(True).train()).to(device)
    targets = WordTargets(torch.from_numpy(data.labels).to(device))
    pictures = at_hand(as_seen(recipe, data, folder, "train"), device)

    def loss(generator: torch.Generator, _fraction: float) -> tuple[torch.Tensor, Figures]:
        rows = torch.randint(len(data), (share(recipe.vision.batch_size),), generator=generator)
        batch = _moved(pixels(pictures, rows, device), generator)
        with mixed_precision():
            told = reader(clip_pixels(batch, recipe.vision_size))
        return targets.unexplained(told, rows).mean(), {}

    def note() -> None:
        sheets.note(folder, "vision", _accuracy(reader, heldout, recipe))

    train_module("vision", module=reader, loss=loss, settings=recipe.vision, folder=folder, sample=note)
    if PartialState().is_main_process:
        reader.encoder.save_pretrained(folder / "image_encoder")


def as_seen(recipe: Recipe, data: ToyData, folder: Path, split: Split) -> np.ndarray:
    """The pictures of a split at the size that the tower sees, resampled once as CLIP's image processor does."""
    if recipe.size == recipe.vision_size:
        return data.images
    return drawn_once(
        folder / f"seen-{split}.npy", partial(_resampled, recipe.vision_size), data.images, size=recipe.vision_size
    )


def _resampled(side: int, picture: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))


def _moved(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Pictures (B, 3, H, W), each shifted, scaled and mirrored or not; what comes in at the edges repeats them."""
    drawn = (2 * torch.rand(4, len(batch), generator=generator) - 1).to(batch)
    scale, zero = 1 + ZOOM * drawn[0], torch.zeros_like(drawn[0])
    # affine_grid measures in half sides.
    x, y = 2 * SHIFT * drawn[1:3]
    across = scale * drawn[3].sign()
    grid = torch.stack([torch.stack([across, zero, x], dim=-1), torch.stack([zero, scale, y], dim=-1)], dim=1)
    where = F.affine_grid(grid, list(batch.shape), align_corners=False)
    return F.grid_sample(batch, where, padding_mode="border", align_corners=False)


@torch.no_grad()
def _accuracy(reader: AttributeReader, data: ToyData, recipe: Recipe) -> dict[str, float]:
    """Share of pictures in which the right word of each attribute is told strongest, and what is left unexplained."""
    device, labels = pick_device(), torch.from_numpy(data.labels)
    told = []
    for rows in torch.arange(len(data)).split(128):
        told.append(reader(clip_pixels(pixels(data.images, rows, device), recipe.vision_size)))
    whole = tuple(torch.cat(parts).cpu() for parts in zip(*told, strict=True))
    right = [(each.argmax(dim=1) == labels[:, i]).float().mean() for i, each in enumerate(whole)]
    shares = {name: round(float(share), 3) for name, share in zip(world.ATTRIBUTES, right, strict=True)}
    return shares | {
        "unexplained": round(float(WordTargets(labels).unexplained(whole, torch.arange(len(data))).mean()), 4)
    }
