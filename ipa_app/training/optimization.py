"""Optimizer steps, shared by adapters and every network of the bundled model."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

logger = logging.getLogger(__name__)

COSINE_FLOOR = 0.05
"""Share of the learning rate at which the cosine schedule ends."""
MAX_NONFINITE_STEPS = 20
"""Consecutive steps with non-finite gradients before training gives up."""


@dataclass(frozen=True, kw_only=True)
class OptimizationConfig:
    """How weights are optimized.

    Attributes:
        max_steps: of the whole run; the learning rate schedule ends there.
        learning_rate: the peak.
        lr_schedule: "cosine" falls to a twentieth by the last step.
        warmup_steps: steps over which the learning rate first rises.
        weight_decay: AdamW's.
        betas: AdamW's.
        fused: whether AdamW updates all weights in one kernel.
        max_grad_norm: gradients are clipped to this norm.
        ema_decay: highest decay of the exponential moving average of the weights; None keeps no average.
    """

    max_steps: int
    learning_rate: float
    lr_schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    fused: bool = False
    max_grad_norm: float = math.inf
    ema_decay: float | None = None

    def learning_rate_after(self, step: int) -> float:
        """Return the learning rate of the step that follows `step` steps."""
        rate = self.learning_rate
        if self.lr_schedule == "cosine":
            cosine = (1 + math.cos(math.pi * min(step / self.max_steps, 1))) / 2
            rate *= COSINE_FLOOR + (1 - COSINE_FLOOR) * cosine
        return rate * min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else rate


@contextmanager
def sound_attention() -> Iterator[None]:
    """Disable cuDNN attention within the context: on an H100 or H200 its gradients are occasionally NaN.

    PyTorch 2.11 and later prefer it there (pytorch/pytorch issue 196678, NVIDIA/cudnn-frontend issue 1072).
    """
    enabled = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(enabled)


class Optimization:
    """Owns what changes while weights are trained, except the weights themselves.

    Attributes:
        model: computes the losses; with several processes its backward pass exchanges gradients.
        parameters: the trained weights.
        step: steps done.
        grad_norm: () of the latest step, before clipping; None before the first.
        skipped: number of steps not applied because their gradients were not finite.
    """

    def __init__(self, model: nn.Module, config: OptimizationConfig, *, accelerator: Accelerator) -> None:
        """Set up the optimizer.

        Args:
            model: those of its weights that require gradients are trained, all of them by every loss.
            config: how to optimize.
            accelerator: see `ipa_app.training.distributed.new_accelerator`.
        """
        self._config = config
        self._accelerator = accelerator
        self.parameters = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(
            self.parameters,
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=config.fused or None,
        )
        self.model, self._optimizer = accelerator.prepare(model, optimizer)
        self._ema = None
        if config.ema_decay is not None:
            # Karras et al. 2022: early weights are forgotten sooner.
            self._ema = EMAModel(self.parameters, decay=config.ema_decay, use_ema_warmup=True, power=0.75, foreach=True)
        self.step = 0
        self.grad_norm: Tensor | None = None
        self.skipped = 0
        self._nonfinite_steps = 0

    def advance(self, losses: Iterable[Callable[[], Tensor]]) -> Tensor:
        """Take one step.

        Args:
            losses: one per accumulated batch; each computes the loss () of its batch.

        Returns:
            The mean loss (), still on the device.

        Raises:
            FloatingPointError: the gradients were not finite for many consecutive steps.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = self._config.learning_rate_after(self.step)
        values = []
        for loss in losses:
            with self._accelerator.accumulate(self.model), sound_attention():
                value = loss()
                self._accelerator.backward(value)
                if self._is_sound():
                    self._optimizer.step()
                self._optimizer.zero_grad()
            values.append(value.detach())
        self.step += 1
        if self._ema is not None:
            self._ema.step(self.parameters)
        return torch.stack(values).mean()

    def _is_sound(self) -> bool:
        """Clip the gradients of a whole step and return whether to apply them."""
        if not self._accelerator.sync_gradients:
            return True
        self.grad_norm = self._accelerator.clip_grad_norm_(self.parameters, self._config.max_grad_norm)
        # In half precision the scaler skips such steps itself until it has found its scale.
        if self.grad_norm is None or self.grad_norm.isfinite() or self._accelerator.scaler is not None:
            self._nonfinite_steps = 0
            return True
        self._nonfinite_steps += 1
        self.skipped += 1
        logger.warning("step %d is skipped: its gradients are not finite", self.step)
        if self._nonfinite_steps == MAX_NONFINITE_STEPS:
            raise FloatingPointError(f"the gradients are not finite in {MAX_NONFINITE_STEPS} steps on end")
        return False

    def use_average(self, action: Callable[[], None]) -> None:
        """Run `action` with the averaged weights in place."""
        if self._ema is None:
            action()
            return
        self._ema.store(self.parameters)
        self._ema.copy_to(self.parameters)
        action()
        self._ema.restore(self.parameters)

    def keep_average(self) -> None:
        """Put the averaged weights in place for good."""
        if self._ema is not None:
            self._ema.copy_to(self.parameters)

    def state(self) -> dict[str, Any]:
        """Return the states of optimizer, scaler and average: with the weights, all that further steps depend on."""
        scaler = self._accelerator.scaler
        return {
            "optimizer": self._optimizer.state_dict(),
            "scaler": {} if scaler is None else scaler.state_dict(),
            "ema": {} if self._ema is None else self._ema.state_dict(),
            "nonfinite_steps": self._nonfinite_steps,
        }

    def restore(self, state: dict[str, Any], *, step: int) -> None:
        """Restore a state; the following steps repeat those that followed it then."""
        self._optimizer.load_state_dict(state["optimizer"])
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state["scaler"])
        if self._ema is not None:
            self._ema.load_state_dict(state["ema"])
        self._nonfinite_steps = state.get("nonfinite_steps", 0)
        self.step = step
