"""Train one network of the model: resumable, with warm-up, decay and weight averaging, on one or more processes."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import AutocastKwargs
from torch import nn

from ipa_app.adapter.files import write_tensors
from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.memory import processor_has_bfloat16
from ipa_app.runtime import written_whole
from ipa_app.training.config import MixedPrecision
from ipa_app.training.distributed import Ballot, new_accelerator, process_count
from ipa_app.training.optimization import Optimization, OptimizationConfig
from toybox.recipe.backends import tuned_backends
from toybox.recipe.settings import StageSettings

logger = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)
Figures = dict[str, torch.Tensor]
Loss = Callable[[torch.Generator, float], tuple[torch.Tensor, Figures]]
"""Maps a step's CPU generator and the share of samples seen to the loss of a fresh batch, and figures to log."""

CHECKPOINT_SECONDS = 180
SAMPLE_SECONDS = 900
"""Seconds between samples: they take long on a CPU, and the other processes wait for them."""
LOG_STEPS = 50
WARMUP_STEPS = 100
WATCHED_STEPS, MOST_SKIPPED = 200, 2
"""A stage fails if more than `MOST_SKIPPED` of `WATCHED_STEPS` steps have non-finite gradients: on a GPU, nine steps in
ten were once lost unnoticed."""


class UnfinishedError(UserError):
    """A stage reached its time limit before it had seen its samples; it can be resumed."""

    def __init__(self, stage: str, *, seen: int, samples: int, minutes: float) -> None:
        text = (
            f"{stage} stopped after {minutes:g} minutes and {seen:,} of {samples:,} samples, so it is not finished: "
            "the same command continues from there."
        )
        super().__init__(Message.plain(text))


def start_of(folder: Path, part: str) -> Path:
    """Return the path of a part that training starts from; it exists only if the recipe continues from a bundle."""
    return folder / "start" / part


def part_of(folder: Path, part: str) -> Path:
    """Return the path of a finished part: the recipe's own, or else the one it starts from."""
    made = folder / part
    return made if made.exists() else start_of(folder, part)


def pick_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision() -> MixedPrecision:
    """Return bfloat16 if the device is faster in it than in float32."""
    return "bf16" if torch.cuda.is_available() or processor_has_bfloat16() else "no"


def mixed_precision() -> torch.autocast:
    """Compute in bfloat16 if the hardware supports it; weights, and what needs the precision, stay in float32."""
    return torch.autocast(pick_device().type, torch.bfloat16, enabled=precision() == "bf16")


def load_frozen(network: type[Network], folder: Path) -> Network:
    """Load a trained network in single precision on the device, frozen."""
    return network.from_pretrained(folder).to(pick_device(), torch.float32).requires_grad_(False).eval()


def save_halves(tensors: Mapping[str, torch.Tensor], path: Path, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors in half precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    halves = {name: tensor.detach().cpu().half().contiguous() for name, tensor in tensors.items()}
    write_tensors(halves, path, metadata=metadata)


def recipe_accelerator() -> Accelerator:
    """Create an accelerator, connected with the other processes if torchrun has started several.

    Raises:
        UserError: there are several processes and a GPU, which one process keeps busy.
    """
    if process_count() > 1 and torch.cuda.is_available():
        raise UserError.plain("Several processes can only share a CPU; on a GPU, please start just one.")
    # Losses choose themselves where less than single precision suffices. The precision is set by the adapters, which
    # accelerate trains in the same process.
    return new_accelerator(precision(), device_placement=False, handlers=(AutocastKwargs(enabled=False),))


def share(batch_size: int) -> int:
    """Return the number of rows of a batch for this process.

    Raises:
        UserError: the batch cannot be divided evenly.
    """
    count = PartialState().num_processes
    if batch_size % count:
        raise UserError.plain(f"A batch of {batch_size} cannot be divided among {count} processes.")
    return batch_size // count


def train_module(
    name: str,
    *,
    module: nn.Module,
    loss: Loss,
    settings: StageSettings,
    folder: Path,
    sample: Callable[[], None] = lambda: None,
) -> int:
    """Train `module` in place until it has seen its samples; it ends with the averaged weights.

    It can be stopped and resumed at any time: weights, optimiser, average and counters are saved every few minutes, and
    the random draws of step n depend on n alone.

    Args:
        name: of the stage; also the name of its checkpoint and log.
        module: everything that trains in this stage; its trainable parameters are optimised.
        loss: given the step's CPU generator and the share of the samples seen, the loss of this process's share
            of one fresh batch of `settings.batch_size`, and figures to log.
        settings: samples, learning rate and time limit.
        folder: for checkpoints and logs.
        sample: called periodically and at the end, with the averaged weights in place, to draw or measure samples.

    Returns:
        The number of samples seen.

    Raises:
        UnfinishedError: the time limit came first; nothing is lost.
    """
    training = _Training(name, module=module, loss=loss, settings=settings, folder=folder, sample=sample)
    while not training.is_over:
        with tuned_backends(module):
            training.step()
        training.keep()
    return training.finish()


class _Objective(nn.Module):
    """A network together with its loss, so that the loss is what accelerate sees as the forward pass."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.module = module
        self._loss = loss

    def forward(self, generator: torch.Generator, fraction: float) -> tuple[torch.Tensor, Figures]:
        return self._loss(generator, fraction)


class _Training:
    """A stage in training."""

    def __init__(
        self,
        name: str,
        *,
        module: nn.Module,
        loss: Loss,
        settings: StageSettings,
        folder: Path,
        sample: Callable[[], None],
    ) -> None:
        """Set up the optimiser, and resume from the checkpoint if there is one."""
        self._name, self._module, self._settings, self._folder, self._sample = name, module, settings, folder, sample
        accelerator = recipe_accelerator()
        self._steps = math.ceil(settings.samples / settings.batch_size)
        config = OptimizationConfig(
            max_steps=self._steps,
            learning_rate=settings.lr,
            lr_schedule="cosine",
            warmup_steps=WARMUP_STEPS,
            betas=(0.9, 0.99),
            fused=True,
            max_grad_norm=1.0,
            ema_decay=0.9995,
        )
        self._optimization = Optimization(_Objective(module, loss), config, accelerator=accelerator)
        self._ballot, self._is_main = Ballot(accelerator), accelerator.is_main_process
        self._processes, self._process = accelerator.num_processes, accelerator.process_index
        self._seconds_before, self._skipped_before = self._resume(), 0
        self._saved_at = self._sampled_at = self._started = time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether all samples are seen."""
        return self._optimization.step >= self._steps

    @property
    def _samples(self) -> int:
        return self._optimization.step * self._settings.batch_size

    @property
    def _checkpoint(self) -> Path:
        return self._folder / f"{self._name}.ckpt"

    def step(self) -> None:
        """Take one step."""
        optimization, figures = self._optimization, {}
        generator = torch.Generator().manual_seed(optimization.step * self._processes + self._process)

        def loss() -> torch.Tensor:
            value, logged = optimization.model(generator, optimization.step / self._steps)
            figures.update(logged)
            return value

        number = optimization.step
        value = optimization.advance([loss])
        if (number + 1) % WATCHED_STEPS == 0:
            self._check_skipped()
        if self._is_main and number % LOG_STEPS == 0:
            self._log(number, {"loss": value, "grad_norm": optimization.grad_norm, **figures})

    def _check_skipped(self) -> None:
        skipped, self._skipped_before = self._optimization.skipped - self._skipped_before, self._optimization.skipped
        if skipped > MOST_SKIPPED:
            raise FloatingPointError(
                f"{skipped} of the latest {WATCHED_STEPS} steps of {self._name} have gradients that are not finite"
            )

    def keep(self) -> None:
        """Save and sample periodically.

        Raises:
            UnfinishedError: the time limit is reached.
        """
        minutes, elapsed = self._settings.minutes, time.monotonic() - self._started
        (is_time_up,) = self._ballot.any(self._is_main and minutes is not None and elapsed >= 60 * minutes)
        if is_time_up and minutes is not None and not self.is_over:
            self._save()
            raise UnfinishedError(self._name, seen=self._samples, samples=self._settings.samples, minutes=minutes)
        if time.monotonic() - self._saved_at > CHECKPOINT_SECONDS:
            self._save()
        if self._is_main and time.monotonic() - self._sampled_at > SAMPLE_SECONDS:
            self._optimization.use_average(self._draw_sample)
            self._sampled_at = time.monotonic()

    def finish(self) -> int:
        """Put the averaged weights in place, and return the number of samples seen."""
        self._save()
        self._optimization.keep_average()
        if self._is_main:
            self._draw_sample()
        logger.info("%s done: %d samples in %.1f minutes", self._name, self._samples, self._seconds / 60)
        return self._samples

    @property
    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def _draw_sample(self) -> None:
        # Avoid recompiling for a few pictures, whose shapes differ from a batch's.
        with torch.compiler.set_stance("force_eager"):
            self._sample()

    def _log(self, step: int, figures: dict[str, torch.Tensor | None]) -> None:
        entry = {"step": step, "samples": step * self._settings.batch_size, "minutes": round(self._seconds / 60, 2)}
        entry |= {name: float(figure) for name, figure in figures.items() if figure is not None}
        with (self._folder / f"{self._name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        logger.info("%s", entry)
        if not math.isfinite(entry["loss"]):
            raise FloatingPointError(f"the loss of {self._name} is {entry['loss']} at step {step}")

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        if not self._is_main:
            return
        state = {
            "module": self._module.state_dict(),
            "optimization": self._optimization.state(),
            "step": self._optimization.step,
            "seconds": self._seconds,
        }
        with written_whole(self._checkpoint) as part:
            torch.save(state, part)

    def _resume(self) -> float:
        """Resume from the checkpoint, if any, and return the seconds trained before."""
        if not self._checkpoint.exists():
            return 0.0
        state = torch.load(self._checkpoint, weights_only=True, map_location=pick_device())
        self._module.load_state_dict(state["module"])
        self._optimization.restore(state["optimization"], step=state["step"])
        logger.info("%s resumes at step %d", self._name, state["step"])
        return state["seconds"]
