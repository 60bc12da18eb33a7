"""Measures the CPU work of a call, to which no other test or process can add."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

TRIES = 3


def check_cpu_s(take: Callable[[], object], *, most: float) -> None:
    """Check that a call takes at most `most` seconds of this thread's CPU time.

    Garbage collection is off meanwhile, as it would also traverse what other tests left in this process. A virtual
    machine may count time stolen from it as the thread's, so a call that took longer is tried again.
    """
    took = list[float]()
    was_on = gc.isenabled()
    gc.disable()
    try:
        while len(took) < TRIES and (not took or took[-1] > most):
            began = time.thread_time()
            take()
            took.append(time.thread_time() - began)
    finally:
        if was_on:
            gc.enable()
    assert min(took) <= most
