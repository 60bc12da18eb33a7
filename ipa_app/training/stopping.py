"""Stop a run on request without losing anything."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

Stop = Callable[[], bool]
"""Polled between pieces of work: whether to stop."""

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""Ctrl-C, a polite kill, a closed terminal, and Windows' signal for the last two; each system has some of them."""
SAME_SECONDS = 1.0
"""A Ctrl-C this soon after another is the same one: launchers forward it to processes that already received it."""
MESSAGE = "\nStopping as soon as everything so far is saved; press Ctrl-C again to stop at once, without saving.\n"


class Stopped(Exception):  # noqa: N818 - an outcome somebody asked for, not an error
    """Work was stopped on request; what was done is saved."""


def never() -> bool:
    """Never stop."""
    return False


class StopSignals:
    """Within the context, turns termination signals into an answer to `Stop`; a second Ctrl-C kills the process.

    Signals that the process was started to ignore, as by nohup, stay ignored.
    """

    def __init__(self, *, tell: bool = True) -> None:
        """Create the context; no handler is installed yet.

        Args:
            tell: whether to report a received signal on standard error.
        """
        self._tell = tell
        self._before: dict[int, Any] = {}
        self._received: int | None = None
        self._received_at = 0.0

    def __enter__(self) -> StopSignals:
        # Python handles signals in the main thread only.
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in SIGNALS if hasattr(signal, name)):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def __call__(self) -> bool:
        """Whether a signal was received."""
        return self._received is not None

    @property
    def exit_code(self) -> int:
        """The conventional exit code after the signal: 130 for Ctrl-C."""
        return 128 + (self._received or signal.SIGINT)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self._received is None:
            self._received, self._received_at = number, time.monotonic()
            if self._tell:
                # Not print: the signal may interrupt another print.
                with contextlib.suppress(OSError):
                    os.write(2, MESSAGE.encode())
        elif number == signal.SIGINT and time.monotonic() - self._received_at > SAME_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
