"""What can be found out in seconds, before hours of work: whether the results of a run can be written."""

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
"""Size of a picture as PNG, of its bare pixels: rather more than less."""
SHEET_COLUMNS = 4
ROOM_TO_SPARE = 10 * 2**20
"""For the log, and for what file systems need themselves."""


@contextlib.contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Make sure that an output folder can be written to, and keep other runs out of it while this one lasts.

    Raises:
        UserError: nothing can be written there, or another run is.
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
        pass  # a file system without locks
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a run is going to write, in bytes.

    Attributes:
        encoded: examples encoded beforehand, as far as they are not there yet.
        checkpoints: as many as are kept, and one that is being written.
        results: the finished adapter and the sample sheets.
    """

    encoded: int
    checkpoints: int
    results: int

    @property
    def total(self) -> int:
        """All of it, with something to spare."""
        return self.encoded + self.checkpoints + self.results + ROOM_TO_SPARE

    def check(self, output: Path) -> None:
        """Make sure that there is so much room.

        Raises:
            UserError: there is not.
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
        """One line for a person."""
        parts = {"encoded pictures": self.encoded, "checkpoints": self.checkpoints, "results": self.results}
        written = [f"{size_text(size)} of {name}" for name, size in parts.items() if size]
        return ", ".join([*written, f"{size_text(ROOM_TO_SPARE)} to spare"])


def needed_room(config: TrainConfig, *, parameters: int, encoded: int, step: int, rows: int, side: int) -> Room:
    """Work out what a run is going to write from where it is.

    Args:
        config: of the run.
        parameters: trained weights.
        encoded: bytes of examples that are still to be encoded and kept.
        step: steps done.
        rows: of a sample sheet.
        side: of its pictures, in pixels.
    """
    there = 0 if latest_checkpoint(config.output) is None else 1
    left = config.max_steps - step
    sheets = 1 + (left // config.sample_steps if config.sample_steps else 0)
    sheet = round(rows * SHEET_COLUMNS * side**2 * 3 * PNG_SHARE)
    adapter = parameters * (2 if config.save_precision == "fp16" else 4)
    checkpoints = (config.keep_checkpoints + 1 - there) * checkpoint_bytes(parameters) if left > 0 else 0
    return Room(encoded=encoded, checkpoints=checkpoints, results=adapter + sheets * sheet)
