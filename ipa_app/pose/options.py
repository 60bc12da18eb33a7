"""How people are looked for in a photo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class PoseOptions:
    """What is looked for, and by what.

    Attributes:
        detector: the name of what finds the people, in `pose.detectors.DETECTORS`.
        hands: whether to look for their fingers.
        face: whether to look for the points of their faces.
    """

    detector: str = "openpose"
    hands: bool = False
    face: bool = False


Weights = Callable[[PoseOptions], Mapping[str, Path]]
"""Gives the files that a detector needs, by the names under which they are published.

It may take its time to fetch them.

Raises:
    UserError: they cannot be had, and why.
    Cancelled: nobody wants them any more.
"""
