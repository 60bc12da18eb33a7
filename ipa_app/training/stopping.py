"""Ending a run when somebody asks for it, with nothing lost."""

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
"""Asked now and then, between one piece of work and the next: whether to end."""

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""Ctrl-C, a polite kill, a closed terminal, and the last two together on Windows; each system has some of them."""
SAME_SECONDS = 1.0
"""A Ctrl-C that comes so soon after another is the same one: launchers pass on what their processes got already."""
MESSAGE = "\nStopping as soon as everything so far is saved; press Ctrl-C again to stop at once, without saving.\n"


class Stopped(Exception):  # noqa: N818 - an outcome somebody asked for, not an error
    """Work was given up because somebody asked for it; what was done is saved."""


def never() -> bool:
    """Go on to the end."""
    return False


class StopSignals:
    """While entered, signals to end become an answer to `Stop`; a second Ctrl-C ends the process at once.

    Signals that the process was started to ignore, as nohup has it, stay ignored.
    """

    def __init__(self, *, tell: bool = True) -> None:
        """Change nothing yet.

        Args:
            tell: say on standard error that a signal has come.
        """
        self._tell = tell
        self._before: dict[int, Any] = {}
        self._received: int | None = None
        self._received_at = 0.0

    def __enter__(self) -> StopSignals:
        # Python takes signals in the main thread alone.
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
        """Whether a signal has come."""
        return self._received is not None

    @property
    def exit_code(self) -> int:
        """What a process that was ended so returns by convention: 130 after Ctrl-C."""
        return 128 + (self._received or signal.SIGINT)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self._received is None:
            self._received, self._received_at = number, time.monotonic()
            if self._tell:
                # Not print: a signal may come in the middle of another one.
                with contextlib.suppress(OSError):
                    os.write(2, MESSAGE.encode())
        elif number == signal.SIGINT and time.monotonic() - self._received_at > SAME_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
