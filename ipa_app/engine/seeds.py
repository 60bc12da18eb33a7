"""Each picture has a seed of its own, so that every one of a series can be made again alone."""

from __future__ import annotations

import secrets

LARGEST_SEED = 2**32 - 1


def picture_seeds(seed: int, count: int) -> tuple[int, ...]:
    """Give the seeds of a series: seed, seed + 1 and so on, starting over at 0 after the largest.

    Args:
        seed: the first, 0 to 2**32 - 1; -1 for a random one.
        count: how many.
    """
    first = secrets.randbelow(LARGEST_SEED + 1) if seed == -1 else seed
    return tuple((first + index) % (LARGEST_SEED + 1) for index in range(count))
