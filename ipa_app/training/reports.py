"""The reports that a run yields, and its log."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ipa_app.models.units import time_text

logger = logging.getLogger(__name__)

LOG_FILE = "log.jsonl"


@dataclass(frozen=True, kw_only=True)
class ResumedReport:
    """The run resumes from a checkpoint.

    Attributes:
        step: steps done.
        max_steps: steps in all.
        more: how to train further if all steps are done.
    """

    step: int
    max_steps: int
    more: str = "a larger --max-steps"

    def __str__(self) -> str:
        """One line for the user."""
        if self.step >= self.max_steps:
            done = f"all {self.max_steps} steps" if self.step == self.max_steps else f"{self.step} steps"
            more = "" if self.step == self.max_steps else f", more than the {self.max_steps} asked for"
            return f"{done} are already done{more}; to train further, use {self.more}"
        return f"continuing from step {self.step} of {self.max_steps}"


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """Progress since the last such report.

    Attributes:
        step: steps done.
        max_steps: steps in all.
        seconds_left: to the end of the run, estimated from this session so far, measuring and saving included.
        loss: mean over the steps since the last report; noisy, and no measure of quality.
        learning_rate: of the latest step.
        examples_per_second: over all processes, time for measurements and samples excluded.
    """

    step: int
    max_steps: int
    seconds_left: float
    loss: float
    learning_rate: float
    examples_per_second: float

    def __str__(self) -> str:
        """One line for the user."""
        left = f", {time_text(self.seconds_left)} left" if self.step < self.max_steps else ""
        pace = f"{self.examples_per_second:.1f} examples/s"
        return f"step {self.step} of {self.max_steps}: loss {self.loss:.4f}, {pace}{left}"


@dataclass(frozen=True, kw_only=True)
class HeldoutReport:
    """Held-out loss at fixed timesteps and fixed noise.

    Attributes:
        with_image: with text and picture.
        without_image: with text alone, that is, of the frozen base model; constant throughout the run.
        image_only: with the picture and the empty text.
    """

    step: int
    with_image: float
    without_image: float
    image_only: float

    @property
    def image_hurts(self) -> bool:
        """Whether the base model does better alone than with the adapter."""
        return self.with_image > self.without_image

    def __str__(self) -> str:
        """One line for the user."""
        return (
            f"step {self.step}: held-out loss {self.with_image:.4f} with the picture, "
            f"{self.without_image:.4f} without it, {self.image_only:.4f} with the picture alone"
        )


@dataclass(frozen=True, kw_only=True)
class SampleReport:
    """A sheet of samples was written."""

    step: int
    path: Path

    def __str__(self) -> str:
        """One line for the user."""
        return f"step {self.step}: samples in {self.path}"


@dataclass(frozen=True, kw_only=True)
class CheckpointReport:
    """A checkpoint was written."""

    step: int
    path: Path

    def __str__(self) -> str:
        """One line for the user."""
        return f"step {self.step}: checkpoint in {self.path}"


@dataclass(frozen=True, kw_only=True)
class StoppedReport:
    """The run was stopped early on request.

    Attributes:
        path: the checkpoint to resume from; None if no step was done.
    """

    step: int
    path: Path | None

    def __str__(self) -> str:
        """One line for the user."""
        saved = "nothing was learned yet" if self.path is None else f"everything is saved in {self.path}"
        return f"stopped after {self.step} steps: {saved}; the same command continues from there"


@dataclass(frozen=True, kw_only=True)
class FinishedReport:
    """The adapter file was written, read back and found to do what the trained adapter does.

    Attributes:
        difference: largest difference between the two adapters' sampled latents.
    """

    step: int
    path: Path
    difference: float

    def __str__(self) -> str:
        """One line for the user."""
        return f"done after {self.step} steps: {self.path} (read back, same sample within {self.difference:.1g})"


Report = ResumedReport | StepReport | HeldoutReport | SampleReport | CheckpointReport | StoppedReport | FinishedReport


def logged(reports: Iterator[Report], log: Path) -> Iterator[Report]:
    """Pass reports on, logging each as a JSON line with its kind and the time; a full disk does not end the run."""
    told = False
    for report in reports:
        line = {"report": type(report).__name__, "time": round(time.time(), 3), **asdict(report)}
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, default=str) + "\n")
        except OSError as error:
            if not told:
                logger.warning("%s cannot be written (%s); the run continues without it.", log, error.strerror)
            told = True
        yield report
