"""Stage: a ControlNet that makes figures take the pose of an OpenPose skeleton; the UNet stays frozen."""

from __future__ import annotations

import logging
import multiprocessing
import os
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from diffusers import ControlNetModel, DDIMScheduler, UNet2DConditionModel
from PIL import Image

from ipa_app.pose.draw import draw_skeleton
from ipa_app.pose.skeleton import Keypoint, Skeleton
from ipa_app.toybox import sheets
from ipa_app.toybox.dataset import ToyData
from ipa_app.toybox.fit import fit, pick_device
from ipa_app.toybox.frozen import Captions, TwoSizes
from ipa_app.toybox.sampling import GUIDANCE_SCALE, STEPS, pose_pipeline
from ipa_app.toybox.settings import Recipe
from ipa_app.toybox.start import start_of
from ipa_app.toybox.unet import load_unet, noised

logger = logging.getLogger(__name__)

TEXT_DROP = 0.4
"""Captions often name the pose; dropping many of them makes the skeleton the one thing to rely on."""


def skeleton_of(keypoints: np.ndarray) -> Skeleton:
    """The data set's (18, 2) keypoints as the app's own skeleton of one person."""
    return Skeleton(people=(tuple(Keypoint(float(x), float(y)) for x, y in keypoints),))


def skeleton_pictures(data: ToyData, size: int, path: Path) -> np.ndarray:
    """Skeleton pictures of a split, (N, size, size, 3) uint8, drawn once and kept at ``path``."""
    if not path.exists():
        logger.info("drawing %d skeletons", len(data))
        part = path.with_suffix(".part.npy")
        pictures = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=(len(data), size, size, 3))
        with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
            for row, picture in enumerate(pool.imap(partial(_draw, size), data.keypoints, chunksize=64)):
                pictures[row] = picture
        pictures.flush()
        part.replace(path)
    return np.load(path, mmap_mode="r")


def _draw(size: int, keypoints: np.ndarray) -> np.ndarray:
    return np.asarray(draw_skeleton(skeleton_of(keypoints), (size, size)))


def control_pixels(pictures: np.ndarray, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
    """(B, 3, H, W) in [0, 1], as diffusers' ControlNet pipelines feed it."""
    batch = torch.from_numpy(np.ascontiguousarray(pictures[rows.numpy()])).to(device)
    return batch.permute(0, 3, 1, 2).to(dtype=torch.float32, memory_format=torch.channels_last) / 255


def train_controlnet(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Train the ControlNet on the frozen UNet and write ``controlnet``."""
    device = pick_device()
    unet = load_unet(folder).to(memory_format=torch.channels_last)
    controlnet = _new_controlnet(recipe, unet, folder)
    controlnet = controlnet.requires_grad_(True).train().to(device, torch.float32).to(memory_format=torch.channels_last)
    scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
    latents, captions = TwoSizes(data, folder, "train", small_until=0.5), Captions(data, folder)
    skeletons = skeleton_pictures(data, recipe.size, folder / "skeletons-train.npy")

    def loss(generator: torch.Generator, fraction: float) -> tuple[torch.Tensor, dict[str, float]]:
        rows = torch.randint(len(data), (recipe.controlnet.batch_size,), generator=generator)
        shrink, sized = latents.sized(fraction, generator)
        clean = sized.sample(rows, generator, device)
        hidden = captions.hidden_states(captions.draw(rows, generator, drop=TEXT_DROP, scene=0))
        noisy, timesteps, target = noised(scheduler, clean, generator)
        control = F.avg_pool2d(control_pixels(skeletons, rows, device), shrink)
        down, middle = controlnet(noisy, timesteps, hidden, control, return_dict=False)
        prediction = unet(
            noisy,
            timesteps,
            hidden,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        ).sample
        return F.mse_loss(prediction.float(), target), {}

    def sheet() -> None:
        _pose_sheet(folder, controlnet, heldout, recipe.size)

    fit("controlnet", module=controlnet, loss=loss, settings=recipe.controlnet, folder=folder, on_checkpoint=sheet)
    controlnet.save_pretrained(folder / "controlnet")


def _new_controlnet(recipe: Recipe, unet: UNet2DConditionModel, folder: Path) -> ControlNetModel:
    start = start_of(folder, "controlnet")
    if start.exists():
        return ControlNetModel.from_pretrained(start)
    # One stage per halving from pixels to latents.
    stages = (16, 32, 64, 96)[: len(recipe.vae_channels)]
    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=stages)


@torch.no_grad()
def _pose_sheet(folder: Path, controlnet: ControlNetModel, heldout: ToyData, size: int) -> None:
    """Skeletons of held-out pictures above what their subject looks like in that pose."""
    rows = range(1, 16, 2)
    skeletons = [draw_skeleton(skeleton_of(heldout.keypoints[row]), (size, size)) for row in rows]
    prompts = [heldout.captions[row - 1][0] for row in rows]  # the other view: its words name another pose
    pictures = pose_pipeline(folder, load_unet(folder), controlnet)(
        prompts,
        image=skeletons,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE_SCALE,
        generator=[torch.Generator().manual_seed(row) for row in rows],
    ).images
    originals = [Image.fromarray(heldout.images[row]) for row in rows]
    path = folder / "sheets" / "controlnet.png"
    sheets.grid([*skeletons, *pictures, *originals], columns=len(skeletons)).save(path)
