"""Things worn on the head (head coordinates) and around the neck (torso coordinates)."""

from __future__ import annotations

from toybox.world.palette import PALETTE, darker, lighter
from toybox.world.shapes import ellipse, group, mirrored, path, rect
from toybox.world.skeleton import eye_offset
from toybox.world.subject import NONE, Subject

FILL = "url(#g-accessory)"


def _top_hat(line: str, band: str) -> str:
    return (
        path("M-23,-34 L-25,-66 C-12,-70 12,-70 25,-66 L23,-34 Z", fill=FILL, line=line)
        + path("M-23.5,-44 C-10,-40 10,-40 23.5,-44 L23,-34 C10,-30 -10,-30 -23,-34 Z", fill=band)
        + path("M-40,-35 C-34,-29 34,-29 40,-35 C42,-29 26,-23 0,-23 C-26,-23 -42,-29 -40,-35 Z", fill=FILL, line=line)
    )


def _cap(line: str, band: str) -> str:
    return (
        path("M-40,-24 C-40,-66 40,-66 40,-24 C20,-31 -20,-31 -40,-24 Z", fill=FILL, line=line)
        + path("M0,-55 C-6,-48 -8,-38 -8,-30 M0,-55 C6,-48 8,-38 8,-30", line=line, width=1.8, opacity=0.5)
        + path("M-42,-24 C-30,-36 30,-36 42,-24 C46,-14 30,-20 0,-20 C-30,-20 -46,-14 -42,-24 Z", fill=band, line=line)
        + ellipse(0, -56, 4.5, 3.5, fill=band, line=line, width=2)
    )


def _crown(line: str, band: str) -> str:
    return (
        path(
            "M-31,-28 L-37,-60 L-18,-46 L0,-66 L18,-46 L37,-60 L31,-28 C14,-22 -14,-22 -31,-28 Z", fill=FILL, line=line
        )
        + path("M-31,-32 C-14,-26 14,-26 31,-32", line=band, width=4)
        + mirrored(ellipse(-36, -59, 4, 4, fill=band, line=line, width=1.8))
        + ellipse(0, -63, 4.2, 4.2, fill=band, line=line, width=1.8)
        + ellipse(0, -39, 5, 5.5, fill=band, line=line, width=1.8)
    )


def _glasses(subject: Subject, line: str, color: str) -> str:
    x, y = eye_offset(subject.species)
    rim = ellipse(x, y, 16, 16, fill="none", line=line, width=8) + ellipse(
        x, y, 16, 16, fill="none", line=color, width=5
    )
    lens = ellipse(x, y, 14, 14, fill="#ffffff", opacity=0.12)
    side = path(f"M{x - 16},{y} L-44,{y - 3}", line=line, width=4.5) if subject.species != "frog" else ""
    bridge = path(f"M{x + 15},{y - 3} Q0,{y - 8} {-x - 15},{y - 3}", line=line, width=6)
    return (
        mirrored(lens + rim + side)
        + bridge
        + path(f"M{x + 14},{y - 3} Q0,{y - 8} {-x - 14},{y - 3}", line=color, width=3.4)
    )


def _bow(subject: Subject, line: str, band: str) -> str:
    lobe = path("M-2,0 C-8,-16 -30,-20 -31,-8 C-31,-2 -31,4 -30,9 C-27,18 -8,13 -2,0 Z", fill=FILL, line=line)
    fold = path("M-6,0 C-12,-3 -18,-4 -23,-3", line=line, width=2, opacity=0.6)
    at, turn = ((0, -48), 0) if subject.species == "frog" else ((22, -37), 16)
    return group(mirrored(lobe + fold) + ellipse(0, 0, 7.5, 8.5, fill=band, line=line), at=at, turn=turn)


def _headphones(line: str, band: str) -> str:
    arc = "M-47,2 C-52,-60 52,-60 47,2"
    cup = rect(-59, -14, 19, 36, fill=FILL, line=line, round_=9) + rect(-56, -7, 6, 22, fill=band, round_=3)
    return path(arc, line=line, width=11) + path(arc, line=band, width=6.4) + mirrored(cup)


def headwear(subject: Subject) -> str:
    """Return what the subject wears on its head; empty for a scarf or no accessory."""
    if subject.accessory in (NONE, "scarf"):
        return ""
    color = PALETTE[subject.accessory_color]
    line = darker(color, 0.55)
    if subject.accessory == "glasses":
        return _glasses(subject, line, color)
    if subject.accessory == "bow":
        return _bow(subject, line, darker(color, 0.3))
    band = lighter(color, 0.55) if subject.accessory in ("cap", "crown") else darker(color, 0.3)
    if subject.accessory == "headphones":
        band = lighter(color, 0.35)
    draw = {"top hat": _top_hat, "cap": _cap, "crown": _crown, "headphones": _headphones}
    return draw[subject.accessory](line, band)


def neckwear(subject: Subject) -> str:
    """Return the scarf; empty for any other accessory or none."""
    if subject.accessory != "scarf":
        return ""
    color = PALETTE[subject.accessory_color]
    line = darker(color, 0.5)
    tail = path("M8,4 L24,6 L29,38 L13,41 Z", fill=FILL, line=line) + path(
        "M13.5,31 L28,28 M15,36 L28.6,33.5", line=lighter(color, 0.55), width=2.4
    )
    wrap = path(
        "M-33,-8 C-20,2 20,2 33,-8 C38,-2 38,8 32,11 C18,19 -18,19 -32,11 C-38,8 -38,-2 -33,-8 Z", fill=FILL, line=line
    )
    return tail + wrap + path("M-28,4 C-14,11 14,11 28,4", line=line, width=2, opacity=0.45)
