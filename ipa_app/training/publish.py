"""The end of a run: write the adapter in the published layout and prove that the file works."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from ipa_app.adapter.files import load_adapter, save_adapter
from ipa_app.adapter.ip_adapter import IPAdapter
from ipa_app.errors import UserError
from ipa_app.training.checkpoint import resume_step
from ipa_app.training.config import TrainConfig
from ipa_app.training.reports import FinishedReport
from ipa_app.training.sampling import Sampler
from ipa_app.training.saving import WRITE_ERRORS, why_unwritable

FILE_NAMES = {"base": "ip-adapter.safetensors", "plus": "ip-adapter-plus.safetensors"}
TOLERANCE = 1e-3
"""Largest difference allowed between samples, in latents of about unit size; same weights give far less."""


class UnusableAdapterError(RuntimeError):
    """The file that was written does not do what the trained adapter does."""


def publish(
    adapter: IPAdapter,
    *,
    config: TrainConfig,
    unet: UNet2DConditionModel,
    sampler: Sampler,
    features: Tensor,
    step: int,
) -> FinishedReport:
    """Write the adapter file, read it back as the app does and draw with both.

    Args:
        adapter: as trained.
        config: of the run; says where to and in which precision.
        unet: the base model's.
        sampler: draws with it.
        features: of one reference, (1, ...).
        step: steps done.

    Raises:
        UserError: it cannot be written.
        UnusableAdapterError: the file read back differs from what was written, or draws something else.
    """
    path = config.output / FILE_NAMES[config.adapter]
    dtype = {"fp16": torch.float16, "fp32": torch.float32}[config.save_precision]
    try:
        save_adapter(adapter, path, dtype=dtype)
    except WRITE_ERRORS as error:
        needed = sum(tensor.numel() for tensor in adapter.state_dict().values()) * dtype.itemsize
        raise UserError.plain(
            f"{path} cannot be written ({why_unwritable(error, config.output, needed=needed)}); put that right and run "
            f"the same command again, which goes on from step {resume_step(config.output)}."
        ) from error
    found = load_adapter(path, unet)
    expected = copy.deepcopy(adapter).to(dtype).to(unet.dtype)  # rounded as the file's numbers are
    _check_weights(expected, found, path)
    difference = _difference(expected, found, sampler=sampler, features=features, path=path)
    return FinishedReport(step=step, path=path, difference=difference)


def _check_weights(expected: IPAdapter, found: IPAdapter, path: Path) -> None:
    tensors, others = expected.state_dict(), found.state_dict()
    if found.kind != expected.kind or tensors.keys() != others.keys():
        raise UnusableAdapterError(f"{path} reads back as another adapter ({found.kind}) than was trained.")
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise UnusableAdapterError(f"{path} holds numbers that are not finite in {name}.")
        if not torch.equal(tensor, others[name]):
            raise UnusableAdapterError(f"{path} reads back with another {name} than was written.")


def _difference(expected: IPAdapter, found: IPAdapter, *, sampler: Sampler, features: Tensor, path: Path) -> float:
    latents = [
        sampler.draw_latents([""], [sampler.prompt(adapter, features, scale=1.0)]).float()
        for adapter in (expected, found)
    ]
    if not latents[1].isfinite().all():
        raise UnusableAdapterError(f"{path} draws numbers that are not finite.")
    difference = (latents[0] - latents[1]).abs().max().item()
    if difference > TOLERANCE:
        raise UnusableAdapterError(f"{path} draws something else than the trained adapter (by {difference:.3g}).")
    return difference
