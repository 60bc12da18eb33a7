"""Large pictures are opened a few at a time: each takes hundreds of megabytes, however small its file is.

Whoever sends one waits here before it is opened, and is turned away here where there would be no room for it later.
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
"""From so many on pictures wait for one another, all those together that are sent at once."""
_MOST_AT_ONCE = 2
_MOST_WAITING = 32
_BYTES_PER_PIXEL = 4


_thread = threading.local()
_free = threading.Semaphore(_MOST_AT_ONCE)
_room = threading.Semaphore(_MOST_AT_ONCE + _MOST_WAITING)


@contextmanager
def opening_turn(sent: Any, *, engine: Engine | None = None, live: bool = False) -> Iterator[None]:
    """Wait, where what was sent has large pictures, until there is a turn for them, and have it inside of the block.

    Blocks inside of others are part of them, and wait for nothing more.

    Args:
        sent: of any content. Its files are only looked at.
        engine: will be asked, inside of the block, to draw from it; None where nothing will wait with its pictures.
        live: whether it is to be drawn live.

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
