"""Stage: a LoRA with which the UNet draws in four steps, without guidance, what it draws in twenty with it.

Phase-end regression: the twenty steps of `trajectories.py` are four phases of five, and every state of a phase is led
to the state that ends it, in one DDIM step. The target is the model's own guided way from the very noise, so that there
is nothing to be averaged and no adversary is needed; progressive distillation (Salimans & Ho 2022; of guided models
Meng et al. 2023) does the same in rounds of two steps each. ControlNet and adapters stay as they are.

The LoRA (Hu et al. 2021) is trained on attention, convolutions and all other layers with weights, and written as peft
lays it out, which diffusers' `load_lora_weights` reads.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from torch.nn.utils import parametrize

from ipa_app.pose.toy_reader import SIDE, load_toy_reader
from toybox.recipe.autoencoder import load_vae
from toybox.recipe.backends import tuned_backends
from toybox.recipe.data import ToyData
from toybox.recipe.denoiser import NUM_INFERENCE_STEPS
from toybox.recipe.few_step.prompts import POSED_SHARE, Asked, questions
from toybox.recipe.few_step.trajectories import (
    Networks,
    drawn_pictures,
    load_trajectories,
    trajectory,
    velocity_between,
)
from toybox.recipe.images import log_figures, pixels, save_samples, to_pictures
from toybox.recipe.loss_weights import loss_weights
from toybox.recipe.settings import Recipe
from toybox.recipe.training import Figures, mixed_precision, part_of, pick_device, save_halves, train_module

PHASES = 4
PHASE = NUM_INFERENCE_STEPS // PHASES
"""Steps of the model in a phase."""
FIRST_SHARE = 0.6
"""Share of the states that begin a phase; the student is asked at those alone, and learns from the others, too."""
HUBER = 0.2
"""Distance, in deviations of the latents, from which on an error counts by its size and no more by its square."""
HELDOUT, SHOWN = 64, 16
"""Trajectories that are not trained on, and how many of them are shown."""
LORA_FILE = "loras/toybox-4-steps.safetensors"
"""Where it lies in the work folder, and in the bundle."""
USE = {"steps": str(PHASES), "guidance_scale": "1", "scheduler": "DDIMScheduler", "timestep_spacing": "trailing"}
"""How it is to be used, noted in the file's header."""


class LowRank(nn.Module):
    """A change of rank `rank` of a layer's weights, made as a parametrization: no second pass beside the layer."""

    def __init__(self, weight: torch.Tensor, rank: int) -> None:
        """Begin without any change.

        Args:
            weight: of the layer, (out, in) or (out, in, k, k).
            rank: of the change, at most that of the weight.
        """
        super().__init__()
        outside, inside = weight.shape[0], weight[0].numel()
        rank = min(rank, outside, inside)
        self.kernel = weight.shape[2:]
        self.down = nn.Parameter(torch.randn(rank, inside, device=weight.device) / rank)
        self.up = nn.Parameter(torch.zeros(outside, rank, device=weight.device))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The changed weights."""
        return weight + (self.up @ self.down).view_as(weight)


def add_lora(unet: UNet2DConditionModel, rank: int) -> dict[str, LowRank]:
    """Add a change to be trained to every layer with weights but norms; everything else is frozen."""
    unet.requires_grad_(False)
    changes = {}
    for name, layer in list(unet.named_modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d):
            changes[name] = LowRank(layer.weight, rank)
            parametrize.register_parametrization(layer, "weight", changes[name])
    return changes


def save_lora(changes: dict[str, LowRank], path: Path) -> None:
    """Write changes in half precision and peft's layout."""
    save_halves(lora_tensors(changes), path, metadata={"format": "pt", **USE})


def lora_tensors(changes: dict[str, LowRank]) -> dict[str, torch.Tensor]:
    """Changes in peft's layout; of convolutions (rank, in, k, k) and (out, rank, 1, 1)."""
    tensors = {}
    for name, change in changes.items():
        down, up = change.down.detach(), change.up.detach()
        if change.kernel:
            down, up = down.view(len(down), -1, *change.kernel), up[:, :, None, None]
        tensors[f"unet.{name}.lora_A.weight"], tensors[f"unet.{name}.lora_B.weight"] = down, up
    return tensors


def train_student(recipe: Recipe, data: ToyData, _heldout: ToyData, folder: Path) -> None:
    """Train the LoRA and write it to `folder/loras`; how far it lands from the model goes to figures.jsonl."""
    networks = Networks.load(folder)
    asked = Asked(questions(data, recipe.trajectories, seed=recipe.seed), recipe, data, folder, networks.unet)
    leaps = Leaps(networks, asked, folder)
    changes = add_lora(networks.unet, recipe.lora_rank)

    def loss(generator: torch.Generator, _fraction: float) -> tuple[torch.Tensor, Figures]:
        rows, phases, offsets = leaps.draw(recipe.student.batch_size, generator)
        error = leaps.landing_error(rows, phases, offsets)
        values = F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=HUBER)
        return (leaps.weights[rows] * values).mean(), {}

    def sample() -> None:
        save_lora(changes, folder / LORA_FILE)
        log_figures(folder, "student", leaps.compare(load_vae(folder), folder / "samples" / "student.png"))

    train_module("student", module=networks.unet, loss=loss, settings=recipe.student, folder=folder, sample=sample)


class Leaps:
    """What the student learns: from any state of a trajectory to the end of its phase."""

    def __init__(self, networks: Networks, asked: Asked, folder: Path) -> None:
        """Open the trajectories.

        Args:
            networks: the model, whose UNet is trained.
            asked: the questions of the trajectories.
            folder: of the recipe's results.
        """
        self._networks, self._asked, self._device = networks, asked, pick_device()
        self._states = load_trajectories(folder)
        trained = range(len(self._states) - min(HELDOUT, len(self._states) // 2))
        self._heldout = list(range(len(trained), len(self._states)))
        self._rows = [[row for row in trained if asked.is_posed(row) == posed] for posed in (True, False)]
        # A figure's face and clothes count for more, and what is around a hole not at all: it is known.
        counted = loss_weights(figure_keypoints(folder), torch.Size(self._states.shape[:1] + self._states.shape[2:]))
        self.weights = counted.to(self._device) * asked.holes.mask[: len(self._states)]

    def draw(self, size: int, generator: torch.Generator) -> tuple[list[int], torch.Tensor, torch.Tensor]:
        """Rows of trajectories, phases (B,) and states in them (B,); as many with a skeleton as are asked for."""
        counts = round(size * POSED_SHARE), size - round(size * POSED_SHARE)
        rows: list[int] = []
        for among, count in zip(self._rows, counts, strict=True):
            rows += [among[place] for place in torch.randint(len(among), (count,), generator=generator).tolist()]
        phases = torch.randint(PHASES, (size,), generator=generator)
        inside = torch.randint(1, PHASE, (size,), generator=generator)
        is_first = torch.rand(size, generator=generator) < FIRST_SHARE
        return rows, phases, torch.where(is_first, 0, inside)

    def landing_error(self, rows: list[int], phases: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """How far beside the ends of phases one step of the student lands, (B, 4, h, w) in the latents' units."""
        scheduler = self._networks.scheduler
        timesteps = torch.cat([scheduler.timesteps, torch.tensor([-1])]).to(self._device)
        begins, ends = PHASE * phases + offsets, PHASE * (phases + 1)
        here, there = (states_at(self._states, rows, each).to(self._device) for each in (begins, ends))
        target, reach = velocity_between(scheduler, here, there, (timesteps[begins], timesteps[ends]))
        noisy = here.contiguous(memory_format=torch.channels_last)
        with mixed_precision(), tuned_backends(self._networks.controlnet):
            velocity = self._networks.velocity(noisy, timesteps[begins], self._asked.inputs(rows))
        return reach * (velocity.float() - target)

    @torch.no_grad()
    def compare(self, vae: AutoencoderKL, path: Path) -> dict[str, float]:
        """Draw the held-out trajectories in the student's steps, and the first of them as pictures beneath the model's.

        Returns:
            "beside": root mean square distance of the latents.
        """
        parts = [self._heldout[first : first + 16] for first in range(0, len(self._heldout), 16)]
        leaps = partial(trajectory, self._networks, self._asked, steps=PHASES, is_guided=False)
        drawn = torch.cat([leaps(rows)[-1] for rows in parts])
        meant = states_at(self._states, self._heldout, torch.full((len(drawn),), NUM_INFERENCE_STEPS)).to(self._device)
        save_samples(path, *(to_pictures(vae.decode(each[:SHOWN]).sample) for each in (meant, drawn)))
        return {"beside": round(float((drawn - meant).square().mean().sqrt()), 4)}


def states_at(states: np.ndarray, rows: list[int], places: torch.Tensor) -> torch.Tensor:
    """States of trajectories (N, NUM_INFERENCE_STEPS + 1, 4, h, w), one of each of `rows`: (B, 4, h, w) float32."""
    return torch.from_numpy(states[rows, places.numpy()]).float()


@torch.no_grad()
def figure_keypoints(folder: Path) -> torch.Tensor:
    """Where the joints are in the pictures that the trajectories end in, (N, 18, 2), as the pose reader sees them."""
    pictures, device = drawn_pictures(folder), pick_device()
    reader = load_toy_reader(part_of(folder, "pose_reader") / "model.safetensors").to(device)
    found = []
    for rows in torch.arange(len(pictures)).split(64):
        batch = pixels(pictures, rows, device)
        small = F.interpolate(batch, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        found.append(reader(small).keypoints.cpu())
    return torch.cat(found)
