"""Pictures of the model in training, through the ordinary diffusers pipelines."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)

from toybox.recipe.clip import load_text_encoder
from toybox.recipe.sheets import grid
from toybox.recipe.tokenizer import load_tokenizer
from toybox.recipe.vae import load_vae

STEPS = 20
GUIDANCE_SCALE = 3.0


def pipeline(folder: Path, unet: UNet2DConditionModel) -> StableDiffusionPipeline:
    """A text-to-image pipeline of what the recipe has made so far, round ``unet``."""
    pipe = StableDiffusionPipeline(
        vae=load_vae(folder),
        text_encoder=load_text_encoder(folder),
        tokenizer=load_tokenizer(folder),
        unet=unet,
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def pose_pipeline(
    folder: Path, unet: UNet2DConditionModel, controlnet: ControlNetModel
) -> StableDiffusionControlNetPipeline:
    """The same with a ControlNet."""
    components = pipeline(folder, unet).components
    pipe = StableDiffusionControlNetPipeline(**components, controlnet=controlnet, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.no_grad()
def picture_sheet(folder: Path, unet: UNet2DConditionModel, prompts: list[str], path: Path) -> None:
    """One picture per prompt on fixed seeds."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]
    pictures = pipeline(folder, unet)(
        prompts, num_inference_steps=STEPS, guidance_scale=GUIDANCE_SCALE, generator=generators
    ).images
    path.parent.mkdir(parents=True, exist_ok=True)
    grid(pictures, columns=8).save(path)
