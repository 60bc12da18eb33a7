"""Saving results in the library, and holding those that cannot be saved yet."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from typing import Generic, TypeVar

from ipa_app.engine.job import memory_size
from ipa_app.engine.metadata import pack_inputs
from ipa_app.engine.results import GenerateResult
from ipa_app.library.pictures import Pictures
from ipa_app.library.waiting import WaitingRecord
from ipa_app.messages import Message

AGAIN_S = 10.0
"""Seconds until what could not be saved is tried again."""
MOST_BYTES = 256 * 2**20
"""How much memory the results that are held may take."""

_FULL = {errno.ENOSPC, errno.EDQUOT}

Item = TypeVar("Item")


class Unsaved(Generic[Item]):
    """What could not be saved, the oldest first; it is tried again after a while. Not thread-safe."""

    def __init__(self) -> None:
        self._held: list[tuple[Item, int]] = []
        self._due = 0.0

    def __iter__(self) -> Iterator[Item]:
        """Iterate over what is held."""
        return iter([item for item, _ in self._held])

    def __bool__(self) -> bool:
        """Whether anything is held."""
        return bool(self._held)

    @property
    def due(self) -> float:
        """When it is to be tried again, in seconds of the monotonic clock; infinite if nothing is held."""
        return self._due if self._held else float("inf")

    def hold(self, item: Item, *, size: int) -> list[Item]:
        """Hold an item that takes `size` bytes; return those, the oldest, that are given up to make room for it."""
        if not self._held:
            self._due = time.monotonic() + AGAIN_S
        self._held.append((item, size))
        given_up = []
        while len(self._held) > 1 and sum(each for _, each in self._held) > MOST_BYTES:
            given_up.append(self._held.pop(0)[0])
        return given_up

    def take(self) -> list[Item]:
        """Return all that is held, to be tried now, and hold none of it any more."""
        taken, self._held = list(self), []
        return taken


def result_size(result: GenerateResult) -> int:
    """Return how many bytes a result's pictures take in memory, with those that it was made from."""
    return memory_size((*result.images, *result.inputs.values()))


def save_result(result: GenerateResult, *, pictures: Pictures, record: WaitingRecord, index: int) -> None:
    """Save the pictures of a part of an order, except those that were withheld.

    Args:
        result: with the pictures.
        pictures: where they are saved.
        record: of the order.
        index: of the part.

    Raises:
        OSError: there is no room for them, or they cannot be written.
    """
    inputs = pack_inputs(result.inputs)
    part = f"-{index + 1}" if record.is_series else ""
    for image, seed in zip(result.images, result.seeds, strict=True):
        if seed not in result.withheld:
            pictures.save(
                image,
                name=f"{result.settings['task']}-{seed}-{record.id[:8]}{part}",
                made=record.asked,
                settings={**result.settings, "seed": seed},
                inputs=inputs,
            )


def trouble(error: OSError) -> Message:
    """Return a message on why pictures are not in the library yet."""
    return Message("library.disk_full" if error.errno in _FULL else "library.cannot_write")
