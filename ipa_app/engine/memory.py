"""When memory runs out: one clear sentence, and the memory back."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ipa_app.errors import UserError
from ipa_app.models.memory import is_out_of_memory


class OutOfMemoryError(UserError):
    """The request needs more memory than there is."""

    def __init__(self) -> None:
        super().__init__("engine.out_of_memory")


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn running out of memory inside into an :class:`OutOfMemoryError`, with all that was taken given back."""
    short = False
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        short = True
    # Only here, behind the except clause, does nothing refer to the frames that hold the tensors any more.
    if short:
        _free_memory()
        raise OutOfMemoryError


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
