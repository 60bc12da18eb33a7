"""Checks that take seconds, before hours of work: can the results of a run be written?"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from filelock import FileLock, Timeout

from ipa_app.errors import UserError
from ipa_app.models.units import size_text
from ipa_app.training.checkpoint import latest_checkpoint
from ipa_app.training.config import TrainConfig
from ipa_app.training.saving import checkpoint_bytes

LOCK_FILE = "run.lock"
PNG_SHARE = 0.7
"""Size of a PNG as a share of its raw pixels; a generous guess."""
SHEET_COLUMNS = 4
ROOM_TO_SPARE = 10 * 2**20
"""Bytes for the log, and for the file system's own needs."""


@contextlib.contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Check that an output folder can be written to, and lock it against other runs within the context.

    Raises:
        UserError: nothing can be written there, or another run is writing there.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise UserError.plain(
            f"Nothing can be written to {output} ({error.strerror}); name another --output."
        ) from error
    lock = FileLock(output / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError.plain(f"Another run is writing to {output}; wait for it, or name another --output.") from None
    except NotImplementedError:
        pass  # the file system has no locks
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True, kw_only=True)
class Room:
    """Bytes that a run is going to write.

    Attributes:
        encoded: examples still to be encoded beforehand.
        checkpoints: those that are kept, and the one being written.
        results: the finished adapter and the sample sheets.
    """

    encoded: int
    checkpoints: int
    results: int

    @property
    def total(self) -> int:
        """The sum, with a margin."""
        return self.encoded + self.checkpoints + self.results + ROOM_TO_SPARE

    def check(self, output: Path) -> None:
        """Check that the disk has room.

        Raises:
            UserError: it has not.
        """
        free = shutil.disk_usage(output).free
        if self.total > free:
            spare = self.encoded > 0 and self.total - self.encoded <= free
            without = ", or keep no encoded pictures with --cache-gb 0" if spare else ""
            raise UserError.plain(
                f"The run will write about {size_text(self.total)} to {output} ({self}), but only {size_text(free)} "
                f"is free there; make room or name another --output{without}."
            )

    def __str__(self) -> str:
        """One line for the user."""
        parts = {"encoded pictures": self.encoded, "checkpoints": self.checkpoints, "results": self.results}
        written = [f"{size_text(size)} of {name}" for name, size in parts.items() if size]
        return ", ".join([*written, f"{size_text(ROOM_TO_SPARE)} to spare"])


def needed_room(config: TrainConfig, *, parameters: int, encoded: int, step: int, rows: int, side: int) -> Room:
    """Compute what a run is still going to write.

    Args:
        config: of the run.
        parameters: trained weights.
        encoded: bytes of examples still to be encoded and kept.
        step: steps done.
        rows: number of rows of a sample sheet.
        side: side of its pictures in pixels.
    """
    there = 0 if latest_checkpoint(config.output) is None else 1
    left = config.max_steps - step
    sheets = 1 + (left // config.sample_steps if config.sample_steps else 0)
    sheet = round(rows * SHEET_COLUMNS * side**2 * 3 * PNG_SHARE)
    adapter = parameters * (2 if config.save_precision == "fp16" else 4)
    checkpoints = (config.keep_checkpoints + 1 - there) * checkpoint_bytes(parameters) if left > 0 else 0
    return Room(encoded=encoded, checkpoints=checkpoints, results=adapter + sheets * sheet)
