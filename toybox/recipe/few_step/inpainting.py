"""Stage: a ControlNet for inpainting, which sees what is around a hole as it is, however noisy the latents are.

The UNet alone learns it from the noisy latents that diffusers puts there, so that what the hole cuts through goes on
elsewhere. The ControlNet is shown pictures as control_v11p_sd15_inpaint is: 0 to 1, and -1 in the hole. All else stays
as it is, and says who is to be drawn. References do not reach a ControlNet, so that words tell it where nobody is.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ipa_app.training.loss import mse
from toybox import world
from toybox.recipe.backends import tuned_backends
from toybox.recipe.data import ToyData, cached_renders, view_of
from toybox.recipe.denoiser import noised
from toybox.recipe.few_step.prompts import Asked, questions
from toybox.recipe.few_step.trajectories import Networks
from toybox.recipe.images import on_device, pixels, take_rows
from toybox.recipe.loss_weights import loss_weights
from toybox.recipe.settings import Recipe
from toybox.recipe.training import Figures, mixed_precision, train_module

INPAINTING = "controlnets/inpaint"
"""Where it lies in the work folder, and in the bundle."""
SURROUNDINGS_PROMPT = "background"
"""What the model is asked for where nothing is given but what is around a hole; one of its words."""
EMPTY_SHARE = 0.25
"""Share of steps on places where nobody is: who was there was painted over to be gone."""
WARM_UP = 0.05
"""Share of the steps in which what is added to the noisy latents learns to be what the UNet takes clean ones for."""
LATENESS = 1.5
"""Preference for noisy timesteps; see `noised`."""
OUTSIDE = 0.05
"""What a latent outside the hole counts in the loss: the picture takes its place."""


def train_inpainting(recipe: Recipe, data: ToyData, _heldout: ToyData, folder: Path) -> None:
    """Train the ControlNet, beginning with the one for skeletons, and write it to `folder`."""
    networks, settings = Networks.load(folder), recipe.inpainting
    unet, controlnet = networks.unet, networks.controlnet.requires_grad_(True).train()
    places = cached_renders(folder / "places.npy", partial(_place, recipe), range(len(data)), size=recipe.size)
    wishes = [replace(each, pose=None) for each in questions(data, recipe.trajectories, seed=recipe.seed)]
    # What people ask for, of a hole in the picture; a reference shows its subject in the other one of 2 i, 2 i + 1.
    named = [replace(each, filled=each.picture ^ int(each.kind is not None)) for each in wishes]
    # With nothing given the picture is what is around the hole; every fourth one has any shape, and somebody goes on.
    unnamed = [replace(each, filled=each.picture, text=SURROUNDINGS_PROMPT) for each in wishes]
    named[::4] = [new if old.kind and not old.text else old for new, old in zip(unnamed[::4], named[::4], strict=True)]
    keypoints, sources = on_device(data.keypoints, unet.device), []
    for split, images, part in (("train", data.images, named), ("places", places, unnamed)):
        asked = Asked(part, recipe, replace(data, images=images), folder, unet, split=split)
        sources.append((asked, images, torch.tensor([each.filled for each in part])))

    def loss(generator: torch.Generator, fraction: float) -> tuple[torch.Tensor, Figures]:
        is_empty = float(torch.rand((), generator=generator)) < EMPTY_SHARE
        asked, images, filled = sources[is_empty]
        rows = torch.randint(len(wishes), (settings.batch_size,), generator=generator)
        clean = torch.stack([asked.holes.latents[row] for row in rows.tolist()])
        hole, seen = asked.holes.mask[rows], pixels(images, filled[rows], clean.device)
        control = torch.where(F.interpolate(hole.float(), size=seen.shape[-2:]) > 0, -1.0, (seen + 1) / 2)
        with mixed_precision(), tuned_backends(unet):
            if fraction < WARM_UP:
                wanted = unet.conv_in(clean) * ~hole
                return F.mse_loss(controlnet.controlnet_cond_embedding(control).float(), wanted.float()), {}
            noisy, timesteps, target = noised(networks.scheduler, clean, generator, lateness=LATENESS)
            everywhere = torch.arange(len(rows), device=clean.device)
            inputs = replace(asked.inputs(rows.tolist()), posed=everywhere, control=control)
            prediction = networks.velocity(noisy, timesteps, inputs)
        weights = hole + OUTSIDE * ~hole
        if not is_empty:
            weights = weights * loss_weights(take_rows(keypoints, filled[rows], clean.device), clean.shape)
        return mse(prediction, target, weights / weights.mean(dim=(1, 2, 3), keepdim=True)).mean(), {}

    train_module("inpainting", module=controlnet, loss=loss, settings=settings, folder=folder)
    controlnet.save_pretrained(folder / INPAINTING)


def _place(recipe: Recipe, row: int) -> np.ndarray:
    """Where the figure of a training picture stands, without it, (size, size, 3) uint8."""
    return np.asarray(world.render_place(view_of(recipe, row).scene, recipe.size))
