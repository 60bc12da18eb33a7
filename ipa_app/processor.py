"""How much of the processor a model takes, where it has no faster device."""

from __future__ import annotations

import os


def thread_count() -> int:
    """Threads for a model: a core is left to the browser and the page, or to whatever else asks for pictures.

    The threads of a small model wait for one another thousands of times a picture, so that one that cannot run holds up
    all of them.
    """
    return max(1, (os.cpu_count() or 1) - 1)
