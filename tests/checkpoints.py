"""Single-file checkpoints, with or without a configuration beside them, and what plain diffusers draws with them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, SchedulerMixin, StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor

from ipa_app.engine.batch import BatchItem
from ipa_app.engine.drawing import denoise
from ipa_app.engine.plan import make_plan
from ipa_app.engine.requests import GenerateRequest
from ipa_app.models.catalog import ModelEntry, entry_from_file
from ipa_app.models.loaded import LoadedModel
from ipa_app.models.loading import load_model
from tests.single_file import write_single_file

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler", "feature_extractor")
STEPS, GUIDANCE, PROMPT = 3, 3.0, "a red cat"


def copy_configuration(folder: Path, target: Path) -> Path:
    """Copy the configuration of a pipeline's parts, without weights."""
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "model_index.json", target)
    for part in PARTS:
        if (folder / part).is_dir():
            shutil.copytree(folder / part, target / part, ignore=shutil.ignore_patterns("*.safetensors", "*.bin"))
    return target


def cache_configuration(folder: Path, *, repo: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a configuration where the Hub client's cache would have that of a repository."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    place, commit = cache / f"models--{repo.replace('/', '--')}", "0" * 40
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    copy_configuration(folder, place / "snapshots" / commit)


def write_checkpoint(folder: Path, path: Path, *, beside: bool = True, **written: Any) -> ModelEntry:
    """Write a folder's model into one file and return the app's entry for it.

    Args:
        folder: model in diffusers layout.
        path: of the file.
        beside: whether to put its configuration beside it.
        written: as for `write_single_file`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_single_file(folder, path, **written)
    if beside:
        copy_configuration(folder, path.with_suffix(""))
    return replace(entry_from_file(path, name=path.stem), width=64, height=64)


def load(entry: ModelEntry, **changes: object) -> LoadedModel:
    """Load the model of an entry, with some of its fields changed."""
    return load_model(replace(entry, **changes), device="cpu", dtype=torch.float32, report=lambda *_: None)


def pose_pipeline(model: LoadedModel) -> Any:
    """Return the pipeline a model draws with when given a pose."""
    return model.pipeline("controlnet", controlnet=model.entry.controlnet("pose"))


def draw_ours(model: LoadedModel, *, seed: int = 5) -> Tensor:
    """Return the latents of one picture drawn from words alone by the engine."""
    request = GenerateRequest(
        task="mix", prompt=PROMPT, steps=STEPS, guidance_scale=GUIDANCE, width=64, height=64, seed=seed
    )
    row = BatchItem(prompt=PROMPT, negative_prompt="", seed=seed)
    with torch.inference_mode():
        return denoise(model, [row], plan=make_plan(request, model.entry), on_step=lambda _: None)


def draw_plainly(pipeline: Any, *, seed: int = 5, **changes: Any) -> Tensor:
    """Return the latents plain diffusers draws for the same request."""
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(seed))
    settings = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "width": 64, "height": 64}
    return pipeline(PROMPT, latents=noise, output_type="latent", **(settings | changes)).images


def plain_pipeline(folder: Path, scheduler: SchedulerMixin | None = None) -> DiffusionPipeline:
    """Return plain diffusers' pipeline for a folder, with another scheduler if one is given."""
    kind = StableDiffusionXLPipeline if (folder / "text_encoder_2").is_dir() else StableDiffusionPipeline
    pipeline = kind.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    # torch.matmul takes one of two paths, depending on requires_grad; on some processors their last bits differ.
    pipeline.unet.requires_grad_(False)
    if scheduler is not None:
        pipeline.scheduler = scheduler
    return pipeline
