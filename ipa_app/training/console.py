"""What the user sees of a run: a progress bar on a terminal, else lines."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ipa_app.models.units import time_text
from ipa_app.training.checkpoint import way_on
from ipa_app.training.config import TrainConfig
from ipa_app.training.reports import CheckpointReport, FinishedReport, HeldoutReport, Report, StepReport, StoppedReport

LINE_SECONDS = 10.0
"""Time between two progress lines when there is no bar."""
BAR = "{desc}: {percentage:3.0f}% |{bar}| {n_fmt} of {total_fmt} [{remaining} left, {rate_noinv_fmt}{postfix}]"


class Console:
    """Shows the progress of encoding and training, and how the run ended."""

    def __init__(self, config: TrainConfig, *, total: int, is_terminal: bool | None = None) -> None:
        """Create a console; nothing is shown yet.

        Args:
            config: of the run.
            total: number of pictures to encode.
            is_terminal: whether standard error can show a bar; detected by default.
        """
        self._config = config
        self._total = total
        self._is_terminal = sys.stderr.isatty() if is_terminal is None else is_terminal
        self._bar: tqdm | None = None
        self._said_at = 0.0
        self._heldout: HeldoutReport | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Keep log output from breaking the bar within the context; leave the bar in place at the end."""
        with logging_redirect_tqdm() if self._is_terminal else contextlib.nullcontext():
            try:
                yield
            finally:
                self._close()

    def say(self, line: str) -> None:
        """Print a line, above the bar."""
        with contextlib.suppress(OSError):  # the reader has gone, as `tee` does at Ctrl-C
            if self._bar is None:
                print(line, flush=True)
            else:
                tqdm.write(line)

    def encoding(self, done: int, left_out: int) -> None:
        """Show how many pictures are encoded and how many could not be."""
        if self._is_terminal:
            self._show("encoding", done, self._total, "pictures", note=f"{left_out} left out" if left_out else "")
        elif time.monotonic() - self._said_at >= LINE_SECONDS or done + left_out == self._total:
            self._said_at = time.monotonic()
            self.say(f"encoded {done} of {self._total} pictures" + (f", {left_out} left out" if left_out else ""))

    def begin(self, step: int) -> None:
        """Show that training starts after `step` steps."""
        if self._is_terminal:
            self._show("training", step, self._config.max_steps, "steps", note="")

    def tell(self, report: Report) -> None:
        """Show a report."""
        if isinstance(report, StepReport) and self._is_terminal:
            left = time_text(report.seconds_left) if self._config.max_minutes else None
            loss = f"loss {report.loss:.4f}"
            self._show("training", report.step, self._config.max_steps, "steps", note=loss, left=left)
            return
        if isinstance(report, HeldoutReport):
            self._heldout = report
        if isinstance(report, FinishedReport | StoppedReport):
            self._close()
        if isinstance(report, CheckpointReport) and self._is_terminal:
            return
        self.say(str(report))
        if isinstance(report, FinishedReport):
            self._conclude()

    def _conclude(self) -> None:
        heldout = self._heldout
        if heldout is not None and heldout.image_hurts:
            self.say(
                f"warning: the picture still makes things worse: the held-out loss is {heldout.with_image:.4f} with it "
                f"and {heldout.without_image:.4f} without. To train further, use {way_on(self._config)}; or start from "
                "a trained adapter (--pretrained)."
            )
        self.say(f"all results are in {self._config.output.resolve()}")

    def _show(self, title: str, done: int, total: int, things: str, *, note: str, left: str | None = None) -> None:
        """Update the bar; `left` overrides the remaining time when the run ends before all steps are done."""
        # Ask here: tqdm shows nothing on terminals that do not know their size, such as some in containers.
        columns, lines = shutil.get_terminal_size()
        if self._bar is None or self._bar.desc != title:
            self._close()
            shape = {"ncols": columns, "nrows": lines, "bar_format": BAR}
            self._bar = tqdm(total=total, initial=done, desc=title, unit=f" {things}", **shape)
        bar = self._bar
        bar.ncols, bar.nrows = columns, lines
        bar.bar_format = BAR if left is None else BAR.replace("{remaining}", left)
        bar.set_postfix_str(note, refresh=False)
        with contextlib.suppress(OSError):  # the terminal has gone
            bar.update(done - bar.n)
            bar.refresh()

    def _close(self) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.close()
            self._bar = None
