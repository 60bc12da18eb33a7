"""How tests wait for what goes on beside them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LONGEST_S = 120


def until(holds: Callable[[], bool], what: str = "it has not happened") -> None:
    """Wait until something holds; where it never does, the test fails and says `what`."""
    waiting, latest = threading.Event(), time.monotonic() + LONGEST_S
    while not holds():
        assert time.monotonic() < latest, what
        waiting.wait(0.02)
