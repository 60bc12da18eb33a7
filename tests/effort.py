"""How much work something is: what no other test of the process, and no other process, can add to."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

TRIES = 3


def check_cpu_s(take: Callable[[], object], *, most: float) -> None:
    """Make sure that a call takes so many seconds of this thread's time at most.

    The garbage collector rests meanwhile: it would go through whatever other tests left in this process. A machine
    whose cores are lent elsewhere counts that as our time, so what took longer is tried again.
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
