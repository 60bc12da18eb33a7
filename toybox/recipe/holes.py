"""Pictures with a hole that is to be filled, as in inpainting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from PIL import ImageFilter

from toybox import world
from toybox.recipe.dataset import VIEWS, ToyData, views_of
from toybox.recipe.settings import Recipe
from toybox.recipe.tensors import pixels
from toybox.recipe.training import mixed_precision, pick_device
from toybox.recipe.vae import load_vae

MARGIN = 4
"""Pixels by which holes reach beyond the figure that they take out, at 256."""


@dataclass(frozen=True)
class Holes:
    """What is drawn of pictures, for a list of questions.

    Attributes:
        mask: (N, 1, h, w) bool, the latents that are drawn; all of them where no picture is filled.
        latents: of the pictures that are filled, by the question's row.
    """

    mask: torch.Tensor
    latents: dict[int, torch.Tensor]

    @classmethod
    @torch.no_grad()
    def of(cls, filled: Sequence[int | None], recipe: Recipe, data: ToyData, folder: Path) -> Holes:
        """Encode the pictures that are filled; half of them lose their figure, and the others some ellipse.

        Args:
            filled: for each question the row of the training picture that it fills, or None.
            recipe: of the model.
            data: the training split.
            folder: of the recipe's results.
        """
        vae, device = load_vae(folder), pick_device()
        mask = torch.ones(len(filled), 1, recipe.latent_size, recipe.latent_size, dtype=torch.bool)
        generator, latents = torch.Generator().manual_seed(recipe.seed), {}
        for row, picture in enumerate(filled):
            if picture is None:
                continue
            with mixed_precision():
                posterior = vae.encode(pixels(data.images, torch.tensor([picture]), device)).latent_dist
            latents[row] = posterior.sample(generator)[0].float()
            hole = _figure(recipe, picture) if row % 2 else _ellipse(recipe.size, generator)
            # A cell of the latents is drawn where any pixel of it is.
            mask[row] = F.max_pool2d(hole[None], recipe.size // recipe.latent_size)[0] > 0
        return cls(mask.to(device), latents)

    def around(
        self,
        rows: Sequence[int],
        drawn: torch.Tensor,
        noise: torch.Tensor,
        scheduler: DDIMScheduler,
        timestep: torch.Tensor,
    ) -> torch.Tensor:
        """Put the picture, as noisy as what is drawn, around the holes, as diffusers' inpainting does after a step.

        Args:
            rows: of the questions.
            drawn: (B, 4, h, w), what has been drawn of them.
            noise: (B, 4, h, w) that they began from.
            scheduler: adds the noise.
            timestep: (1,) that what is drawn stands at; (0,) after the last step.
        """
        drawn = drawn.clone()
        for place, row in enumerate(rows):
            if row in self.latents:
                kept = self.latents[row]
                if len(timestep):
                    kept = scheduler.add_noise(kept, noise[place], timestep)
                drawn[place] = torch.where(self.mask[row], drawn[place], kept)
        return drawn


def _figure(recipe: Recipe, row: int) -> torch.Tensor:
    """A training picture's figure with a margin, (1, size, size), 1 inside."""
    subject, view = divmod(row, VIEWS)
    margin = 2 * max(1, MARGIN * recipe.size // 256) + 1
    mask = world.render_mask(views_of(recipe, "train", subject)[view], recipe.size)
    return torch.from_numpy(np.asarray(mask.filter(ImageFilter.MaxFilter(margin))) > 127)[None].float()


def _ellipse(size: int, generator: torch.Generator) -> torch.Tensor:
    """An ellipse of any place and size, (1, size, size), 1 inside."""
    x, y, width, height = torch.rand(4, generator=generator).tolist()
    grid = (torch.arange(size) + 0.5) / size
    across, down = (grid - 0.25 - 0.5 * x) / (0.1 + 0.35 * width), (grid - 0.25 - 0.5 * y) / (0.1 + 0.35 * height)
    return (across[None].square() + down[:, None].square() < 1).float()[None]
