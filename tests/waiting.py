"""How tests wait for what happens in other threads and processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LONGEST_S = 120


def until(holds: Callable[[], bool], what: str = "it has not happened") -> None:
    """Wait until `holds` returns true; fail with the message `what` after LONGEST_S seconds."""
    waiting, latest = threading.Event(), time.monotonic() + LONGEST_S
    while not holds():
        assert time.monotonic() < latest, what
        waiting.wait(0.02)
