"""Stage: a ControlNet for OpenPose skeletons; the UNet and the text tower learn on beside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from diffusers import ControlNetModel, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from torch import nn

from ipa_app.pose.draw import draw_skeleton
from ipa_app.pose.keypoints import Keypoint
from ipa_app.pose.skeleton import Skeleton
from ipa_app.training.loss import mse
from toybox.recipe import sheets
from toybox.recipe.backends import compile_for_gpu
from toybox.recipe.dataset import ToyData
from toybox.recipe.drawn import drawn_once
from toybox.recipe.frozen import Captions, latents_of
from toybox.recipe.loss_weights import loss_weights
from toybox.recipe.sampling import GUIDANCE_SCALE, STEPS, pose_pipeline
from toybox.recipe.settings import Recipe
from toybox.recipe.tensors import Rows, at_hand, taken
from toybox.recipe.training import Figures, mixed_precision, pick_device, share, start_of, train_module
from toybox.recipe.unet import (
    LATENESS,
    SCENE_SHARE,
    TEXT_DROP,
    WORDS_LATENESS,
    load_unet,
    noised,
    save_text_encoder,
    text_sheet,
)

POSED_SHARE = 0.25
"""Share of a batch that has a skeleton."""
POSED_TEXT_DROP = 0.3
"""Captions often name the pose; dropping many of them makes the skeleton the one thing to rely on."""


def skeleton_of(keypoints: np.ndarray) -> Skeleton:
    """The data set's (18, 2) keypoints as the app's own skeleton of one person."""
    return Skeleton(people=(tuple(Keypoint(float(x), float(y)) for x, y in keypoints),))


def draw_keypoints(size: int, keypoints: np.ndarray) -> np.ndarray:
    """The skeleton picture of (18, 2) keypoints, (size, size, 3) uint8."""
    return np.asarray(draw_skeleton(skeleton_of(keypoints), (size, size)))


def control_pixels(pictures: Rows, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
    """(B, 3, H, W) in [0, 1], as diffusers' ControlNet pipelines feed it."""
    return taken(pictures, rows, device).permute(0, 3, 1, 2).float() / 255


def train_controlnet(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Train the ControlNet with the UNet and the text tower; write all three.

    A UNet trained for minutes has little of what a ControlNet could steer, so it learns on; the rows without a
    skeleton keep it good at pictures without one.
    """
    device = pick_device()
    unet = load_unet(folder)
    batches = _Batches(recipe, data, folder, device)
    start, text_encoder = start_of(folder, "controlnet"), batches.captions.encoder
    controlnet = ControlNetModel.from_pretrained(start) if start.exists() else new_controlnet(recipe, unet)
    parts = nn.ModuleDict({"unet": unet, "controlnet": controlnet, "text_encoder": text_encoder})
    parts = parts.requires_grad_(True).train().to(device, torch.float32, memory_format=torch.channels_last)
    for part in (unet, controlnet):
        compile_for_gpu(part)

    def loss(generator: torch.Generator, _fraction: float) -> tuple[torch.Tensor, Figures]:
        with mixed_precision():
            batch = batches.draw(share(recipe.controlnet.batch_size), generator)
            prediction = _predicted(unet, controlnet, batch)
        return mse(prediction, batch.target, batch.weights).mean(), {}

    def sheet() -> None:
        save_text_encoder(text_encoder, folder)
        text_sheet(folder, unet, heldout)
        _pose_sheet(folder, unet, controlnet, heldout, recipe.size)

    train_module("controlnet", module=parts, loss=loss, settings=recipe.controlnet, folder=folder, sample=sheet)
    if PartialState().is_main_process:
        controlnet.save_pretrained(folder / "controlnet")
        unet.save_pretrained(folder / "unet")


@dataclass(frozen=True)
class _Batch:
    """One batch; the first ``len(control)`` of its rows have a skeleton."""

    noisy: torch.Tensor
    timesteps: torch.Tensor
    target: torch.Tensor
    hidden: torch.Tensor
    control: torch.Tensor
    weights: torch.Tensor


class _Batches:
    """Draws batches from a split."""

    def __init__(self, recipe: Recipe, data: ToyData, folder: Path, device: torch.device) -> None:
        self._device, self._count = device, len(data)
        self._scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
        self._latents, self.captions = latents_of(data, folder, "train"), Captions(data, folder, "train")
        draw, size = partial(draw_keypoints, recipe.size), recipe.size
        skeletons = drawn_once(folder / "skeletons-train.npy", draw, data.keypoints, size=size)
        self._skeletons = at_hand(skeletons, device)
        self._keypoints = at_hand(data.keypoints, device)

    def draw(self, size: int, generator: torch.Generator) -> _Batch:
        """``size`` random rows, the first of them with a skeleton."""
        rows = torch.randint(self._count, (size,), generator=generator)
        posed, free = rows.split([round(size * POSED_SHARE), size - round(size * POSED_SHARE)])
        ids = [
            self.captions.draw(posed, generator, drop=POSED_TEXT_DROP, scene=0),
            self.captions.draw(free, generator, drop=TEXT_DROP, scene=SCENE_SHARE),
        ]
        clean = self._latents.sample(rows, generator, self._device)
        halves = [
            noised(self._scheduler, clean[: len(posed)], generator, lateness=LATENESS),
            noised(self._scheduler, clean[len(posed) :], generator, lateness=WORDS_LATENESS),
        ]
        noisy, timesteps, target = (torch.cat(parts) for parts in zip(*halves, strict=True))
        return _Batch(
            noisy=noisy,
            timesteps=timesteps,
            target=target,
            hidden=self.captions.hidden_states(torch.cat(ids)),
            control=control_pixels(self._skeletons, posed, self._device),
            weights=loss_weights(taken(self._keypoints, rows, self._device), clean.shape),
        )


def _predicted(unet: UNet2DConditionModel, controlnet: ControlNetModel, batch: _Batch) -> torch.Tensor:
    """What the UNet says of a batch, helped by the ControlNet where there is a skeleton."""
    posed = len(batch.control)
    down, middle = controlnet(
        batch.noisy[:posed], batch.timesteps[:posed], batch.hidden[:posed], batch.control, return_dict=False
    )
    free = len(batch.noisy) - posed

    def padded(residual: torch.Tensor) -> torch.Tensor:
        return torch.cat([residual, residual.new_zeros(free, *residual.shape[1:])])

    return unet(
        batch.noisy,
        batch.timesteps,
        batch.hidden,
        down_block_additional_residuals=[padded(residual) for residual in down],
        mid_block_additional_residual=padded(middle),
    ).sample


def new_controlnet(recipe: Recipe, unet: UNet2DConditionModel) -> ControlNetModel:
    """One that begins with the UNet's own weights and has learned nothing of skeletons."""
    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=recipe.controlnet_channels)


@torch.no_grad()
def _pose_sheet(
    folder: Path, unet: UNet2DConditionModel, controlnet: ControlNetModel, heldout: ToyData, size: int
) -> None:
    """Skeletons of held-out pictures above what their subject looks like in that pose."""
    rows = range(1, 16, 2)
    skeletons = [draw_skeleton(skeleton_of(heldout.keypoints[row]), (size, size)) for row in rows]
    prompts = [heldout.captions[row - 1][0] for row in rows]  # the other view: its words name another pose
    pictures = pose_pipeline(folder, unet, controlnet)(
        prompts,
        image=skeletons,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE_SCALE,
        generator=[torch.Generator().manual_seed(row) for row in rows],
    ).images
    originals = [Image.fromarray(heldout.images[row]) for row in rows]
    path = folder / "sheets" / "controlnet.png"
    sheets.grid([*skeletons, *pictures, *originals], columns=len(skeletons)).save(path)
