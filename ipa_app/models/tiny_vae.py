"""A small autoencoder beside a model's own, for fast live pictures and previews: diffusers' AutoencoderTiny (TAESD).

It decodes the same latents in a fraction of the time, fine lines less exactly (github.com/madebyollin/taesd). Pictures
that are kept are decoded by the model's own.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from ipa_app.errors import UserError
from ipa_app.models.entry import TINY_VAE_FOLDER
from ipa_app.models.parts import Part
from ipa_app.models.weights import find_weights

logger = logging.getLogger(__name__)


def load_tiny_vae(
    folder: Path,
    vae: AutoencoderKL,
    *,
    title: str,
    dtype: torch.dtype,
    device: torch.device,
    memory_format: torch.memory_format,
) -> AutoencoderTiny | None:
    """Read a model's small autoencoder; None if it has none, or one that cannot be used, which is logged.

    Args:
        folder: of the model.
        vae: the model's own, whose latents it is to decode.
        title: of the model, for messages.
        dtype: of the weights in memory.
        device: where it runs; it is so small that it is never offloaded.
        memory_format: of its weights there.
    """
    folder = folder / TINY_VAE_FOLDER
    if find_weights(folder, prefer_half=False) is None:
        return None
    try:
        tiny = Part(folder, title).load(AutoencoderTiny, dtype=dtype)
    except UserError as error:
        logger.warning("%s: its small decoder cannot be used, the large one does its work: %s", title, error)
        return None
    if _shape(tiny.config.latent_channels, tiny.config.decoder_block_out_channels) != _shape(
        vae.config["latent_channels"], vae.config["block_out_channels"]
    ):
        logger.warning("%s: its small decoder is for other latents, the large one does its work", title)
        return None
    return tiny.to(device, memory_format=memory_format).requires_grad_(False).eval()


def _shape(channels: int, levels: Any) -> tuple[int, int]:
    """Return the number of channels of latents, and the side in pixels of the square that one stands for."""
    return channels, 2 ** (len(levels) - 1)
