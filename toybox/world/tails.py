"""Tails, in the torso's coordinates: origin at the neck, y along the spine."""

from __future__ import annotations

from toybox.world.palette import PALETTE, darker
from toybox.world.shapes import OUTLINE_WIDTH, path
from toybox.world.subject import Subject

# species -> (path, width)
_TAILS: dict[str, tuple[str, float]] = {
    "cat": ("M20,58 C44,62 52,50 48,40 C46,32 54,28 58,30", 9.0),
    "dog": ("M22,56 C38,54 44,46 44,36", 10.0),
    "mouse": ("M20,60 C46,70 50,50 62,56", 4.6),
    "pig": ("M28,54 C42,60 48,48 41,46 C34,45 38,58 52,50", 4.6),
}


def tail(subject: Subject) -> str:
    """The tail that shows beside the body, or nothing."""
    if subject.species not in _TAILS:
        return ""
    d, width = _TAILS[subject.species]
    color = "#f7a3ad" if subject.species == "mouse" else PALETTE[subject.fur]
    line = darker(color, 0.55)
    return path(d, line=line, width=width + 2 * OUTLINE_WIDTH) + path(d, line=color, width=width)
