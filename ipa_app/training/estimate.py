"""An honest estimate of what a run will cost, from a few steps of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import torch
from accelerate import Accelerator

from ipa_app.training.components import Components
from ipa_app.training.config import TrainConfig
from ipa_app.training.data import ExampleReader, batch_indices
from ipa_app.training.dataset import Dataset
from ipa_app.training.examples import TrainingBatch
from ipa_app.training.loop import Trainer
from ipa_app.training.prepared import raw_batch
from ipa_app.training.run import new_adapter

TIMED_STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run will cost on this machine.

    Attributes:
        step_seconds: of one step, measured.
        encode_seconds: to encode all examples once, 0 where they are not kept.
        cache_bytes: of the encoded examples, 0 where they are not kept.
        trained: number of trained weights.
        device_bytes: most memory used on a GPU, 0 on a CPU.
        epochs: times that every example is seen.
        steps: of the run.
    """

    step_seconds: float
    encode_seconds: float
    cache_bytes: int
    trained: int
    device_bytes: int
    epochs: float
    steps: int

    def __str__(self) -> str:
        """A few lines for a person."""
        lines = [
            f"trained weights: {self.trained / 1e6:.1f} million",
            f"one step: {self.step_seconds:.2f} s (mean of {TIMED_STEPS}, after one to warm up)",
            f"{self.steps} steps: {_duration(self.step_seconds * self.steps)}",
            f"every example is seen {self.epochs:.1f} times",
        ]
        if self.cache_bytes:
            lines.append(f"encoding all examples first: {_duration(self.encode_seconds)}, {_size(self.cache_bytes)}")
        else:
            lines.append("the examples are too many to keep encoded: each step opens and encodes its own")
        if self.device_bytes:
            lines.append(f"GPU memory: {_size(self.device_bytes)}")
        lines.append(
            "Measurements, samples and checkpoints come on top; other programs on the machine change all this."
        )
        return "\n".join(lines)


def estimate(config: TrainConfig, *, base: Components, dataset: Dataset, accelerator: Accelerator) -> Estimate:
    """Time a few steps; nothing is written.

    Args:
        config: of the run.
        base: frozen, with our attention processors installed.
        dataset: what the run would train on.
        accelerator: of the run.
    """
    kept = dataset.fits_cache()
    encode_seconds, batches = _time_encoding(dataset) if kept else (0.0, dataset.batches(accelerator))
    trainer = Trainer(config, base=base, adapter=new_adapter(config, base), accelerator=accelerator)
    seen = config.batch_size * config.gradient_accumulation_steps * accelerator.num_processes * config.max_steps
    return Estimate(
        step_seconds=_time_steps(trainer, batches, accelerator),
        encode_seconds=encode_seconds,
        cache_bytes=dataset.needed_bytes() if kept else 0,
        trained=sum(weight.numel() for weight in trainer.adapter.parameters()),
        device_bytes=torch.cuda.max_memory_allocated() if accelerator.device.type == "cuda" else 0,
        epochs=seen / len(dataset.train),
        steps=config.max_steps,
    )


def _time_encoding(dataset: Dataset) -> tuple[float, Iterator[TrainingBatch]]:
    """Encode one batch; gives the seconds that all examples would take, and that batch again and again."""
    reader = ExampleReader(dataset.train, size=dataset.size)
    rows = next(batch_indices(len(dataset.train), dataset.config.batch_size, seed=dataset.config.seed))
    began = time.monotonic()
    encoded = dataset.encoder.encode(raw_batch([reader.open_or_next(row) for row in rows], dataset.encoder))
    seconds = (time.monotonic() - began) / len(rows) * len(dataset.train)
    batch = TrainingBatch(**vars(encoded))
    return seconds, repeat(batch)


def _time_steps(trainer: Trainer, batches: Iterator[TrainingBatch], accelerator: Accelerator) -> float:
    steps = trainer.run(batches)
    next(steps).item()
    began = time.monotonic()
    for _ in range(TIMED_STEPS):
        next(steps).item()  # waits for the device
    accelerator.wait_for_everyone()
    return (time.monotonic() - began) / TIMED_STEPS


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
