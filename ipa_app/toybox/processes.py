"""Training one model in several processes: ``torchrun --nproc-per-node 2 -m ipa_app.toybox ...``.

On a CPU two processes of one thread train a small model a third faster than one process of two threads.
"""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

from ipa_app.errors import UserError

_LONGEST_WAIT = timedelta(hours=6)
"""For another process; one draws sample sheets while the others wait."""


def join() -> int:
    """Meet the other processes, where torchrun has started several; how many there are.

    Raises:
        UserError: there is a GPU, which one process keeps busy.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if torch.cuda.is_available():
            raise UserError("Several processes share a CPU; on a GPU, please start one.")
        dist.init_process_group("gloo", timeout=_LONGEST_WAIT)
    return count()


def count() -> int:
    """Processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this process is the one that writes files."""
    return rank() == 0


def share(batch_size: int) -> int:
    """This process's part of a batch.

    Raises:
        UserError: the batch cannot be parted evenly.
    """
    if batch_size % count():
        raise UserError(f"A batch of {batch_size} cannot be parted among {count()} processes.")
    return batch_size // count()


def wait() -> None:
    """Wait until all processes are here."""
    if dist.is_initialized():
        dist.barrier()


def agreed(value: float) -> float:
    """The main process's value, in all of them."""
    if count() == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64)
    dist.broadcast(shared, src=0)
    return shared.item()


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes."""
    if count() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= count()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
