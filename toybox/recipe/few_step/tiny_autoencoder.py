"""Stage: a small autoencoder for the same latents, for drafts and previews: diffusers' AutoencoderTiny.

It learns what the large decoder makes of latents, as TAESD does (github.com/madebyollin/taesd), and to go back from
there: of drawings, of pictures that the model has drawn, and of what the model has in view on its way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler

from ipa_app.runtime import written_whole
from toybox.recipe.autoencoder import CROP_UNTIL, half_crops, load_vae, noise_augmented, picture_loss
from toybox.recipe.backends import tuned_backends
from toybox.recipe.data import ToyData
from toybox.recipe.denoiser import NUM_INFERENCE_STEPS
from toybox.recipe.few_step.trajectories import decoded, load_trajectories, picture_between
from toybox.recipe.images import log_figures, on_device, pixels, psnr, save_samples, to_pictures
from toybox.recipe.settings import Recipe
from toybox.recipe.training import Figures, mixed_precision, pick_device, train_module

CHANNELS = 32
"""Of every level; AutoencoderTiny has one width."""
DECODER_BLOCKS, ENCODER_BLOCKS = (8, 4, 1, 0), (0, 1, 2, 3)
"""On each level, from latents to pixels and from pixels to latents: few where there are many places."""
DRAWN_SHARE = 0.5
"""Share of the examples that the model has drawn, half of them caught on the way; the others are drawings."""
VIEWED = range(NUM_INFERENCE_STEPS // 4, NUM_INFERENCE_STEPS)
"""Steps after which the model is caught."""
FOLDER = "vae_tiny"
EXAMPLES = "tiny-examples.pt"
TRIED, SHOWN = 64, 8
"""Held-out drawings that are measured, and how many of them are shown."""


def new_tiny_vae(levels: int) -> AutoencoderTiny:
    """An untrained one.

    Args:
        levels: of the large autoencoder; each after the first halves the side.
    """
    return AutoencoderTiny(
        encoder_block_out_channels=(CHANNELS,) * levels,
        decoder_block_out_channels=(CHANNELS,) * levels,
        num_encoder_blocks=ENCODER_BLOCKS[-levels:],
        num_decoder_blocks=DECODER_BLOCKS[:levels],
        latent_channels=4,
        scaling_factor=1.0,
    )


@dataclass(frozen=True)
class Examples:
    """What it learns from.

    Attributes:
        latents: (N, 4, h, w) float16.
        pictures: (N, H, W, 3) uint8, what the large decoder makes of them.
    """

    latents: torch.Tensor
    pictures: np.ndarray


def train_tiny_vae(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Train `vae_tiny`; how near it is to the large one on held-out drawings goes to figures.jsonl."""
    device, vae = pick_device(), load_vae(folder).to(memory_format=torch.channels_last)
    examples = examples_of(recipe, data, vae, folder)
    pictures = on_device(examples.pictures, device)
    tiny = new_tiny_vae(len(vae.config["block_out_channels"])).to(device, memory_format=torch.channels_last)

    tried = torch.arange(0, min(2 * TRIED, len(heldout)), 2)

    def loss(generator: torch.Generator, fraction: float) -> tuple[torch.Tensor, Figures]:
        is_cropped = fraction < CROP_UNTIL
        # A whole picture costs as much as four crops.
        count = recipe.tiny_vae.batch_size if is_cropped else max(1, recipe.tiny_vae.batch_size // 4)
        rows = torch.randint(len(examples.latents), (count,), generator=generator)
        batch, latents = pixels(pictures, rows, device), examples.latents[rows].to(device).float()
        if is_cropped:
            batch, latents = half_crops(latents.shape[-1], generator, batch, latents)
        with mixed_precision():
            picture, back = tiny.decode(latents).sample, tiny.encode(batch).latents
        drawn, figures = picture_loss(picture.float(), batch)
        missed = F.mse_loss(back.float(), latents)
        return drawn + missed, {**figures, "missed": missed.detach()}

    @torch.no_grad()
    def sample() -> None:
        latents = vae.encode(pixels(heldout.images, tried, device)).latent_dist.mean
        log_figures(folder, "tiny_vae", _compare(vae, tiny, latents, folder / "samples" / "tiny_vae.png"))

    train_module("tiny_vae", module=tiny, loss=loss, settings=recipe.tiny_vae, folder=folder, sample=sample)
    tiny.half().save_pretrained(folder / FOLDER)


@torch.no_grad()
def examples_of(recipe: Recipe, data: ToyData, vae: AutoencoderKL, folder: Path) -> Examples:
    """The examples, decoded once and kept in `folder`."""
    path = folder / EXAMPLES
    if not path.exists():
        generator, device = torch.Generator().manual_seed(recipe.seed), pick_device()
        drawn = round(recipe.tiny_vae_examples * DRAWN_SHARE)
        drawings = _encoded(vae, data, recipe.tiny_vae_examples - drawn, generator)
        latents = torch.cat([drawings, _drawn(folder, drawn, generator)])
        pictures = [decoded(vae, part.to(device).float()) for part in latents.split(16)]
        with written_whole(path) as part:
            torch.save({"latents": latents, "pictures": torch.from_numpy(np.concatenate(pictures))}, part)
    kept = torch.load(path, weights_only=True, mmap=True)
    return Examples(kept["latents"], kept["pictures"].numpy())


def _encoded(vae: AutoencoderKL, data: ToyData, count: int, generator: torch.Generator) -> torch.Tensor:
    """Latents of drawings, with noise that the large decoder sees through, (count, 4, h, w) float16."""
    parts = []
    for rows in torch.linspace(0, len(data) - 1, count).long().split(16):
        with mixed_precision(), tuned_backends(vae):
            posterior = vae.encode(pixels(data.images, rows, pick_device())).latent_dist
        parts.append(noise_augmented(posterior.mean.float(), generator).half().cpu())
    return torch.cat(parts)


def _drawn(folder: Path, count: int, generator: torch.Generator) -> torch.Tensor:
    """Latents that the model has drawn, and what it had in view on its way to others, (count, 4, h, w) float16."""
    states = load_trajectories(folder)
    scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
    scheduler.set_timesteps(NUM_INFERENCE_STEPS)
    timesteps = torch.cat([scheduler.timesteps, torch.tensor([-1])])
    parts = []
    for row in torch.linspace(0, len(states) - 1, count).long().tolist():
        step = int(torch.randint(VIEWED.start, 2 * VIEWED.stop - VIEWED.start, (), generator=generator))
        if step >= NUM_INFERENCE_STEPS:
            parts.append(torch.from_numpy(states[row, -1:]))
            continue
        here, there = (torch.from_numpy(states[row, [place]]).float() for place in (step, step + 1))
        view = picture_between(scheduler, here, there, (timesteps[step : step + 1], timesteps[step + 1 : step + 2]))
        parts.append(view.half())
    return torch.cat(parts)


def _compare(vae: AutoencoderKL, tiny: AutoencoderTiny, latents: torch.Tensor, path: Path) -> dict[str, float]:
    """What the large decoder makes of latents of held-out drawings, above what the small one does.

    Returns:
        "psnr": of the small decoder's pictures beside the large one's; "round trip": of the large one's pictures after
        the small encoder and decoder beside what they were; both in dB.
    """
    large, small, back = [], [], []
    for part in latents.split(16):
        large.append(vae.decode(part).sample.clamp(-1, 1))
        small.append(tiny.decode(part).sample.clamp(-1, 1))
        back.append(tiny.decode(tiny.encode(large[-1]).latents).sample.clamp(-1, 1))
    save_samples(path, to_pictures(large[0][:SHOWN]), to_pictures(small[0][:SHOWN]))
    return {"psnr": psnr(torch.cat(small), torch.cat(large)), "round trip": psnr(torch.cat(back), torch.cat(large))}
