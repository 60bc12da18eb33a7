"""Device, precision and processes of a training run, and how the processes agree."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, KwargsHandler
from torch import distributed

from ipa_app.training.config import MixedPrecision

PATIENCE = timedelta(hours=6)
"""How long processes wait for one another, as when one draws samples or encodes the largest pictures."""


def process_count() -> int:
    """Return how many processes the launcher has started, before they are connected."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def new_accelerator(
    mixed_precision: MixedPrecision,
    *,
    gradient_accumulation_steps: int = 1,
    device_placement: bool = True,
    handlers: tuple[KwargsHandler, ...] = (),
) -> Accelerator:
    """Create an accelerator, connected with the other processes, if any.

    `accelerate launch --multi_gpu` or `torchrun` sets up several processes. Without GPUs they share the CPU, which
    accelerate must be told, or each process would assume to be the only one.

    Args:
        mixed_precision: arithmetic of the forward pass; accelerate allows a process only one.
        gradient_accumulation_steps: batches per step.
        device_placement: whether the trained model is moved to the accelerator's device; else it stays where it is.
        handlers: accelerate's own, for further settings.
    """
    return Accelerator(
        cpu=process_count() > 1 and not torch.cuda.is_available(),
        mixed_precision=mixed_precision,
        gradient_accumulation_steps=gradient_accumulation_steps,
        device_placement=device_placement,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE), *handlers],
    )


class Ballot:
    """Lets all processes of a run reach the same decision without waiting for their GPUs."""

    def __init__(self, accelerator: Accelerator) -> None:
        """Connect with the other processes, if any."""
        several = accelerator.num_processes > 1
        self._group = distributed.new_group(backend="gloo", timeout=PATIENCE) if several else None

    def any(self, *wishes: bool) -> list[bool]:
        """Return for each wish whether any process has it; every process must call this and gets the same answer."""
        if self._group is None:
            return list(wishes)
        votes = torch.tensor(wishes, dtype=torch.uint8)
        distributed.all_reduce(votes, op=distributed.ReduceOp.MAX, group=self._group)
        return votes.bool().tolist()
