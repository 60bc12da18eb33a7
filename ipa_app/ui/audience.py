"""Whether whoever sent what a handler is working on still waits for it: clients cancel, hang up, and close tabs."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

Awaited = Callable[[], bool]
"""Whether somebody still waits; may be asked at any time in the handler's thread."""

_AWAITED: ContextVar[Awaited] = ContextVar("awaited", default=lambda: True)


def awaited() -> Awaited:
    """Return what tells of the sender of what is being handled."""
    return _AWAITED.get()


def set_awaited(awaited: Awaited) -> None:
    """Say what tells of the sender of what is about to be handled."""
    _AWAITED.set(awaited)
