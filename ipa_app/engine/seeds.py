"""Each picture has a seed of its own, so that every one of a series can be made again alone."""

from __future__ import annotations

import secrets

LARGEST_SEED = 2**32 - 1
RANDOM_SEED = -1
"""Asks for a seed that is drawn when the request is submitted."""


def random_seed() -> int:
    """Draw a seed, 0 to 2**32 - 1."""
    return secrets.randbelow(LARGEST_SEED + 1)


def picture_seeds(seed: int, count: int) -> tuple[int, ...]:
    """Return the seeds of a series: seed, seed + 1 and so on, starting over at 0 after the largest.

    Args:
        seed: the first, 0 to 2**32 - 1.
        count: how many.

    Raises:
        ValueError: the seed is not decided yet.
    """
    if seed == RANDOM_SEED:
        raise ValueError("the seed is not decided yet")
    return tuple((seed + index) % (LARGEST_SEED + 1) for index in range(count))
