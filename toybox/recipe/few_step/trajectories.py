"""Stage: the model's own way from noise to pictures, kept state by state, for a student that is to take it in leaps.

20 DDIM steps at the model's guidance, on what people ask for (`prompts.py`). Kept are all 21 states, because whatever
lies between two of them can be told from them (`velocity_between`).
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel

from ipa_app.adapter.attention import install_processors
from ipa_app.runtime import written_whole
from toybox.recipe.autoencoder import load_vae
from toybox.recipe.backends import tuned_backends
from toybox.recipe.data import ToyData
from toybox.recipe.denoiser import GUIDANCE_SCALE, NUM_INFERENCE_STEPS, control_residuals, load_unet
from toybox.recipe.few_step.prompts import Asked, Inputs, questions
from toybox.recipe.images import to_pictures
from toybox.recipe.settings import Recipe
from toybox.recipe.training import load_frozen, mixed_precision, part_of, pick_device

logger = logging.getLogger(__name__)

BATCH, GPU_BATCH = 16, 256
STATES, PICTURES = "trajectories.npy", "trajectories-pictures.npy"
DONE = "trajectories.json"
"""How many are finished; a run that is stopped goes on after them."""


@dataclass(frozen=True)
class Networks:
    """The frozen model that draws.

    Attributes:
        unet: with our attention processors.
        controlnet: for skeletons.
        scheduler: set to `NUM_INFERENCE_STEPS` steps.
    """

    unet: UNet2DConditionModel
    controlnet: ControlNetModel
    scheduler: DDIMScheduler

    @classmethod
    def load(cls, folder: Path) -> Networks:
        """Those that the recipe has made."""
        unet = load_unet(folder).to(memory_format=torch.channels_last)
        install_processors(unet)
        controlnet = load_frozen(ControlNetModel, part_of(folder, "controlnet")).to(memory_format=torch.channels_last)
        scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
        scheduler.set_timesteps(NUM_INFERENCE_STEPS)
        return cls(unet, controlnet, scheduler)

    def velocity(self, noisy: torch.Tensor, timesteps: torch.Tensor, inputs: Inputs) -> torch.Tensor:
        """What the UNet says of noisy latents (B, 4, h, w), helped by the ControlNet where there is a skeleton.

        Args:
            noisy: a row for every row of `inputs`.
            timesteps: (B,).
            inputs: what is asked for.
        """
        residuals = control_residuals(
            self.controlnet, noisy, timesteps, inputs.hidden, control=inputs.control, rows=inputs.posed
        )
        prompt = {"image_prompt": inputs.image_prompt}
        return self.unet(noisy, timesteps, inputs.hidden, cross_attention_kwargs=prompt, **residuals).sample


def velocity_between(
    scheduler: DDIMScheduler, here: torch.Tensor, there: torch.Tensor, timesteps: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The one velocity with which a DDIM step leads from one state to another, cleaner one.

    With x0 = a x - s v and eps = s x + a v at the first state's a and s (Salimans & Ho 2022, appendix D), DDIM lands on
    a' x0 + s' eps = (a a' + s s') x + (s' a - a' s) v.

    Args:
        scheduler: gives a = sqrt(alphas_cumprod) and s = sqrt(1 - alphas_cumprod).
        here: (B, 4, h, w), the noisier states.
        there: (B, 4, h, w).
        timesteps: (B,) of both; -1 is the picture itself.

    Returns:
        The velocity, and (B, 1, 1, 1) how far a step lands beside `there` for every unit that a velocity is wrong.
    """
    (a, s), (a_there, s_there) = (_amounts(scheduler, each) for each in timesteps)
    reach = s_there * a - a_there * s
    return (there - (a * a_there + s * s_there) * here) / reach, reach.abs()


def picture_between(
    scheduler: DDIMScheduler, here: torch.Tensor, there: torch.Tensor, timesteps: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """The latents of the picture that the model had in view when it went from one state to the next, x0.

    Args:
        scheduler: as in `velocity_between`.
        here: (B, 4, h, w), the noisier states.
        there: (B, 4, h, w).
        timesteps: (B,) of both; -1 is the picture itself.
    """
    velocity, _ = velocity_between(scheduler, here, there, timesteps)
    a, s = _amounts(scheduler, timesteps[0])
    return a * here - s * velocity


def _amounts(scheduler: DDIMScheduler, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How much of the picture and of the noise is in states, (B, 1, 1, 1) each."""
    kept = torch.cat([scheduler.alphas_cumprod, scheduler.final_alpha_cumprod.view(1)])  # the last is that of -1
    share = kept[timesteps.cpu()].to(timesteps.device)[:, None, None, None]
    return share.sqrt(), (1 - share).sqrt()


@torch.no_grad()
def trajectory(
    networks: Networks, asked: Asked, rows: list[int], *, steps: int = NUM_INFERENCE_STEPS, is_guided: bool = True
) -> torch.Tensor:
    """The states of some questions' pictures from noise to latents, (steps + 1, B, 4, h, w) float32."""
    scheduler, device = DDIMScheduler.from_config(networks.scheduler.config), pick_device()
    scheduler.set_timesteps(steps)
    inputs = asked.inputs(rows, guided=is_guided)
    noise = asked.noise(rows).to(device)
    states = [noise]
    for number, timestep in enumerate(scheduler.timesteps):
        noisy = torch.cat([states[-1]] * (2 if is_guided else 1)).contiguous(memory_format=torch.channels_last)
        with mixed_precision(), tuned_backends(networks.unet), tuned_backends(networks.controlnet):
            velocity = networks.velocity(noisy, timestep.expand(len(noisy)).to(device), inputs).float()
        if is_guided:
            without, with_it = velocity.chunk(2)
            velocity = without + GUIDANCE_SCALE * (with_it - without)
        drawn = scheduler.step(velocity, timestep, states[-1]).prev_sample
        following = scheduler.timesteps[number + 1 : number + 2]
        states.append(asked.holes.around(rows, drawn, noise, scheduler, following))
    return torch.stack(states)


def draw_trajectories(recipe: Recipe, data: ToyData, _heldout: ToyData, folder: Path) -> None:
    """Draw the recipe's number of trajectories, a batch at a time, and the pictures that they end in."""
    networks, vae = Networks.load(folder), load_vae(folder)
    asked = Asked(questions(data, recipe.trajectories, seed=recipe.seed), recipe, data, folder, networks.unet)
    count, side = len(asked), recipe.latent_size
    states = _opened(folder / STATES, np.float16, (count, NUM_INFERENCE_STEPS + 1, 4, side, side))
    pictures = _opened(folder / PICTURES, np.uint8, (count, recipe.size, recipe.size, 3))
    batch = GPU_BATCH if pick_device().type == "cuda" else BATCH
    for first in range(_finished(folder), count, batch):
        rows = list(range(first, min(first + batch, count)))
        drawn = trajectory(networks, asked, rows)
        states[rows] = drawn.transpose(0, 1).cpu().half().numpy()
        pictures[rows] = decoded(vae, drawn[-1])
        states.flush()
        pictures.flush()
        with written_whole(folder / DONE) as part:
            part.write_text(json.dumps({"finished": rows[-1] + 1}), "utf-8")
        logger.info("%d of %d trajectories drawn", rows[-1] + 1, count)


@torch.no_grad()
def decoded(vae: AutoencoderKL, latents: torch.Tensor) -> np.ndarray:
    """The pictures that latents (B, 4, h, w) stand for, (B, H, W, 3) uint8."""
    with mixed_precision(), tuned_backends(vae):
        return np.stack([np.asarray(picture) for picture in to_pictures(vae.decode(latents).sample)])


def _opened(path: Path, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    """An array on the disk that is written bit by bit; one that is begun stays as it is."""
    if path.exists():
        return np.lib.format.open_memmap(path, mode="r+")
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def _finished(folder: Path) -> int:
    path = folder / DONE
    return json.loads(path.read_text("utf-8"))["finished"] if path.exists() else 0


def load_trajectories(folder: Path) -> np.ndarray:
    """The states that are drawn, (N, NUM_INFERENCE_STEPS + 1, 4, h, w) float16, memory-mapped."""
    return np.load(folder / STATES, mmap_mode="c")[: _finished(folder)]


def drawn_pictures(folder: Path) -> np.ndarray:
    """What the trajectories end in, (N, H, W, 3) uint8, memory-mapped."""
    return np.load(folder / PICTURES, mmap_mode="c")[: _finished(folder)]
