"""Shirt with its pattern, trousers and tail, in torso coordinates: origin at the neck, y along the spine."""

from __future__ import annotations

from toybox.world.palette import PALETTE, darker
from toybox.world.shapes import HEART, OUTLINE_WIDTH, STAR, ellipse, path
from toybox.world.subject import Subject

_SHIRT = "M-15,-2 C-26,0 -30,8 -31,18 C-32,30 -34,40 -34,49 C-20,55 20,55 34,49 C34,40 32,30 31,18 C30,9 26,0 15,-2 Z"
_TROUSERS = "M-33,44 C-34,56 -29,67 -17,69 C-6,70 6,70 17,69 C29,67 34,56 33,44 Z"
_DOTS = ((-22, 12), (0, 12), (22, 12), (-11, 25), (11, 25), (-25, 37), (0, 37), (25, 37), (-12, 49), (12, 49))


def shirt_line(subject: Subject) -> str:
    """Return the outline colour of the shirt."""
    return darker(PALETTE[subject.shirt], 0.5)


def trousers_line(subject: Subject) -> str:
    """Return the outline colour of the trousers."""
    return darker(PALETTE[subject.trousers], 0.5)


def _pattern(subject: Subject) -> str:
    if subject.pattern == "plain":
        return ""
    color = PALETTE[subject.pattern_color]
    edge = darker(color, 0.35)
    if subject.pattern == "striped":
        return "".join(path(f"M-40,{y} C-20,{y + 5} 20,{y + 5} 40,{y}", line=color, width=7.5) for y in (9, 24, 39))
    if subject.pattern == "dotted":
        return "".join(ellipse(x, y, 5.4, 5.4, fill=color) for x, y in _DOTS)
    shape = STAR if subject.pattern == "star" else HEART
    big = path(shape, fill=color, line=edge, width=1.8)
    return f'<g transform="translate(0 27) scale(1.2)">{big}</g>'


def trousers(subject: Subject) -> str:
    """Return the seat of the trousers; the legs are drawn along the leg joints."""
    return path(_TROUSERS, fill="url(#g-trousers)", line=trousers_line(subject))


def shirt(subject: Subject) -> str:
    """Return the body of the shirt with its pattern; the sleeves are drawn along the arms."""
    line = shirt_line(subject)
    return (
        f'<clipPath id="shirt"><path d="{_SHIRT}"/></clipPath>'
        + path(_SHIRT, fill="url(#g-shirt)", line=line)
        + f'<g clip-path="url(#shirt)">{_pattern(subject)}'
        + path("M26,4 C34,20 36,40 34,52 L20,54 C28,38 28,18 26,4 Z", fill=line, opacity=0.16)
        + "</g>"
        + path(_SHIRT, line=line)
    )


# species -> (path, width)
_TAILS: dict[str, tuple[str, float]] = {
    "cat": ("M20,58 C44,62 52,50 48,40 C46,32 54,28 58,30", 9.0),
    "dog": ("M22,56 C38,54 44,46 44,36", 10.0),
    "mouse": ("M20,60 C46,70 50,50 62,56", 4.6),
    "pig": ("M28,54 C42,60 48,48 41,46 C34,45 38,58 52,50", 4.6),
}


def tail(subject: Subject) -> str:
    """Return the tail that shows beside the body; empty for species without one."""
    if subject.species not in _TAILS:
        return ""
    d, width = _TAILS[subject.species]
    color = "#f7a3ad" if subject.species == "mouse" else PALETTE[subject.fur]
    line = darker(color, 0.55)
    return path(d, line=line, width=width + 2 * OUTLINE_WIDTH) + path(d, line=color, width=width)
