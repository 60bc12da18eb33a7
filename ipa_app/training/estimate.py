"""An honest estimate of a run's cost, from a few of its steps."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat

import torch
from accelerate import Accelerator
from torch import nn

from ipa_app.adapter.ip_adapter import IPAdapter
from ipa_app.models.memory import peak_of_process
from ipa_app.models.units import size_text, time_text
from ipa_app.training.components import Components
from ipa_app.training.config import TrainConfig
from ipa_app.training.data import ExampleReader, batch_indices
from ipa_app.training.dataset import Dataset
from ipa_app.training.examples import TrainingBatch
from ipa_app.training.loop import Trainer
from ipa_app.training.prepared import raw_batch

TIMED_STEPS = 3
BYTES_PER_TRAINED = 16
"""Bytes per trained weight: float32 for itself, its gradient and AdamW's two moments."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run will cost on this machine.

    Attributes:
        step_seconds: measured duration of one step.
        processor_seconds: CPU time of one step over all cores; below `step_seconds` if other programs use them too.
        encode_seconds: time to encode all examples once; 0 if they are not cached.
        cache_bytes: size of the encoded examples; 0 if they are not cached.
        frozen: number of frozen weights per part.
        trained: number of trained weights.
        place: "GPU" or "main": the memory that `peak_bytes` refers to.
        peak_bytes: peak memory use, loading the model and encoding included.
        epochs: how often every example is seen.
        steps: number of steps of the run.
    """

    step_seconds: float
    processor_seconds: float
    encode_seconds: float
    cache_bytes: int
    frozen: Mapping[str, int]
    trained: int
    place: str
    peak_bytes: int
    epochs: float
    steps: int

    def __str__(self) -> str:
        """A few lines for the user."""
        lines = [
            f"frozen weights: {', '.join(f'{name} {_millions(count)}' for name, count in self.frozen.items())}",
            f"trained weights: {_millions(self.trained)}; with gradients and optimizer {size_text(self.trained_bytes)}",
            f"one step: {self.step_seconds:.2f} s, {self.processor_seconds:.2f} s of processor time "
            f"(mean of {TIMED_STEPS}, after one to warm up)",
            f"{self.steps} steps: {time_text(self.step_seconds * self.steps)}",
            f"every example is seen {self.epochs:.1f} times",
        ]
        if self.cache_bytes:
            lines.append(
                f"encoding all examples first: {time_text(self.encode_seconds)}, {size_text(self.cache_bytes)}"
            )
        else:
            lines.append("the examples are too many to keep encoded: each step opens and encodes its own")
        lines.append(f"{self.place} memory: {size_text(self.peak_bytes)} at most, reading the model included")
        lines.append(
            "Measurements, samples and checkpoints come on top; other programs on the machine change all this."
        )
        return "\n".join(lines)

    @property
    def trained_bytes(self) -> int:
        """Bytes of the trained weights, their gradients and AdamW's two moments, all in float32."""
        return self.trained * BYTES_PER_TRAINED


def estimate(
    config: TrainConfig, *, base: Components, adapter: IPAdapter, dataset: Dataset, accelerator: Accelerator
) -> Estimate:
    """Time a few steps; nothing is written.

    Args:
        config: of the run.
        base: frozen, with our attention processors installed.
        adapter: the one the run starts from.
        dataset: the data the run would train on.
        accelerator: of the run.
    """
    kept = dataset.is_kept
    encode_seconds, batches = _time_encoding(dataset) if kept else (0.0, dataset.batches(accelerator))
    trainer = Trainer(config, base=base, adapter=adapter, accelerator=accelerator)
    step_seconds, processor_seconds = _time_steps(trainer, batches, accelerator)
    seen = config.examples_per_step * accelerator.num_processes * config.max_steps
    return Estimate(
        step_seconds=step_seconds,
        processor_seconds=processor_seconds,
        encode_seconds=encode_seconds,
        cache_bytes=dataset.encoded_bytes if kept else 0,
        frozen={name: _count(module) for name, module in base.modules.items()},
        trained=_count(trainer.adapter),
        place="GPU" if accelerator.device.type == "cuda" else "main",
        peak_bytes=_peak_bytes(accelerator.device),
        epochs=seen / len(dataset.examples.train),
        steps=config.max_steps,
    )


def _time_encoding(dataset: Dataset) -> tuple[float, Iterator[TrainingBatch]]:
    """Encode one batch; return the seconds that all examples would take, and an endless iterator of that batch."""
    examples = dataset.examples
    reader = ExampleReader(examples.train, size=dataset.size, skipped=examples.skipped)
    rows = next(batch_indices(len(examples.train), dataset.config.batch_size, seed=dataset.config.seed))
    began = time.monotonic()
    encoded = dataset.encoder.encode(raw_batch([reader.open_or_next(row) for row in rows], dataset.encoder))
    seconds = (time.monotonic() - began) / len(rows) * len(examples.train)
    batch = TrainingBatch(**vars(encoded))
    return seconds, repeat(batch)


def _time_steps(trainer: Trainer, batches: Iterator[TrainingBatch], accelerator: Accelerator) -> tuple[float, float]:
    """Return the duration and the CPU time of a step in seconds."""
    steps = trainer.run(batches)
    next(steps).item()
    began, used = time.monotonic(), time.process_time()
    for _ in range(TIMED_STEPS):
        next(steps).item()  # waits for the device
    accelerator.wait_for_everyone()
    return (time.monotonic() - began) / TIMED_STEPS, (time.process_time() - used) / TIMED_STEPS


def _count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def _peak_bytes(device: torch.device) -> int:
    """Return the peak memory so far: of tensors on a GPU, else of this process."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_of_process()


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} million"
