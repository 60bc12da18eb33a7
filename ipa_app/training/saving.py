"""When checkpoints are written, what happens when one cannot be, and how the finished adapter is published."""

from __future__ import annotations

import copy
import shutil
import time
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors import SafetensorError
from torch import Tensor

from ipa_app.adapter.files import load_adapter, save_adapter
from ipa_app.adapter.ip_adapter import IPAdapter
from ipa_app.adapter.kinds import FILE_NAMES
from ipa_app.errors import UserError
from ipa_app.models.units import size_text
from ipa_app.training.checkpoint import Checkpoint, Origin, remove_old_checkpoints, resume_step, save_checkpoint
from ipa_app.training.config import TrainConfig
from ipa_app.training.reports import FinishedReport
from ipa_app.training.sampling import Sampler

WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)
"""What a full disk raises, depending on the writer: Python, PyTorch or safetensors."""
VALUES_PER_WEIGHT = 3
"""Values that a checkpoint holds per trained weight: itself and AdamW's two moments, all float32."""
MOST_TIME = 0.05
"""Largest share of time spent on writing checkpoints; very large adapters are therefore saved less often."""


class Saver:
    """Writes checkpoints when they are due."""

    def __init__(self, config: TrainConfig, origin: Origin) -> None:
        """Create a saver; nothing is written yet.

        Args:
            config: of the run.
            origin: of the run.
        """
        self._config = config
        self._origin = origin
        self._last = time.monotonic()
        self._took = 0.0

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint should be written after this step."""
        config, waited = self._config, time.monotonic() - self._last
        by_minutes = config.save_minutes > 0 and waited >= max(config.save_minutes * 60, self._took / MOST_TIME)
        return by_minutes or (config.save_steps > 0 and step % config.save_steps == 0)

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint and return its folder; if that fails, delete all others but the latest and retry.

        Raises:
            UserError: it cannot be written; the latest one is kept.
        """
        self._last = time.monotonic()
        try:
            try:
                return save_checkpoint(checkpoint, self._config, self._origin)
            except WRITE_ERRORS:
                if not remove_old_checkpoints(self._config.output, keep=1):
                    raise
            return save_checkpoint(checkpoint, self._config, self._origin)
        except WRITE_ERRORS as error:
            parameters = sum(tensor.numel() for tensor in checkpoint.adapter.values())
            why = why_unwritable(error, self._config.output, needed=checkpoint_bytes(parameters))
            last = resume_step(self._config.output)
            raise UserError.plain(
                f"No checkpoint could be written to {self._config.output} at step {checkpoint.step} ({why}); "
                f"{f'the latest is from step {last}' if last else 'there is none yet'}."
            ) from error
        finally:
            self._took = time.monotonic() - self._last
            self._last = time.monotonic()


def checkpoint_bytes(parameters: int) -> int:
    """Return the size of a checkpoint of an adapter with this many weights."""
    return parameters * VALUES_PER_WEIGHT * 4


def why_unwritable(error: Exception, folder: Path, *, needed: int) -> str:
    """Return a short reason why something could not be written.

    Args:
        error: one of `WRITE_ERRORS`.
        folder: the destination.
        needed: bytes that were to be written.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        return f"the disk is full: {size_text(needed)} is needed, but only {size_text(free)} is free"
    return (error.strerror if isinstance(error, OSError) else None) or str(error).splitlines()[0]


TOLERANCE = 1e-3
"""Largest difference allowed between samples, in latents of about unit scale; equal weights give far less."""


class UnusableAdapterError(RuntimeError):
    """The written file does not reproduce the trained adapter."""


class DivergedAdapterError(UnusableAdapterError):
    """The trained weights are too large for the file or for drawing, or are not finite."""


def publish(
    adapter: IPAdapter,
    *,
    config: TrainConfig,
    unet: UNet2DConditionModel,
    sampler: Sampler,
    features: Tensor,
    step: int,
) -> FinishedReport:
    """Write the adapter file, read it back as the app does, and compare what both draw.

    Args:
        adapter: as trained.
        config: of the run; sets folder and precision.
        unet: the base model's.
        sampler: draws with both.
        features: of one reference, (1, ...).
        step: steps done.

    Raises:
        UserError: it cannot be written.
        DivergedAdapterError: the file holds or draws numbers that are not finite.
        UnusableAdapterError: the file reads back differently from what was written, or draws something else.
    """
    path = config.output / FILE_NAMES[config.adapter]
    dtype = {"fp16": torch.float16, "fp32": torch.float32}[config.save_precision]
    try:
        save_adapter(adapter, path, dtype=dtype)
    except WRITE_ERRORS as error:
        needed = sum(tensor.numel() for tensor in adapter.state_dict().values()) * dtype.itemsize
        raise UserError.plain(
            f"{path} cannot be written ({why_unwritable(error, config.output, needed=needed)}); fix this and run the "
            f"same command again, which continues from step {resume_step(config.output)}."
        ) from error
    found = load_adapter(path, unet)
    expected = copy.deepcopy(adapter).to(dtype).to(unet.dtype)  # rounded like the file's numbers
    _check_weights(expected, found, path)
    difference = _difference(expected, found, sampler=sampler, features=features, path=path)
    return FinishedReport(step=step, path=path, difference=difference)


def _check_weights(expected: IPAdapter, found: IPAdapter, path: Path) -> None:
    tensors, others = expected.state_dict(), found.state_dict()
    if found.kind != expected.kind or tensors.keys() != others.keys():
        raise UnusableAdapterError(f"{path} reads back as a different adapter ({found.kind}) from the one trained.")
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise DivergedAdapterError(f"{path} holds numbers that are not finite in {name}.")
        if not torch.equal(tensor, others[name]):
            raise UnusableAdapterError(f"{path} reads back with a different {name} from what was written.")


def _difference(expected: IPAdapter, found: IPAdapter, *, sampler: Sampler, features: Tensor, path: Path) -> float:
    latents = [
        sampler.draw_latents([""], [sampler.prompt(adapter, features, scale=1.0)]).float()
        for adapter in (expected, found)
    ]
    if not latents[1].isfinite().all():
        raise DivergedAdapterError(f"{path} draws numbers that are not finite.")
    difference = (latents[0] - latents[1]).abs().max().item()
    if difference > TOLERANCE:
        raise UnusableAdapterError(f"{path} draws something different from the trained adapter (by {difference:.3g}).")
    return difference
