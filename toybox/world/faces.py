"""Eyes and mouths, in head coordinates."""

from __future__ import annotations

from toybox.world.palette import INK
from toybox.world.shapes import ellipse, mirrored, path, rect
from toybox.world.skeleton import eye_offset
from toybox.world.subject import Subject

INSIDE = "#8e2233"
TONGUE = "#f2748a"
BEAK = "url(#g-beak)"
BEAK_LINE = "#a8530a"


def _eye(style: str, x: float, y: float, *, on_dark: bool) -> str:
    if style == "sleepy":
        lid = f"M{x - 9},{y - 1} C{x - 6},{y + 8} {x + 6},{y + 8} {x + 9},{y - 1}"
        return path(lid, line="#ffffff" if on_dark else INK, width=4.4)
    if style == "big":
        return (
            ellipse(x, y, 13, 14, fill="#ffffff", line=INK, width=2.4)
            + ellipse(x + 1, y + 1.5, 7.2, 8, fill=INK)
            + ellipse(x - 1.8, y - 2.5, 3, 3.2, fill="#ffffff")
        )
    ring = ellipse(x, y, 10.5, 11.5, fill="#ffffff") if on_dark else ""
    return ring + ellipse(x, y, 7.6, 9.2, fill=INK) + ellipse(x - 2.4, y - 3.4, 2.9, 3.2, fill="#ffffff")


def eyes(subject: Subject, *, on_dark: bool = False, third: bool = False) -> str:
    """Return both eyes in the subject's style; `on_dark` keeps them visible on dark patches, `third` adds one above."""
    x, y = eye_offset(subject.species)
    both = _eye(subject.eyes, x, y, on_dark=on_dark) + _eye(subject.eyes, -x, y, on_dark=on_dark)
    return both + (_eye(subject.eyes, 0, y - 19, on_dark=on_dark) if third else "")


def mouth(subject: Subject, *, y: float, reach: float = 11.0) -> str:
    """Return a mouth about (0, y), `reach` units to each side."""
    if subject.mouth == "flat":
        return path(f"M{-reach * 0.85},{y + 5} H{reach * 0.85}", line=INK, width=3.6)
    if subject.mouth == "open":
        depth = 19 if reach < 20 else 24
        hole = f"M{-reach},{y + 1} H{reach} C{reach},{y + depth} {-reach},{y + depth} {-reach},{y + 1} Z"
        return path(hole, fill=INSIDE, line=INK, width=2.2) + ellipse(0, y + depth * 0.62, reach * 0.5, 3, fill=TONGUE)
    deep = y + (11 if reach < 20 else 20)
    return path(f"M{-reach},{y} C{-reach * 0.6},{deep} {reach * 0.6},{deep} {reach},{y}", line=INK, width=3.6)


def beak_mouth(subject: Subject, *, y: float, reach: float, drop: float) -> str:
    """Return a beak about (0, y) that shows the mouth's expression."""
    bend = {"smile": drop * 0.55, "open": -1.0, "flat": 0.0}[subject.mouth]
    upper = (
        f"M{-reach},{y} C{-reach},{y - drop * 0.8} {-reach * 0.3},{y - drop} 0,{y - drop} "
        f"C{reach * 0.3},{y - drop} {reach},{y - drop * 0.8} {reach},{y}"
    )
    edge = f"C{reach * 0.6},{y + bend} {-reach * 0.6},{y + bend} {-reach},{y} Z"
    depth = drop * (2.0 if subject.mouth == "open" else 1.25)
    lower = f"M{-reach * 0.8},{y} C{-reach * 0.7},{y + depth} {reach * 0.7},{y + depth} {reach * 0.8},{y} Z"
    inside = ""
    if subject.mouth == "open":
        low = y + depth * 0.74
        gape = f"M{-reach * 0.66},{y} C{-reach * 0.5},{low} {reach * 0.5},{low} {reach * 0.66},{y} Z"
        inside = path(gape, fill=INSIDE) + ellipse(0, y + depth * 0.42, reach * 0.3, 2.6, fill=TONGUE)
    nostrils = mirrored(ellipse(-reach * 0.22, y - drop * 0.5, 1.8, 1.4, fill=BEAK_LINE))
    return (
        path(lower, fill="url(#g-beakdeep)", line=BEAK_LINE, width=2.2) + inside
        + path(upper + edge, fill=BEAK, line=BEAK_LINE, width=2.2) + nostrils
    )  # fmt: skip


def robot_mouth(subject: Subject, *, y: float) -> str:
    """Return a robot's mouth about (0, y): a line, a curve, or a grille."""
    if subject.mouth == "flat":
        return path(f"M-14,{y + 3} H14", line=INK, width=4.6)
    if subject.mouth == "open":
        bars = path(f"M-6,{y - 4} V{y + 9} M0,{y - 4} V{y + 9} M6,{y - 4} V{y + 9}", line="#ffffff", width=2.2)
        return rect(-14, y - 5, 28, 15, fill=INSIDE, line=INK, round_=5) + bars
    return path(f"M-14,{y - 2} C-9,{y + 11} 9,{y + 11} 14,{y - 2}", line=INK, width=4.4)
