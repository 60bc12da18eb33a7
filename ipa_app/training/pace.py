"""How fast a run goes, how long it has left, and whether its time is up."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from ipa_app.training.config import TrainConfig
from ipa_app.training.loop import learning_rate
from ipa_app.training.reports import StepReport

REPORT_SECONDS = 15.0
"""A report comes after so long at the latest, so that slow steps do not look like none."""


class Pace:
    """Counts steps and seconds, and keeps the losses since the last report."""

    def __init__(self, config: TrainConfig, *, processes: int, seconds_before: float) -> None:
        """Begin a sitting.

        Args:
            config: of the run.
            processes: how many share it.
            seconds_before: training time of earlier sittings.
        """
        self._config = config
        self._examples = config.examples_per_step * processes
        self._before = seconds_before
        self._started = self._told = self._began = time.monotonic()
        self._steps = 0
        self._training = 0.0
        self.losses: list[Tensor] = []

    @property
    def seconds(self) -> float:
        """Time of the whole run, earlier sittings included."""
        return self._before + time.monotonic() - self._started

    @property
    def is_time_up(self) -> bool:
        """Whether the minutes that the run was given are used up."""
        return self._config.max_minutes > 0 and self.seconds >= self._config.max_minutes * 60

    @property
    def is_report_due(self) -> bool:
        """Whether nothing was reported for long."""
        return time.monotonic() - self._told >= REPORT_SECONDS

    def begin(self) -> None:
        """Time the next step from now on."""
        self._began = time.monotonic()

    def count(self, loss: Tensor) -> None:
        """Count a step; its loss () may still be on its way on the device."""
        self._training += time.monotonic() - self._began
        self._steps += 1
        self.losses.append(loss)

    def mean_loss(self) -> Tensor:
        """Return the mean loss () of this process since the last report."""
        return torch.stack(self.losses).mean()

    def report(self, *, step: int, loss: float) -> StepReport:
        """Make a report, and begin to count for the next one.

        Args:
            step: steps done.
            loss: mean over all processes since the last report.
        """
        report = StepReport(
            step=step,
            max_steps=self._config.max_steps,
            seconds_left=self._seconds_left(step),
            loss=loss,
            learning_rate=learning_rate(self._config, step - 1),
            examples_per_second=self._examples * len(self.losses) / max(self._training, 1e-9),
        )
        self.losses, self._training, self._told = [], 0.0, time.monotonic()
        return report

    def _seconds_left(self, step: int) -> float:
        by_steps = (self._config.max_steps - step) * (time.monotonic() - self._started) / max(self._steps, 1)
        if not self._config.max_minutes:
            return by_steps
        return max(0.0, min(by_steps, self._config.max_minutes * 60 - self.seconds))
