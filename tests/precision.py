"""Training in more than one precision within one test process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from accelerate.state import AcceleratorState


@contextmanager
def own_precision() -> Iterator[None]:
    """Let the enclosed code train in its own precision: accelerate allows only one per process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
