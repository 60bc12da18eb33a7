"""The speed of a run, its remaining time, and whether its time is up."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from ipa_app.training.config import TrainConfig
from ipa_app.training.loop import learning_rate
from ipa_app.training.reports import StepReport

REPORT_SECONDS = 15.0
"""Longest time between reports, so that slow steps do not look like a hang."""


class Pace:
    """Counts steps and seconds, and collects the losses since the last report."""

    def __init__(self, config: TrainConfig, *, processes: int, seconds_before: float) -> None:
        """Start a session.

        Args:
            config: of the run.
            processes: how many share the run.
            seconds_before: training time of earlier sessions.
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
        """Time of the whole run, earlier sessions included."""
        return self._before + time.monotonic() - self._started

    @property
    def is_time_up(self) -> bool:
        """Whether the run's time limit is used up."""
        return self._config.max_minutes > 0 and self.seconds >= self._config.max_minutes * 60

    @property
    def is_report_due(self) -> bool:
        """Whether the last report is too long ago."""
        return time.monotonic() - self._told >= REPORT_SECONDS

    def begin(self) -> None:
        """Start timing the next step."""
        self._began = time.monotonic()

    def count(self, loss: Tensor) -> None:
        """Count a step; its loss () may still be pending on the device."""
        self._training += time.monotonic() - self._began
        self._steps += 1
        self.losses.append(loss)

    def mean_loss(self) -> Tensor:
        """Return the mean loss () of this process since the last report."""
        return torch.stack(self.losses).mean()

    def report(self, *, step: int, loss: float) -> StepReport:
        """Build a report and start counting for the next.

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
