"""Pictures that are drawn once, by all processor cores, and kept as one array."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState

logger = logging.getLogger(__name__)


def drawn_once(path: Path, draw: Callable[[Any], np.ndarray], items: Sequence[Any], *, size: int) -> np.ndarray:
    """Draw a picture for each item, or open what an earlier run has drawn.

    Args:
        path: of the array; written whole, so that half of one is drawn anew.
        draw: gives an item's picture, (size, size, 3) uint8; can be pickled.
        items: what is drawn.
        size: of the pictures in pixels.

    Returns:
        (items, size, size, 3) uint8, memory-mapped.
    """
    with PartialState().main_process_first():
        if not path.exists():
            logger.info("drawing %d pictures: %s", len(items), path.name)
            part = path.with_suffix(".part.npy")
            pictures = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=(len(items), size, size, 3))
            # spawn, not fork: the parent may already run torch's threads, which do not survive a fork.
            with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
                for row, picture in enumerate(pool.imap(draw, items, chunksize=32)):
                    pictures[row] = picture
            pictures.flush()
            part.replace(path)
    return np.load(path, mmap_mode="c")  # PyTorch takes arrays that can be written
