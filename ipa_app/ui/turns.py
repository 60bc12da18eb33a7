"""Opening large pictures only a few at a time: each may take hundreds of megabytes, however small its file is.

Their requests wait here before the pictures are opened, and are refused here if the queue would have no room for them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from ipa_app.engine.engine import Engine
from ipa_app.errors import UserError
from ipa_app.imaging.formats import pixel_count
from ipa_app.ui.uploads import paths_in
from ipa_app.ui.visitor import visitor

LARGE_PIXELS = 4_000_000
"""From this many pixels on, over all pictures of a request, pictures wait for one another."""
_MOST_AT_ONCE = 2
_MOST_WAITING = 32
_BYTES_PER_PIXEL = 4


_thread = threading.local()
_free = threading.Semaphore(_MOST_AT_ONCE)
_room = threading.Semaphore(_MOST_AT_ONCE + _MOST_WAITING)


@contextmanager
def opening_turn(sent: Any, *, engine: Engine | None = None, live: bool = False) -> Iterator[None]:
    """Wait, if large pictures were sent, until it is their turn, and hold the turn during the block.

    A block nested in another one is part of it, and does not wait.

    Args:
        sent: values of any content; only the files' headers are read.
        engine: the engine that the request will be submitted to inside the block; None if none will be.
        live: whether the request is live.

    Raises:
        UserError: too much waits, here or in the engine's queue.
    """
    if getattr(_thread, "is_inside", False):
        yield
        return
    pixels = sum(map(pixel_count, set(paths_in(sent))))
    if engine is not None:
        engine.check_room(visitor() or "", _BYTES_PER_PIXEL * pixels, live=live)
    with _waited_for() if pixels >= LARGE_PIXELS else nullcontext():
        _thread.is_inside = True
        try:
            yield
        finally:
            _thread.is_inside = False


@contextmanager
def _waited_for() -> Iterator[None]:
    if not _room.acquire(blocking=False):
        raise UserError("picture.many_opened")
    try:
        with _free:
            yield
    finally:
        _room.release()
