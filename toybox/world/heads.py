"""Heads: what makes each species recognisable in any colour. Head coordinates, origin at the centre."""

from __future__ import annotations

from collections.abc import Callable

from toybox.world.faces import beak_mouth, eyes, mouth, robot_mouth
from toybox.world.palette import PALETTE, darker
from toybox.world.shapes import ellipse, group, mirrored, path, rect
from toybox.world.subject import Subject

FUR, PALE, DEEP = "url(#g-fur)", "url(#g-pale)", "url(#g-deep)"
PINK = "#f7a3ad"
NOSE = "#3b2a2d"
PATCH = "#3a3b46"


def _line(subject: Subject) -> str:
    return darker(PALETTE[subject.fur], 0.55)


def _cheeks(y: float = 12.0, x: float = 33.0) -> str:
    return mirrored(ellipse(-x, y, 8, 5.5, fill="#ff6f7d", opacity=0.42))


def _skull(subject: Subject, rx: float = 46, ry: float = 41) -> str:
    return ellipse(0, 0, rx, ry, fill=FUR, line=_line(subject))


def _whiskers(subject: Subject) -> str:
    return mirrored(path("M-30,12 L-52,8 M-30,17 L-52,19", line=_line(subject), width=2.2))


def _cat(subject: Subject) -> str:
    line = _line(subject)
    ears = path("M-45,-8 C-47,-34 -46,-52 -42,-62 C-30,-56 -18,-46 -10,-36 Z", fill=FUR, line=line)
    inner = path("M-39,-22 C-40,-36 -40,-44 -38,-51 C-31,-47 -24,-42 -19,-36 Z", fill=PINK)
    stripes = path("M0,-38 V-26 M-10,-37 L-8,-28 M10,-37 L8,-28", line=line, width=3.2, opacity=0.55)
    muzzle = mirrored(ellipse(-8, 16, 11, 9, fill=PALE))
    nose = path("M-6,7 H6 L0,13.5 Z", fill="#e8607a", line="#a53b52", width=1.6)
    return (
        mirrored(ears + inner) + _skull(subject, 48, 39) + stripes + _cheeks(14, 36) + muzzle
        + _whiskers(subject) + eyes(subject) + nose + mouth(subject, y=18)
    )  # fmt: skip


def _dog(subject: Subject) -> str:
    line = _line(subject)
    ear = path("M-30,-34 C-48,-40 -62,-20 -60,8 C-59,28 -44,30 -40,16 C-37,2 -34,-12 -24,-24 Z", fill=DEEP, line=line)
    patch = ellipse(18, -9, 15, 16, fill=DEEP)
    muzzle = ellipse(0, 18, 24, 18, fill=PALE)
    nose = ellipse(0, 7, 10, 7, fill=NOSE) + ellipse(-3, 4.5, 3, 1.8, fill="#ffffff", opacity=0.7)
    tongue = path("M-6,28 V35 C-6,42 6,42 6,35 V28 Z", fill="#f2748a", line="#b9455c", width=1.6)
    return (
        _skull(subject, 43, 41) + patch + mirrored(ear) + muzzle + eyes(subject)
        + nose + (tongue if subject.mouth == "open" else "") + mouth(subject, y=20)
    )  # fmt: skip


def _bear(subject: Subject) -> str:
    ear = ellipse(-34, -31, 16, 16, fill=FUR, line=_line(subject)) + ellipse(-33, -29, 8.5, 8.5, fill=PALE)
    muzzle = ellipse(0, 17, 20, 15.5, fill=PALE)
    nose = ellipse(0, 9, 8, 5.5, fill=NOSE) + ellipse(-2.5, 7, 2.4, 1.5, fill="#ffffff", opacity=0.7)
    return mirrored(ear) + _skull(subject, 46, 41) + _cheeks() + muzzle + eyes(subject) + nose + mouth(subject, y=19)


def _rabbit(subject: Subject) -> str:
    line = _line(subject)
    ear = ellipse(-28, -43, 12, 28.5, fill=FUR, line=line, turn=-17)
    inner = ellipse(-28, -43, 6.2, 21.5, fill=PINK, turn=-17)
    muzzle = mirrored(ellipse(-8, 17, 11, 9.5, fill=PALE))
    teeth = rect(-5.5, 24, 11, 11, fill="#ffffff", line="#8a7f86", round_=2) + path(
        "M0,25 V34", line="#8a7f86", width=1.4
    )
    nose = path("M-5.5,7 C-5.5,4 5.5,4 5.5,7 C5.5,10 2,13 0,13 C-2,13 -5.5,10 -5.5,7 Z", fill="#e8607a")
    return (
        mirrored(ear + inner) + _skull(subject, 43, 38) + _cheeks(14, 31) + teeth + muzzle + eyes(subject)
        + nose + mouth(subject, y=17)
    )  # fmt: skip


def _mouse(subject: Subject) -> str:
    ear = ellipse(-40, -32, 25, 25, fill=FUR, line=_line(subject)) + ellipse(-40, -31, 16.5, 16.5, fill=PINK)
    face = path(
        "M-38,-12 C-36,-38 36,-38 38,-12 C39,14 18,38 0,38 C-18,38 -39,14 -38,-12 Z", fill=FUR, line=_line(subject)
    )
    muzzle = ellipse(0, 19, 16, 14, fill=PALE)
    nose = ellipse(0, 11, 6.5, 5.2, fill="#ee5f82", line="#a53b52", width=1.6)
    return (
        mirrored(ear)
        + face
        + _cheeks(10, 26)
        + muzzle
        + _whiskers(subject)
        + eyes(subject)
        + nose
        + mouth(subject, y=20)
    )


def _frog(subject: Subject, worn: str) -> str:
    line = _line(subject)
    bump = ellipse(-28, -30, 17.5, 17.5, fill=FUR, line=line)
    face = path(
        "M-52,2 C-52,-26 -28,-34 0,-34 C28,-34 52,-26 52,2 C52,28 28,39 0,39 C-28,39 -52,28 -52,2 Z",
        fill=FUR,
        line=line,
    )
    belly = path("M-40,18 C-24,30 24,30 40,18 C34,32 16,36 0,36 C-16,36 -34,32 -40,18 Z", fill=PALE)
    cover = ellipse(-28, -24, 13, 14, fill=FUR)
    nostrils = mirrored(ellipse(-5, -3, 2, 2.6, fill=line))
    hat = group(worn, at=(0, 0 if subject.accessory == "headphones" else -6))
    return (
        face
        + hat
        + mirrored(bump + cover)
        + belly
        + _cheeks(6, 38)
        + nostrils
        + eyes(subject)
        + mouth(subject, y=8, reach=27)
    )


def _pig(subject: Subject) -> str:
    line = _line(subject)
    ear = path("M-42,-16 C-52,-34 -50,-48 -44,-54 C-32,-54 -18,-46 -12,-36 Z", fill=FUR, line=line)
    fold = path(
        "M-44,-54 C-32,-54 -20,-46 -14,-37 C-26,-32 -36,-32 -40,-22 C-46,-34 -47,-46 -44,-54 Z",
        fill=DEEP,
        line=line,
        width=2,
    )
    snout = ellipse(0, 10, 20, 14, fill=PALE, line=line)
    holes = mirrored(ellipse(-7.5, 10, 3.6, 5.4, fill=line))
    return (
        mirrored(ear + fold)
        + _skull(subject, 46, 40)
        + _cheeks(14, 34)
        + eyes(subject)
        + snout
        + holes
        + mouth(subject, y=27)
    )


def _panda(subject: Subject) -> str:
    ear = ellipse(-35, -32, 16.5, 16.5, fill=PATCH, line="#1f2028")
    patch = ellipse(-19, -3, 14.5, 18, fill=PATCH, turn=24)
    muzzle = ellipse(0, 20, 15, 11, fill=PALE)
    nose = ellipse(0, 13, 7.5, 5, fill=NOSE)
    return (
        mirrored(ear) + _skull(subject, 48, 41) + mirrored(patch) + _cheeks(18, 36) + muzzle
        + eyes(subject, on_dark=True) + nose + mouth(subject, y=21)
    )  # fmt: skip


def _penguin(subject: Subject) -> str:
    mask = path(
        "M0,-20 C-8,-34 -38,-30 -38,-4 C-38,18 -20,36 0,36 C20,36 38,18 38,-4 C38,-30 8,-34 0,-20 Z", fill="#fffdf6"
    )
    tuft = path(
        "M-5,-38 C-12,-46 -10,-52 -4,-54 C-5,-50 0,-50 2,-58 C9,-52 8,-44 5,-38 Z", fill=FUR, line=_line(subject)
    )
    return (
        tuft
        + _skull(subject, 46, 41)
        + mask
        + _cheeks(14, 26)
        + eyes(subject)
        + beak_mouth(subject, y=8, reach=13, drop=11)
    )


def _duck(subject: Subject) -> str:
    tuft = path(
        "M-4,-36 C-18,-44 -22,-56 -14,-60 C-12,-54 -6,-52 -3,-62 C6,-62 5,-52 5,-50 "
        "C12,-54 16,-50 14,-44 C12,-38 8,-36 4,-36 Z",
        fill=FUR, line=_line(subject),
    )  # fmt: skip
    return (
        tuft + _skull(subject, 43, 41) + _cheeks(6, 34) + eyes(subject) + beak_mouth(subject, y=13, reach=31, drop=13)
    )


def _robot(subject: Subject) -> str:
    line = _line(subject)
    antenna = path("M0,-36 V-52", line=line, width=4.5) + ellipse(0, -57, 7.5, 7.5, fill="#ff5a52", line="#8f1f24")
    bolt = rect(-56, -13, 14, 24, fill="#b9c2cf", line="#5a6270", round_=4)
    skull = rect(-46, -38, 92, 76, fill=FUR, line=line, round_=15)
    screen = rect(-37, -27, 74, 56, fill="#e9f3fa", line=line, round_=11)
    rivets = mirrored(ellipse(-39.5, -31.5, 2.2, 2.2, fill=line) + ellipse(-39.5, 32, 2.2, 2.2, fill=line))
    return antenna + mirrored(bolt) + skull + screen + rivets + eyes(subject) + robot_mouth(subject, y=15)


def _alien(subject: Subject) -> str:
    line = _line(subject)
    antenna = path("M-26,-28 C-30,-40 -36,-46 -42,-49", line=line, width=4.2) + ellipse(
        -45, -52, 7.5, 7.5, fill=PALE, line=line
    )
    face = path("M-50,-10 C-50,-50 50,-50 50,-10 C50,14 22,39 0,39 C-22,39 -50,14 -50,-10 Z", fill=FUR, line=line)
    spots = (
        ellipse(-37, -20, 4, 5, fill=DEEP) + ellipse(37, -20, 4, 5, fill=DEEP) + ellipse(-30, 12, 3.2, 3.2, fill=DEEP)
    )
    return mirrored(antenna) + face + spots + eyes(subject, third=True) + mouth(subject, y=19)


_HEADS: dict[str, Callable[[Subject], str]] = {
    "cat": _cat, "dog": _dog, "bear": _bear, "rabbit": _rabbit, "mouse": _mouse,
    "pig": _pig, "panda": _panda, "penguin": _penguin, "duck": _duck, "robot": _robot, "alien": _alien,
}  # fmt: skip


def head(subject: Subject, worn: str) -> str:
    """Return the head with its face and what is `worn` on it; a frog's eyes stay in front of its hat."""
    if subject.species == "frog":
        in_front = subject.accessory == "glasses"
        return _frog(subject, "" if in_front else worn) + (worn if in_front else "")
    return _HEADS[subject.species](subject) + worn
