"""Device, precision and processes of a training, and how the processes agree."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, KwargsHandler
from torch import distributed

from ipa_app.training.config import MixedPrecision

PATIENCE = timedelta(hours=6)
"""How long processes wait for one another: while one draws samples, or encodes the largest pictures."""


def process_count() -> int:
    """How many processes the launcher has started, before they have met."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def new_accelerator(
    mixed_precision: MixedPrecision,
    *,
    gradient_accumulation_steps: int = 1,
    device_placement: bool = True,
    handlers: tuple[KwargsHandler, ...] = (),
) -> Accelerator:
    """Meet the other processes, if there are any.

    `accelerate launch --multi_gpu` or `torchrun` sets up several processes; without GPUs they share the CPU, which
    accelerate has to be told, or each of them would take itself for the only one.

    Args:
        mixed_precision: arithmetic of the forward pass; accelerate allows a process only one.
        gradient_accumulation_steps: batches per step.
        device_placement: whether what is trained is moved to the accelerator's device; else it stays where it lies.
        handlers: accelerate's own, for what else is to differ.
    """
    return Accelerator(
        cpu=process_count() > 1 and not torch.cuda.is_available(),
        mixed_precision=mixed_precision,
        gradient_accumulation_steps=gradient_accumulation_steps,
        device_placement=device_placement,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE), *handlers],
    )


class Ballot:
    """Lets all processes of a run decide alike, without waiting for what their GPUs are at."""

    def __init__(self, accelerator: Accelerator) -> None:
        """Meet the other processes, if there are any."""
        several = accelerator.num_processes > 1
        self._group = distributed.new_group(backend="gloo", timeout=PATIENCE) if several else None

    def any(self, *wishes: bool) -> list[bool]:
        """Return for each wish whether a process has it; every process has to ask, and all get the same answer."""
        if self._group is None:
            return list(wishes)
        votes = torch.tensor(wishes, dtype=torch.uint8)
        distributed.all_reduce(votes, op=distributed.ReduceOp.MAX, group=self._group)
        return votes.bool().tolist()
