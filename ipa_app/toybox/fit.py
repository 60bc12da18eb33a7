"""The training loop that every stage of the recipe shares: resumes, warms up, cools down, averages weights."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from diffusers.training_utils import EMAModel
from torch import nn

from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.toybox import processes
from ipa_app.toybox.quick import quick
from ipa_app.toybox.settings import StageSettings

logger = logging.getLogger(__name__)

Figures = dict[str, torch.Tensor]
Loss = Callable[[torch.Generator, float], tuple[torch.Tensor, Figures]]
"""Given a step's CPU generator and the share of the samples seen: the loss of one fresh batch, and figures to log."""

CHECKPOINT_SECONDS = 180
SHEET_SECONDS = 900
"""Pictures take long on a processor, and the other processes wait for them."""
LOG_STEPS = 50
WARMUP_STEPS = 100
MOST_LEFT_OUT = 20
"""Steps on end whose gradients are not finite, before training gives up."""


@dataclass
class Progress:
    """How far a stage has come, and how many steps on end were left out last; saved with every checkpoint."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    left_out: int = 0

    def fraction(self, settings: StageSettings) -> float:
        """Share of the samples seen, in [0, 1]."""
        return min(1.0, self.samples / settings.samples)


class UnfinishedError(UserError):
    """A stage has come to its limit of minutes before it had seen its samples; it goes on where it stopped."""

    def __init__(self, stage: str, *, seen: int, samples: int, minutes: float) -> None:
        text = (
            f"{stage} stopped after {minutes:g} minutes and {seen:,} of {samples:,} samples, so it is not finished: "
            "the same command goes on from there."
        )
        super().__init__(Message.plain(text))


def pick_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bfloat16() -> bool:
    """Whether the device computes in bfloat16 faster than in float32."""
    # Older PyTorch does not tell what the processor can do.
    processor = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(torch.cuda.is_available() or processor.get("avx512_bf16") or processor.get("amx_bf16"))


def mixed_precision() -> torch.autocast:
    """Compute in bfloat16 where the hardware is made for it; weights, and what needs the digits, stay in float32."""
    return torch.autocast(pick_device().type, torch.bfloat16, enabled=has_bfloat16())


def fit(
    name: str,
    *,
    module: nn.Module,
    loss: Loss,
    settings: StageSettings,
    folder: Path,
    sheet: Callable[[], None] = lambda: None,
) -> Progress:
    """Train ``module`` in place until it has seen its samples; it ends with the averaged weights.

    Stops and resumes at will: model, optimiser, average and counters are saved every few minutes, and the
    random draws of step n depend on n alone.

    Args:
        name: of the stage; also the name of its checkpoint and log.
        module: everything that trains in this stage; its trainable parameters are optimised.
        loss: given the step's CPU generator and the share of the samples seen, the loss of this process's share
            of one fresh batch of ``settings.batch_size``, and figures to log.
        settings: samples, learning rate and limit of minutes.
        folder: where checkpoints and logs go.
        sheet: called now and then and at the end, with the averaged weights in place, to draw or measure samples.

    Raises:
        UnfinishedError: the minutes of this sitting were over first; nothing is lost.
    """
    run = _Run(name, module=module, settings=settings, folder=folder, sheet=sheet)
    while run.progress.samples < settings.samples:
        with quick(module):
            run.step(loss)
        run.keep()
    return run.finish()


class _Run:
    """A stage in training."""

    def __init__(
        self, name: str, *, module: nn.Module, settings: StageSettings, folder: Path, sheet: Callable[[], None]
    ) -> None:
        """Set up the optimiser, and go on from the checkpoint where there is one."""
        self._name, self._module, self._settings, self._folder, self._sheet = name, module, settings, folder, sheet
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        processes.start_alike(self._parameters)
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=settings.lr, weight_decay=0.01, betas=(0.9, 0.99), fused=True
        )
        self._average = EMAModel(self._parameters, decay=0.9995, use_ema_warmup=True, power=0.75, foreach=True)
        self.progress = _resume(folder / f"{name}.ckpt", module, self._optimizer, self._average)
        self._is_main = PartialState().is_main_process
        self._seconds_before = self.progress.seconds
        self._saved_at = self._shown_at = self._started = time.monotonic()

    def step(self, loss: Loss) -> None:
        """Take one step, unless its gradients are not finite."""
        progress, settings = self.progress, self._settings
        _set_learning_rate(self._optimizer, progress, settings)
        processes_here = PartialState()
        seed = progress.step * processes_here.num_processes + processes_here.process_index
        value, figures = loss(torch.Generator().manual_seed(seed), progress.fraction(settings))
        value.backward()
        processes.average_gradients(self._parameters)
        norm = nn.utils.clip_grad_norm_(self._parameters, 1.0)
        if norm.isfinite():
            self._optimizer.step()
            progress.left_out = 0
        else:
            self._leave_out()
        self._optimizer.zero_grad(set_to_none=True)
        if self._is_main and progress.step % LOG_STEPS == 0:
            self._log({"loss": value.detach(), "grad_norm": norm, **figures})
        self._average.step(self._parameters)
        progress.step += 1
        progress.samples += settings.batch_size
        progress.seconds = processes.agreed(self._seconds_before + time.monotonic() - self._started)

    def keep(self) -> None:
        """Save and show now and then.

        Raises:
            UnfinishedError: the minutes of this sitting are over.
        """
        settings, progress = self._settings, self.progress
        minutes = (progress.seconds - self._seconds_before) / 60
        if settings.minutes and minutes >= settings.minutes and progress.samples < settings.samples:
            self._save()
            raise UnfinishedError(self._name, seen=progress.samples, samples=settings.samples, minutes=settings.minutes)
        if time.monotonic() - self._saved_at > CHECKPOINT_SECONDS:
            self._save()
        if self._is_main and time.monotonic() - self._shown_at > SHEET_SECONDS:
            _with_average(self._average, self._parameters, self._sheet)
            self._shown_at = time.monotonic()

    def finish(self) -> Progress:
        """Put the averaged weights in place."""
        self._save()
        self._average.copy_to(self._parameters)
        if self._is_main:
            _as_it_is(self._sheet)
        logger.info(
            "%s done: %d samples in %.1f minutes", self._name, self.progress.samples, self.progress.seconds / 60
        )
        return self.progress

    def _leave_out(self) -> None:
        self.progress.left_out += 1
        logger.warning("step %d is left out: its gradients are not finite", self.progress.step)
        if self.progress.left_out == MOST_LEFT_OUT:
            raise FloatingPointError(f"the gradients of {self._name} are not finite in {MOST_LEFT_OUT} steps on end")

    def _log(self, figures: Figures) -> None:
        progress = self.progress
        entry = {"step": progress.step, "samples": progress.samples, "minutes": round(progress.seconds / 60, 2)}
        entry |= {name: float(figure) for name, figure in figures.items()}
        with (self._folder / f"{self._name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        logger.info("%s", entry)
        if not math.isfinite(entry["loss"]):
            raise FloatingPointError(f"the loss of {self._name} is {entry['loss']} at step {progress.step}")

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        if not self._is_main:
            return
        state = {
            "module": self._module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": self._average.state_dict(),
            "progress": vars(self.progress),
        }
        path = self._folder / f"{self._name}.ckpt"
        partial_path = path.with_suffix(".part")
        torch.save(state, partial_path)
        partial_path.replace(path)


def _set_learning_rate(optimizer: torch.optim.Optimizer, progress: Progress, settings: StageSettings) -> None:
    cosine = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress.fraction(settings)))
    for group in optimizer.param_groups:
        group["lr"] = settings.lr * cosine * min(1.0, (progress.step + 1) / WARMUP_STEPS)


def _with_average(average: EMAModel, parameters: list[nn.Parameter], action: Callable[[], None]) -> None:
    average.store(parameters)
    average.copy_to(parameters)
    _as_it_is(action)
    average.restore(parameters)


def _as_it_is(action: Callable[[], None]) -> None:
    """Without compiling anew for the few pictures of a sheet, which have other shapes than a batch."""
    with torch.compiler.set_stance("force_eager"):
        action()


def _resume(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, average: EMAModel) -> Progress:
    if not path.exists():
        return Progress()
    state = torch.load(path, weights_only=True, map_location=pick_device())
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    average.load_state_dict(state["average"])
    progress = Progress(**state["progress"])
    logger.info("%s resumes at step %d", path.stem, progress.step)
    return progress
