"""A complete random SDXL in the layout of a published one, small enough for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

from tests.tiny_models import (
    CROSS_ATTENTION_DIM,
    save_extras,
    tiny_clip_vision,
    tiny_image_processor,
    tiny_sdxl_unet,
    tiny_second_text_encoder,
    tiny_text_encoder,
    tiny_tokenizer,
    tiny_vae,
)


def tiny_sdxl_scheduler() -> EulerDiscreteScheduler:
    """Build the scheduler of the published model, whose initial noise has a variance far above 1."""
    return EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1, timestep_spacing="leading"
    )


def tiny_sdxl_bundle(
    folder: Path | str,
    *,
    seed: int = 0,
    blocks: Mapping[str, Any] = MappingProxyType({}),
    second_text: Mapping[str, int] = MappingProxyType({}),
) -> Path:
    """Write a complete random SDXL with ControlNet and adapters and return its folder.

    Args:
        folder: where to write it; made when missing.
        seed: of all weights.
        blocks: of the UNet, to replace the usual ones.
        second_text: `hidden_size` and `num_hidden_layers` of the second text encoder, to replace the usual ones.
    """
    folder = Path(folder)
    text_width = CROSS_ATTENTION_DIM + second_text.get("hidden_size", CROSS_ATTENTION_DIM)
    unet, tokenizer = tiny_sdxl_unet(seed=seed, cross_attention_dim=text_width, blocks=blocks), tiny_tokenizer()
    pipeline = StableDiffusionXLPipeline(
        unet=unet,
        vae=tiny_vae(seed=seed),
        text_encoder=tiny_text_encoder(tokenizer, seed=seed),
        text_encoder_2=tiny_second_text_encoder(tokenizer, seed=seed, shape=second_text),
        tokenizer=tokenizer,
        tokenizer_2=tiny_tokenizer(),
        scheduler=tiny_sdxl_scheduler(),
        feature_extractor=tiny_image_processor(),
        image_encoder=tiny_clip_vision(seed=seed),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    pipeline.to(torch.float16)
    pipeline.save_pretrained(folder)
    save_extras(folder, unet, seed=seed, title="Tiny XL")
    return folder
