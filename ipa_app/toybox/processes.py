"""Training one model in several processes: ``torchrun --nproc-per-node 2 -m ipa_app.toybox ...``."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
from accelerate import PartialState
from accelerate.utils import broadcast, reduce
from torch import nn

from ipa_app.errors import UserError

_LONGEST_WAIT = timedelta(hours=6)
"""For another process; one draws data and sample sheets while the others wait."""


def join() -> PartialState:
    """Meet the other processes, where torchrun has started several.

    Raises:
        UserError: there is a GPU, which one process keeps busy.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return PartialState()
    if torch.cuda.is_available():
        raise UserError.plain("Several processes share a CPU; on a GPU, please start one.")
    return PartialState(cpu=True, timeout=_LONGEST_WAIT)


def share(batch_size: int) -> int:
    """This process's part of a batch.

    Raises:
        UserError: the batch cannot be parted evenly.
    """
    count = PartialState().num_processes
    if batch_size % count:
        raise UserError.plain(f"A batch of {batch_size} cannot be parted among {count} processes.")
    return batch_size // count


def agreed(value: float) -> float:
    """The main process's value, in all of them."""
    if PartialState().num_processes == 1:
        return value
    return broadcast(torch.tensor(value, dtype=torch.float64)).item()


def start_alike(parameters: list[nn.Parameter]) -> None:
    """Give every process the main one's values: new layers are drawn differently in each."""
    if PartialState().num_processes > 1:
        for parameter in parameters:
            parameter.data.copy_(broadcast(parameter.data.contiguous()))


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes."""
    if PartialState().num_processes == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    # In one message: most of them are small.
    flat = reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
