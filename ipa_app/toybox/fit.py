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

from ipa_app.toybox import processes
from ipa_app.toybox.quick import quick
from ipa_app.toybox.settings import StageSettings

logger = logging.getLogger(__name__)

Figures = dict[str, torch.Tensor]
Loss = Callable[[torch.Generator, float], tuple[torch.Tensor, Figures]]
"""Given a step's CPU generator and the fraction of the budget used: the loss of one fresh batch, and figures to log."""

CHECKPOINT_SECONDS = 180
SHEET_SECONDS = 900
"""Pictures take long on a processor, and the other processes wait for them."""
LOG_STEPS = 50
WARMUP_STEPS = 100
MOST_LEFT_OUT = 20
"""Steps on end whose gradients are no numbers, before training gives up."""


@dataclass
class Progress:
    """How far a stage has come, and how many steps on end were left out last; saved with every checkpoint."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    left_out: int = 0

    def fraction(self, settings: StageSettings) -> float:
        """Share of the budget used, in [0, 1]."""
        by_clock = self.seconds / (60 * settings.minutes) if settings.minutes else 0.0
        return min(1.0, max(self.samples / settings.samples, by_clock))


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
    """Train ``module`` in place until its budget is spent; it ends with the averaged weights.

    Stops and resumes at will: model, optimiser, average and counters are saved every few minutes, and the
    random draws of step n depend on n alone.

    Args:
        name: of the stage; also the name of its checkpoint and log.
        module: everything that trains in this stage; its trainable parameters are optimised.
        loss: given the step's CPU generator and the fraction of the budget used, the loss of this process's share
            of one fresh batch of ``settings.batch_size``, and figures to log.
        settings: budget and learning rate.
        folder: where checkpoints and logs go.
        sheet: called now and then and at the end, with the averaged weights in place, to draw or measure samples.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    processes.start_alike(parameters)
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=0.01, betas=(0.9, 0.99), fused=True)
    average = EMAModel(parameters, decay=0.9995, use_ema_warmup=True, power=0.75, foreach=True)
    progress = _resume(folder / f"{name}.ckpt", module, optimizer, average)
    is_main = PartialState().is_main_process
    saved_at = shown_at = started = time.monotonic()
    before = progress.seconds
    while progress.fraction(settings) < 1:
        with quick(module):
            _step(loss, progress, settings, optimizer, parameters, folder / f"{name}.jsonl")
        average.step(parameters)
        progress.step += 1
        progress.samples += settings.batch_size
        progress.seconds = processes.agreed(before + time.monotonic() - started)
        if is_main and time.monotonic() - saved_at > CHECKPOINT_SECONDS:
            _save(folder / f"{name}.ckpt", module, optimizer, average, progress)
            saved_at = time.monotonic()
        if is_main and time.monotonic() - shown_at > SHEET_SECONDS:
            _with_average(average, parameters, sheet)
            shown_at = time.monotonic()
    if is_main:
        _save(folder / f"{name}.ckpt", module, optimizer, average, progress)
    average.copy_to(parameters)
    if is_main:
        _as_it_is(sheet)
    logger.info("%s done: %d samples in %.1f minutes", name, progress.samples, progress.seconds / 60)
    return progress


def _step(
    loss: Loss,
    progress: Progress,
    settings: StageSettings,
    optimizer: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    log: Path,
) -> None:
    fraction = progress.fraction(settings)
    cosine = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * fraction))
    for group in optimizer.param_groups:
        group["lr"] = settings.lr * cosine * min(1.0, (progress.step + 1) / WARMUP_STEPS)
    processes_here = PartialState()
    seed = progress.step * processes_here.num_processes + processes_here.process_index
    value, figures = loss(torch.Generator().manual_seed(seed), fraction)
    value.backward()
    processes.average_gradients(parameters)
    norm = nn.utils.clip_grad_norm_(parameters, 1.0)
    if norm.isfinite():
        optimizer.step()
        progress.left_out = 0
    else:
        progress.left_out += 1
        logger.warning("step %d is left out: its gradients are no numbers", progress.step)
        if progress.left_out == MOST_LEFT_OUT:
            raise FloatingPointError(f"the gradients of {log.stem} are no numbers in {MOST_LEFT_OUT} steps on end")
    optimizer.zero_grad(set_to_none=True)
    if processes_here.is_main_process and progress.step % LOG_STEPS == 0:
        entry = {"step": progress.step, "samples": progress.samples, "minutes": round(progress.seconds / 60, 2)}
        entry |= {"loss": float(value.detach()), "grad_norm": float(norm)}
        entry |= {name: float(figure) for name, figure in figures.items()}
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        logger.info("%s", entry)
        if not math.isfinite(entry["loss"]):
            raise FloatingPointError(f"the loss of {log.stem} is {entry['loss']} at step {progress.step}")


def _with_average(average: EMAModel, parameters: list[nn.Parameter], action: Callable[[], None]) -> None:
    average.store(parameters)
    average.copy_to(parameters)
    _as_it_is(action)
    average.restore(parameters)


def _as_it_is(action: Callable[[], None]) -> None:
    """Without compiling anew for the few pictures of a sheet, which have other shapes than a batch."""
    with torch.compiler.set_stance("force_eager"):
        action()


def _save(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, average: EMAModel, progress: Progress
) -> None:
    state = {
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average.state_dict(),
        "progress": vars(progress),
    }
    partial_path = path.with_suffix(".part")
    torch.save(state, partial_path)
    partial_path.replace(path)


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
