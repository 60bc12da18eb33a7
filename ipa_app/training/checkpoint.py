"""Checkpoints from which a run goes on exactly as if it had never stopped."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ipa_app.errors import UserError
from ipa_app.training.config import TrainConfig, settings

FREE_TO_CHANGE = frozenset(
    {"output", "max_steps", "max_minutes", "log_steps", "save_steps", "save_minutes", "keep_checkpoints"}
    | {"eval_steps", "sample_steps", "num_inference_steps", "guidance_scale", "save_precision", "pretrained"}
    | {"gradient_checkpointing"}
)
"""Settings that do not touch what is learned, and so may differ between a run and its continuation."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """All that a run carries from one step to the next.

    Noise, drops and the order of the data follow from the seed and the number of the step, so the step stands
    for the state of every random generator.

    Attributes:
        step: steps done.
        seconds: training time so far.
        adapter: the adapter's state dict, float32.
        optimizer: the optimizer's state dict.
        scaler: the gradient scaler's state dict; empty but under fp16.
    """

    step: int
    seconds: float
    adapter: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]


def resume_step(output: Path) -> int:
    """Steps done by the latest checkpoint in an output folder; 0 when there is none.

    Whoever feeds the loop starts with the batches that follow: ``resume_step * gradient_accumulation_steps``.
    """
    folder = _latest(output)
    return 0 if folder is None else int(folder.name.removeprefix("checkpoint-"))


def save_checkpoint(checkpoint: Checkpoint, config: TrainConfig) -> Path:
    """Write a checkpoint so that a kill at any moment leaves the old one or the new one, never half of either.

    Returns:
        The checkpoint's folder, ``output/checkpoint-<step>``.
    """
    folder = config.output / f"checkpoint-{checkpoint.step:08d}"
    unfinished = config.output / f"unfinished-{folder.name}"
    for leftover in config.output.glob("unfinished-checkpoint-*"):
        shutil.rmtree(leftover)
    unfinished.mkdir(parents=True)
    save_file(
        {name: tensor.contiguous() for name, tensor in checkpoint.adapter.items()}, unfinished / "adapter.safetensors"
    )
    torch.save({"optimizer": checkpoint.optimizer, "scaler": checkpoint.scaler}, unfinished / "optimizer.pt")
    state = {"step": checkpoint.step, "seconds": checkpoint.seconds, "config": settings(config)}
    (unfinished / "state.json").write_text(json.dumps(state, indent=2), encoding="utf-8")
    for file in unfinished.iterdir():
        _flush(file)
    if folder.exists():
        shutil.rmtree(folder)
    unfinished.rename(folder)
    for old in _checkpoints(config.output)[: -config.keep_checkpoints]:
        shutil.rmtree(old)
    return folder


def load_checkpoint(config: TrainConfig) -> Checkpoint | None:
    """Read the latest checkpoint of the output folder, None when there is none.

    Raises:
        UserError: it belongs to a run with other settings.
    """
    folder = _latest(config.output)
    if folder is None:
        return None
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    _check_same_run(state["config"], config)
    rest = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
    return Checkpoint(
        step=state["step"],
        seconds=state["seconds"],
        adapter=load_file(folder / "adapter.safetensors"),
        optimizer=rest["optimizer"],
        scaler=rest["scaler"],
    )


def _check_same_run(old: dict[str, Any], config: TrainConfig) -> None:
    fixed = settings(config).keys() - FREE_TO_CHANGE
    if config.lr_schedule == "cosine":
        fixed |= {"max_steps"}
    for name in sorted(fixed):
        if old.get(name) != settings(config)[name]:
            raise UserError(
                f"{config.output} holds a run with {name} {old.get(name)}, not {settings(config)[name]}; "
                "continue it with its own settings or name another output folder."
            )


def _checkpoints(output: Path) -> list[Path]:
    return sorted(output.glob("checkpoint-*"))


def _latest(output: Path) -> Path | None:
    return next(reversed(_checkpoints(output)), None)


def _flush(file: Path) -> None:
    """Put a file on the disk itself: a rename may otherwise reach it before the bytes do."""
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
