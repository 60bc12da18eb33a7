"""Variants of the bundled model with other samplers or with a LoRA, for comparison by what they draw."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch

from ipa_app.errors import UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.entry import ModelEntry
from ipa_app.models.schedule import settings_for_another


def sampled_by(model: Path, samplers: Sequence[str], folder: Path) -> dict[str, ModelEntry]:
    """Return the model once per sampler, by the sampler's name.

    Args:
        model: a folder in diffusers layout.
        samplers: class names of diffusers' schedulers.
        folder: an empty folder for copies of the model.

    Raises:
        UserError: diffusers has no such scheduler.
    """
    entries = {}
    for name in samplers:
        if not name.endswith("Scheduler") or not hasattr(diffusers, name):
            raise UserError.plain(f"diffusers has no scheduler called {name}.")
        target = shutil.copytree(model, folder / name, ignore=shutil.ignore_patterns("scheduler"))
        index = json.loads((model / "model_index.json").read_text("utf-8"))
        (target / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", name]}), "utf-8")
        own: Any = getattr(diffusers, index["scheduler"][1]).from_pretrained(model / "scheduler")
        settings = settings_for_another(own.config)
        getattr(diffusers, name).from_config(settings).save_pretrained(target / "scheduler")
        entries[name] = entry_from_folder(target, name=name)
    return entries


def with_lora(model: Path, lora: Path, folder: Path) -> Path:
    """Write a copy of the model with a LoRA merged into its UNet.

    Args:
        model: a folder in diffusers layout.
        lora: a file written by the recipe's stage `student`.
        folder: destination of the copy.
    """
    target = shutil.copytree(model, folder, ignore=shutil.ignore_patterns("unet"))
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.load_lora_weights(str(lora))
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    pipeline.unet.save_pretrained(target / "unet")
    return target
