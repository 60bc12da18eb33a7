"""Stage: a bundle's narrow autoencoder gets more channels, and encoder and decoder learn on together at full size.

A narrow autoencoder is trained in minutes and washes out mouths and patterns; a decoder costs little beside the twenty
passes through the UNet. It is widened so that at first it does what it did (Chen et al. 2016, "Net2Net"), and its
latents move only as far as they gain by it, so that a UNet that knows the old ones soon knows the new ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from toybox.recipe.dataset import ToyData
from toybox.recipe.settings import Recipe
from toybox.recipe.vae import load_vae, train_reconstruction


def widen(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Write ``vae`` anew, where it has fewer channels than the recipe wants; no stage before the UNet's sees it."""
    narrow = load_vae(folder)
    times = recipe.vae_channels[0] // narrow.config["block_out_channels"][0]
    if recipe.widen is None or times < 2:
        return
    train_reconstruction("widen", widened_vae(narrow, times), recipe.widen, data, heldout, folder)


def widened_vae(vae: AutoencoderKL, times: int) -> AutoencoderKL:
    """An autoencoder with `times` the channels that gives what the given one gives, to rounding.

    The new channels are drawn at random and lead nowhere yet. They form group norm's later groups, so that what the
    first channels are normalised with stays what it was.
    """
    config = dict(vae.config)
    config["block_out_channels"] = [times * channels for channels in config["block_out_channels"]]
    config["norm_num_groups"] *= times
    wide: Any = AutoencoderKL.from_config(config)
    with torch.no_grad():
        for name, old in vae.state_dict().items():
            weights = wide.state_dict()[name]
            if old.ndim == 1:
                weights[: len(old)] = old
            else:
                outputs, inputs = old.shape[:2]
                weights[:outputs] = 0
                weights[:outputs, :inputs] = old
    return wide
