"""When checkpoints are written, and what becomes of a run that cannot write one."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from safetensors import SafetensorError

from ipa_app.errors import UserError
from ipa_app.models.units import size_text
from ipa_app.training.checkpoint import Checkpoint, Origin, remove_old_checkpoints, resume_step, save_checkpoint
from ipa_app.training.config import TrainConfig

WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)
"""What a full disk looks like, depending on who writes: Python, PyTorch or safetensors."""
NUMBERS_PER_WEIGHT = 3
"""What a checkpoint holds for each trained weight: itself and the two moments of AdamW, all float32."""
MOST_TIME = 0.05
"""Share of the time that may go into writing checkpoints; very large adapters are saved less often for it."""


class Saver:
    """Writes checkpoints at their times."""

    def __init__(self, config: TrainConfig, origin: Origin) -> None:
        """Write nothing yet.

        Args:
            config: of the run.
            origin: of the run.
        """
        self._config = config
        self._origin = origin
        self._last = time.monotonic()
        self._took = 0.0

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint should be written after so many steps."""
        config, waited = self._config, time.monotonic() - self._last
        by_minutes = config.save_minutes > 0 and waited >= max(config.save_minutes * 60, self._took / MOST_TIME)
        return by_minutes or (config.save_steps > 0 and step % config.save_steps == 0)

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint and return its folder; where that fails, older ones make room but for the latest.

        Raises:
            UserError: it cannot be written; the latest is still there.
        """
        self._last = time.monotonic()
        try:
            try:
                return save_checkpoint(checkpoint, self._config, self._origin)
            except WRITE_ERRORS:
                if not remove_old_checkpoints(self._config.output, keep=1):
                    raise
            return save_checkpoint(checkpoint, self._config, self._origin)
        except WRITE_ERRORS as error:
            numbers = sum(tensor.numel() for tensor in checkpoint.adapter.values())
            why = why_unwritable(error, self._config.output, needed=checkpoint_bytes(numbers))
            last = resume_step(self._config.output)
            raise UserError.plain(
                f"No checkpoint could be written to {self._config.output} at step {checkpoint.step} ({why}); "
                f"{f'the latest is of step {last}' if last else 'there is none yet'}."
            ) from error
        finally:
            self._took = time.monotonic() - self._last
            self._last = time.monotonic()


def checkpoint_bytes(numbers: int) -> int:
    """Return the size of a checkpoint of an adapter with so many weights."""
    return numbers * NUMBERS_PER_WEIGHT * 4


def why_unwritable(error: Exception, folder: Path, *, needed: int) -> str:
    """Say in a few words why something could not be written.

    Args:
        error: one of `WRITE_ERRORS`.
        folder: where to.
        needed: bytes that were to be written.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        return f"the disk is full: {size_text(needed)} are needed, {size_text(free)} are free"
    return (error.strerror if isinstance(error, OSError) else None) or str(error).splitlines()[0]
