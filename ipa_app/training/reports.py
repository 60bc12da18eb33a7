"""What a run tells whoever follows it, and the log it keeps."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """Progress since the last such report.

    Attributes:
        step: steps done.
        loss: mean over the steps since the last report; noisy, and no guide to quality.
        learning_rate: of the latest step.
        examples_per_second: over all processes, measurements and samples left out.
    """

    step: int
    loss: float
    learning_rate: float
    examples_per_second: float

    def __str__(self) -> str:
        """One line for a person."""
        return f"step {self.step}: loss {self.loss:.4f}, {self.examples_per_second:.1f} examples/s"


@dataclass(frozen=True, kw_only=True)
class HeldoutReport:
    """Held-out loss at fixed timesteps and fixed noise.

    Attributes:
        with_image: with text and picture.
        without_image: with text alone: what the frozen base model does, the same throughout the run.
        image_only: with the picture and the empty text.
    """

    step: int
    with_image: float
    without_image: float
    image_only: float

    def __str__(self) -> str:
        """One line for a person."""
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
        """One line for a person."""
        return f"step {self.step}: samples in {self.path}"


@dataclass(frozen=True, kw_only=True)
class CheckpointReport:
    """A checkpoint was written."""

    step: int
    path: Path

    def __str__(self) -> str:
        """One line for a person."""
        return f"step {self.step}: checkpoint in {self.path}"


@dataclass(frozen=True, kw_only=True)
class FinishedReport:
    """The adapter file was written, read back and found to do what the trained adapter does.

    Attributes:
        difference: largest difference between the two adapters' samples, in latents.
    """

    step: int
    path: Path
    difference: float

    def __str__(self) -> str:
        """One line for a person."""
        return f"done after {self.step} steps: {self.path} (read back, same sample within {self.difference:.1g})"


Report = StepReport | HeldoutReport | SampleReport | CheckpointReport | FinishedReport


def logged(reports: Iterator[Report], log: Path) -> Iterator[Report]:
    """Pass reports on, writing each as a line of JSON with its kind and the time."""
    log.parent.mkdir(parents=True, exist_ok=True)
    for report in reports:
        line = {"report": type(report).__name__, "time": round(time.time(), 3), **asdict(report)}
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")
        yield report
