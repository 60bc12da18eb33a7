"""Stage: a bundle's narrow autoencoder gets more channels, and encoder and decoder learn on together at full size.

A narrow autoencoder is trained in minutes and washes out mouths and patterns; a decoder costs little beside the twenty
passes through the UNet. It is widened so that at first it does what it did (Chen et al. 2016, "Net2Net"), and its
latents move only as far as they gain by it, so that a UNet that knows the old ones soon knows the new ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from diffusers import AutoencoderKL

from ipa_app.toybox import sheets
from ipa_app.toybox.dataset import ToyData
from ipa_app.toybox.fit import fit, pick_device
from ipa_app.toybox.settings import Recipe
from ipa_app.toybox.vae import forget_latents, load_vae, normalise_latents, reconstruction_loss


def widen(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Write ``vae`` anew, where it has fewer channels than the recipe wants; no stage before the UNet's sees it."""
    narrow = load_vae(folder)
    times = recipe.vae_channels[0] // narrow.config["block_out_channels"][0]
    if recipe.widen is None or times < 2:
        return
    vae = widened_vae(narrow, times).to(pick_device(), memory_format=torch.channels_last)
    vae.requires_grad_(True).train()

    def sheet() -> None:
        sheets.note(folder, "widen", sheets.reconstruction_sheet(vae, heldout.images, folder / "sheets" / "widen.png"))

    loss = reconstruction_loss(vae, data, size=recipe.size, batch_size=recipe.widen.batch_size)
    fit("widen", module=vae, loss=loss, settings=recipe.widen, folder=folder, sheet=sheet)
    if PartialState().is_main_process:
        normalise_latents(vae, data)
        vae.save_pretrained(folder / "vae")
        forget_latents(folder)


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
