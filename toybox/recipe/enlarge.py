"""Stage: pictures of twice the side through the same latents.

What a UNet costs goes by its latents, and how crisp a picture is by the decoder. So the autoencoder, trained with the
UNet at one size, gets one level more on the side of the pixels (after Karras et al. 2018, "Progressive growing") and
learns on drawings of twice the side: the decoder to draw them from the latents there are, the encoder to give those
very latents for them. The ControlNet's layers that look at skeletons get one level more in the same way. UNet, text
tower and adapters stay as they are.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, ControlNetModel
from torch import nn

from toybox import world
from toybox.recipe import sheets
from toybox.recipe.controlnet import control_pixels, skeleton_pictures
from toybox.recipe.dataset import VIEWS, Split, ToyData, views_of
from toybox.recipe.drawn import drawn_once
from toybox.recipe.fit import Figures, fit, mixed_precision, pick_device
from toybox.recipe.frozen import latents_of
from toybox.recipe.settings import Recipe, StageSettings
from toybox.recipe.tensors import pixels, taken
from toybox.recipe.vae import CROP_UNTIL, load_vae, picture_loss, stained

ENLARGED = "enlarged"
"""Where the grown parts lie in the work folder."""
PICTURES = 8000
"""Most pictures that are drawn at twice the side."""
HELDOUT = 128
ENCODED_SHARE = 0.25
"""Share of a batch that the encoder learns on; the decoder has more to learn."""
LATENT_WEIGHT = 1.0


def enlarge(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Write ``enlarged/vae`` and ``enlarged/controlnet``, where the recipe wants them."""
    if recipe.enlarge is not None:
        _enlarge_vae(recipe, recipe.enlarge.vae, data, heldout, folder)
        _enlarge_controlnet(recipe, recipe.enlarge.skeletons, data, folder)


def _enlarge_vae(recipe: Recipe, settings: StageSettings, data: ToyData, heldout: ToyData, folder: Path) -> None:
    device = pick_device()
    vae = grown_vae(load_vae(folder)).to(device, memory_format=torch.channels_last).requires_grad_(True).train()
    pictures = large_pictures(recipe, "train", folder, count=min(PICTURES, len(data)))
    shown = large_pictures(recipe, "heldout", folder, count=min(HELDOUT, len(heldout)))
    latents = latents_of(data, folder, "train")

    def loss(generator: torch.Generator, fraction: float) -> tuple[torch.Tensor, Figures]:
        is_cropped = fraction < CROP_UNTIL
        # A whole picture costs as much as four crops.
        count = settings.batch_size if is_cropped else max(1, settings.batch_size // 4)
        rows = torch.randint(len(pictures), (count,), generator=generator)
        batch, target = pixels(pictures, rows, device), taken(latents.mean, rows, device).float()
        if is_cropped:
            batch, target = crops(batch, target, generator)
        with mixed_precision():
            picture = vae.decode(stained(target, generator)).sample
            encoded = vae.encode(batch[: max(1, round(len(batch) * ENCODED_SHARE))]).latent_dist.mean
        off = F.mse_loss(encoded.float(), target[: len(encoded)])
        drawn, figures = picture_loss(picture.float(), batch)
        return drawn + LATENT_WEIGHT * off, figures | {"latents_off": off.detach()}

    def sheet() -> None:
        sheets.note(folder, "enlarge", sheets.reconstruction_sheet(vae, shown, folder / "sheets" / "enlarge.png"))

    fit("enlarge", module=vae, loss=loss, settings=settings, folder=folder, sheet=sheet)
    vae.save_pretrained(folder / ENLARGED / "vae")


def _enlarge_controlnet(recipe: Recipe, settings: StageSettings, data: ToyData, folder: Path) -> None:
    """Train the layers that look at skeletons to say of large ones what they say of small ones."""
    device = pick_device()
    small = ControlNetModel.from_pretrained(folder / "controlnet").to(device, torch.float32).requires_grad_(False)
    grown = grown_controlnet(small).to(device)
    embedding = grown.controlnet_cond_embedding.requires_grad_(True).train()
    skeletons = skeleton_pictures(data, recipe.size, folder / "skeletons-train.npy")
    large = skeleton_pictures(data, recipe.picture_size, folder / "skeletons-large.npy", count=PICTURES)

    def loss(generator: torch.Generator, _fraction: float) -> tuple[torch.Tensor, Figures]:
        rows = torch.randint(len(large), (settings.batch_size,), generator=generator)
        target = small.controlnet_cond_embedding(control_pixels(skeletons, rows, device))
        given = embedding(control_pixels(large, rows, device))
        # Beside how much the target varies, so that 1 means nothing learned.
        return F.mse_loss(given, target) / target.var(), {}

    fit("enlarge-skeletons", module=embedding, loss=loss, settings=settings, folder=folder)
    grown.save_pretrained(folder / ENLARGED / "controlnet")


def finished(recipe: Recipe, folder: Path) -> Path:
    """Where the autoencoder and the ControlNet lie that draw at the size of the bundle."""
    return folder / ENLARGED if recipe.enlarge else folder


def large_pictures(recipe: Recipe, split: Split, folder: Path, *, count: int) -> np.ndarray:
    """The first `count` pictures of a split at twice the side, (count, 2 size, 2 size, 3) uint8."""
    path = folder / f"large-{split}.npy"
    return drawn_once(path, partial(_draw, recipe, split), range(count), size=recipe.picture_size)


def _draw(recipe: Recipe, split: Split, row: int) -> np.ndarray:
    subject, view = divmod(row, VIEWS)
    return np.asarray(world.render(views_of(recipe, split, subject)[view], recipe.picture_size))


def grown_vae(vae: AutoencoderKL) -> AutoencoderKL:
    """The autoencoder with one untrained level more next to the pixels."""
    config = dict(vae.config)
    levels = len(config["block_out_channels"]) + 1
    config |= {
        "block_out_channels": (config["block_out_channels"][0], *config["block_out_channels"]),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "sample_size": 2 * config["sample_size"],
    }
    grown: Any = AutoencoderKL.from_config(config)
    # The decoder's levels count from the latents, the encoder's from the pixels.
    _take_over(grown, vae, moved="encoder.down_blocks.", by=1)
    return grown


def grown_controlnet(controlnet: ControlNetModel) -> ControlNetModel:
    """The ControlNet with one untrained level more before the layers that look at skeletons."""
    channels = controlnet.config["conditioning_embedding_out_channels"]
    grown: Any = ControlNetModel.from_config(
        dict(controlnet.config) | {"conditioning_embedding_out_channels": (channels[0], *channels)}
    )
    # Every level is two convolutions.
    _take_over(grown, controlnet, moved="controlnet_cond_embedding.blocks.", by=2)
    return grown


def _take_over(grown: nn.Module, module: nn.Module, *, moved: str, by: int) -> None:
    """Load a module's weights into a grown one, whose blocks named `moved` come later by so many."""
    state = {}
    for name, tensor in module.state_dict().items():
        if name.startswith(moved):
            number, rest = name.removeprefix(moved).split(".", 1)
            name = f"{moved}{int(number) + by}.{rest}"
        state[name] = tensor
    unexpected = grown.load_state_dict(state, strict=False).unexpected_keys
    if unexpected:
        raise ValueError(f"A grown network has no place for {', '.join(unexpected)}.")


def crops(
    pictures: torch.Tensor, latents: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Half-size crops of pictures (B, 3, H, W), and of the latents (B, 4, h, w) that stand for them."""
    side, cell = latents.shape[-1] // 2, pictures.shape[-1] // latents.shape[-1]
    corners = torch.randint(latents.shape[-1] - side + 1, (len(latents), 2), generator=generator).tolist()

    def cut(batch: torch.Tensor, unit: int) -> torch.Tensor:
        parts = [
            each[:, y * unit : (y + side) * unit, x * unit : (x + side) * unit]
            for each, (y, x) in zip(batch, corners, strict=True)
        ]
        return torch.stack(parts).contiguous(memory_format=torch.channels_last)

    return cut(pictures, cell), cut(latents, 1)
