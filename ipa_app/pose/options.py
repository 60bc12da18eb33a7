"""How people are looked for in a photo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from ipa_app.errors import UserError

DetectorName = Literal["openpose", "dwpose"]

# The packages that bring each, beside those that are installed anyway.
_PACKAGES: dict[str, tuple[str, ...]] = {"openpose": (), "dwpose": ("rtmlib", "onnxruntime")}


@dataclass(frozen=True, kw_only=True)
class PoseOptions:
    """What is looked for, and by what.

    Attributes:
        detector: finds the people.
        hands: whether to look for their fingers.
        face: whether to look for the points of their faces.
    """

    detector: DetectorName = "openpose"
    hands: bool = False
    face: bool = False


Weights = Callable[[PoseOptions], Mapping[str, Path]]
"""Gives the files that a detector needs, by the names under which they are published.

It may take its time to fetch them.

Raises:
    UserError: they cannot be had, and why.
    Cancelled: nobody wants them any more.
"""


def detectors() -> tuple[DetectorName, ...]:
    """Name the detectors that are installed."""
    return tuple(name for name in get_args(DetectorName) if all(map(find_spec, _PACKAGES[name])))


def check_installed(detector: DetectorName) -> None:
    """Make sure that a detector can be used.

    Raises:
        UserError: its packages are missing.
    """
    if detector not in detectors():
        raise UserError("pose.dwpose_not_installed")
