"""The frozen base model an adapter is trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import diffusers
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from ipa_app.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Components:
    """The parts of a Stable Diffusion model and the vision tower its adapters look through.

    Attributes:
        scheduler: the model's own, used for samples; training noise follows the same betas.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: SchedulerMixin
    image_encoder: CLIPVisionModelWithProjection
    image_processor: CLIPImageProcessor

    def freeze(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move every part to ``device`` and ``dtype``, in eval mode, with no gradient asked for its weights."""
        modules = (self.unet, self.vae, self.text_encoder, self.image_encoder)
        for module in modules:
            module.requires_grad_(False).eval().to(device)
            if module.dtype != dtype:
                module.to(dtype)

    def noise_schedule(self) -> DDPMScheduler:
        """The schedule the base model was trained with.

        Raises:
            UserError: the model predicts something the loss has no target for.
        """
        schedule = cast(DDPMScheduler, DDPMScheduler.from_config(self.scheduler.config))
        predicted = schedule.config["prediction_type"]
        if predicted not in ("epsilon", "v_prediction"):
            raise UserError(
                f"The base model predicts {predicted!r}; "
                "adapters can be trained on models that predict epsilon or v_prediction."
            )
        return schedule

    def clip_dim(self, kind: str) -> int:
        """Width of the features an adapter of this kind reads from the vision tower."""
        config = self.image_encoder.config
        return config.projection_dim if kind == "base" else config.hidden_size

    @property
    def size(self) -> int:
        """Side in pixels of the pictures the base model makes by default."""
        return self.unet.config["sample_size"] * 2 ** (len(self.vae.config["block_out_channels"]) - 1)


def load_components(folder: Path, *, image_encoder: Path | None = None) -> Components:
    """Read a base model from disk, touching no network.

    Args:
        folder: Stable Diffusion 1.x or 2.x in diffusers layout.
        image_encoder: folder of a CLIP vision tower with projection; default: ``folder / "image_encoder"``.

    Raises:
        UserError: the folder is not such a model, or a part is missing.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise UserError(f"{folder} is not a base model: it has no model_index.json. Name a folder in diffusers layout.")
    parts = json.loads(index.read_text(encoding="utf-8"))
    if "text_encoder_2" in parts:
        raise UserError(
            f"{folder} has two text encoders (SDXL); adapters are trained on Stable Diffusion 1 and 2 only."
        )
    vision = image_encoder or folder / "image_encoder"
    if not (vision / "config.json").is_file():
        raise UserError(f"There is no CLIP vision tower in {vision}; name one with --image-encoder.")
    scheduler_class = getattr(diffusers, parts["scheduler"][1])
    loading = {"local_files_only": True, "torch_dtype": torch.float32}
    try:
        return Components(
            unet=UNet2DConditionModel.from_pretrained(folder / "unet", **loading),
            vae=AutoencoderKL.from_pretrained(folder / "vae", **loading),
            text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder", local_files_only=True),
            tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            scheduler=scheduler_class.from_pretrained(folder / "scheduler", local_files_only=True),
            image_encoder=CLIPVisionModelWithProjection.from_pretrained(vision, local_files_only=True),
            image_processor=_load_image_processor(folder, vision),
        )
    except OSError as error:
        raise UserError(f"The base model in {folder} cannot be read: {error}") from error


def _load_image_processor(folder: Path, vision: Path) -> CLIPImageProcessor:
    for place in (vision, folder / "feature_extractor"):
        if (place / "preprocessor_config.json").is_file():
            return CLIPImageProcessor.from_pretrained(place, local_files_only=True)
    side = json.loads((vision / "config.json").read_text(encoding="utf-8"))["image_size"]
    return CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
