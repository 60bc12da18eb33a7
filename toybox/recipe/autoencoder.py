"""Stage: the autoencoder, an ordinary AutoencoderKL with four latent channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from diffusers import AutoencoderKL
from torch import nn

from toybox.recipe.data import ToyData
from toybox.recipe.images import log_figures, normal, on_device, pixels, reconstruction_grid
from toybox.recipe.settings import Recipe
from toybox.recipe.training import Figures, Loss, load_frozen, mixed_precision, pick_device, share, train_module

KL_WEIGHT = 3e-5
EDGE_WEIGHT = 0.5
CROP_UNTIL = 0.75
"""Share of the budget trained on half-size crops, which cost a quarter; the rest is trained on whole pictures, because
group normalisation sees other statistics on crops."""

LATENT_NOISE = 0.3
"""Largest deviation of the noise that the decoder learns to ignore, as a UNet's latents are never exact."""
NOISE_CELLS = (1, 2, 4)
"""Grain sizes of that noise, in latents."""


def new_vae(recipe: Recipe) -> AutoencoderKL:
    """Build an untrained autoencoder of the recipe's size."""
    levels = len(recipe.vae_channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=recipe.vae_channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=recipe.vae_channels[0] // 2,
        sample_size=recipe.size,
        mid_block_add_attention=False,
        scaling_factor=1.0,  # normalise_latents folds the statistics into the weights instead
    )


def load_vae(folder: Path) -> AutoencoderKL:
    """Load the trained autoencoder, frozen."""
    return load_frozen(AutoencoderKL, folder / "vae")


def train_vae(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Train encoder and decoder, and write them to `folder/vae` with latents of mean 0 and deviation 1.

    An autoencoder that is already there, of a bundle that the recipe continues, is trained further.
    """
    vae = load_vae(folder) if (folder / "vae").exists() else new_vae(recipe)
    vae = vae.to(pick_device(), memory_format=torch.channels_last).requires_grad_(True).train()

    def sample() -> None:
        path = folder / "samples" / "vae.png"
        log_figures(folder, "vae", reconstruction_grid(vae, heldout.images, path))

    loss = reconstruction_loss(vae, data, recipe.vae.batch_size)
    train_module("vae", module=vae, loss=loss, settings=recipe.vae, folder=folder, sample=sample)
    if PartialState().is_main_process:
        normalise_latents(vae, data)
        vae.save_pretrained(folder / "vae")
        for path in folder.glob("latents-*.pt"):  # to be encoded anew
            path.unlink()


def train_decoder(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Train the decoder of `folder/vae` further; the latents stay valid, and so does everything trained on them."""
    vae = load_vae(folder).to(memory_format=torch.channels_last)
    for part in (vae.decoder, vae.post_quant_conv):
        part.requires_grad_(True)

    def sample() -> None:
        log_figures(folder, "decoder", reconstruction_grid(vae, heldout.images, folder / "samples" / "decoder.png"))

    loss = reconstruction_loss(vae, data, recipe.decoder.batch_size)
    train_module("decoder", module=vae, loss=loss, settings=recipe.decoder, folder=folder, sample=sample)
    vae.save_pretrained(folder / "vae")


def reconstruction_loss(vae: AutoencoderKL, data: ToyData, batch_size: int) -> Loss:
    """Return the joint loss of encoder and decoder, for `train_module`.

    Args:
        vae: the autoencoder in training.
        data: the pictures.
        batch_size: crops per step.
    """
    device = pick_device()
    images = on_device(data.images, device)

    def loss(generator: torch.Generator, fraction: float) -> tuple[torch.Tensor, Figures]:
        is_cropped = fraction < CROP_UNTIL
        # A whole picture costs as much as four crops.
        count = share(batch_size if is_cropped else max(1, batch_size // 4))
        rows = torch.randint(len(data), (count,), generator=generator)
        batch = pixels(images, rows, device)
        if is_cropped:
            # Crops are aligned to the whole picture's latent grid.
            (batch,) = half_crops(batch.shape[-1] // 8, generator, batch)
        with mixed_precision():
            posterior = vae.encode(batch).latent_dist
            picture = vae.decode(noise_augmented(posterior.sample(generator), generator)).sample
        drawn, figures = picture_loss(picture.float(), batch)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return drawn + KL_WEIGHT * kl, {**figures, "kl": kl.detach()}

    return loss


def noise_augmented(latents: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Add noise of a different strength to each of the latents (B, C, h, w), in grains of one of NOISE_CELLS.

    The strength is relative to each channel's deviation, so that an encoder gains nothing from larger latents.
    """
    cells = NOISE_CELLS[int(torch.randint(len(NOISE_CELLS), (), generator=generator))]
    height, width = (side // cells for side in latents.shape[-2:])
    noise = normal((*latents.shape[:2], height, width), generator, latents.device)
    strength = LATENT_NOISE * torch.rand(len(latents), 1, 1, 1, generator=generator)
    noise = F.interpolate(noise * strength.to(noise), size=latents.shape[-2:], mode="nearest").to(latents)
    return latents + noise * latents.std(dim=(0, 2, 3), keepdim=True)


def picture_loss(picture: torch.Tensor, batch: torch.Tensor) -> tuple[torch.Tensor, Figures]:
    """Return the loss of pictures (B, 3, H, W) in [-1, 1] against their targets, and their "psnr" in dB."""
    error = (picture - batch).abs().mean()
    # Compare differences of neighbours: outlines cost more than flat areas, which keeps faces crisp.
    edges = (picture - batch).diff(dim=2).abs().mean() + (picture - batch).diff(dim=3).abs().mean()
    mse = (picture.detach() - batch).pow(2).mean()
    return error + EDGE_WEIGHT * edges, {"psnr": 10 * torch.log10(4 / mse)}


def half_crops(cells: int, generator: torch.Generator, *batches: torch.Tensor) -> list[torch.Tensor]:
    """Crop half the side, at the same places in every batch.

    Args:
        cells: corners are on a grid of this many cells a side.
        generator: decides the places.
        batches: (B, C, H, W) of any size each, multiples of `cells`.
    """
    side = cells // 2
    corners = torch.randint(cells - side + 1, (len(batches[0]), 2), generator=generator).tolist()

    def cut(batch: torch.Tensor) -> torch.Tensor:
        unit = batch.shape[-1] // cells
        parts = [
            each[:, y * unit : (y + side) * unit, x * unit : (x + side) * unit]
            for each, (y, x) in zip(batch, corners, strict=True)
        ]
        return torch.stack(parts).contiguous(memory_format=torch.channels_last)

    return [cut(batch) for batch in batches]


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, data: ToyData, pictures: int = 512) -> None:
    """Fold the latents' mean and deviation into the 1x1 convolutions around them.

    A diffusion model needs latents of mean 0 and deviation 1 per channel; the config has only one number
    (`scaling_factor`), the convolutions have exact ones. The output of `decode(encode(x))` stays the same.
    """
    rows = torch.from_numpy(np.linspace(0, len(data) - 1, min(pictures, len(data))).astype(np.int64))
    device = pick_device()
    means = torch.cat([vae.encode(pixels(data.images, part, device)).latent_dist.mean for part in rows.split(32)])
    mean, deviation = means.mean(dim=(0, 2, 3)), means.std(dim=(0, 2, 3))
    quant, post_quant = vae.quant_conv, vae.post_quant_conv
    if not isinstance(quant, nn.Conv2d) or not isinstance(post_quant, nn.Conv2d):
        raise TypeError("normalise_latents needs an autoencoder with quant_conv and post_quant_conv")
    if quant.bias is None or post_quant.bias is None:
        raise TypeError("normalise_latents needs quant_conv and post_quant_conv with a bias")
    channels = len(mean)
    post_quant.bias += post_quant.weight[:, :, 0, 0] @ mean
    post_quant.weight *= deviation.view(1, -1, 1, 1)
    quant.bias[:channels] = (quant.bias[:channels] - mean) / deviation
    quant.weight[:channels] /= deviation.view(-1, 1, 1, 1)
    quant.bias[channels:] -= 2 * deviation.log()
