"""Training in more than one precision within one process of tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from accelerate.state import AcceleratorState


@contextmanager
def own_precision() -> Iterator[None]:
    """Lets what it encloses train in another precision than the rest: accelerate allows a process only one."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
