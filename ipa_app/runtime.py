"""What the whole process shares: the lock under which networks are built, and the threads they may take."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

from ipa_app.errors import UserError

BUILD_LOCK = threading.RLock()
"""Held while a network is built. While from_pretrained() runs, diffusers has torch build every module of the process
without weights, whatever thread builds it; and two loads that overlap would leave it so for ever."""


def is_on(environment: Mapping[str, str], variable: str) -> bool:
    """Return whether a variable switches something on, by "1" or "true"; "0", "false" and nothing do not.

    Raises:
        UserError: it says something else.
    """
    text = environment.get(variable, "").strip()
    if text.lower() in ("1", "true"):
        return True
    if text.lower() in ("", "0", "false"):
        return False
    raise UserError.plain(f"{variable} is {text!r}; it must be 1 or 0.")


def thread_count() -> int:
    """Threads for a model: a core is left to the browser and the page, or to whatever else asks for pictures.

    The threads of a small model wait for one another thousands of times a picture, so that one that cannot run holds up
    all of them.
    """
    return max(1, (os.cpu_count() or 1) - 1)
