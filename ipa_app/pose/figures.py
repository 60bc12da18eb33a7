"""Figures read off a drawing, whole or in pieces."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

# Beside the best figure, pieces of so few bones and so little worth are leftovers.
_FEW_BONES, _LITTLE_WORTH = 4, 0.3
# How far apart pieces of a body may be: its joints, in reaches of an end, and they themselves, in sizes of a piece.
_LOOSE, _FARTHEST = 2.5, 2.0


@dataclass
class Figure:
    """One body, or a piece of one.

    Attributes:
        joints: where its joints are.
        worth: how well it fits what is drawn.
        bones: the numbers of those that it has.
        strokes: the numbers of those that it is made of.
        dotted: of which joints the dots are there.
        doubtful: joints that pieces of it have in other places.
    """

    joints: dict[int, np.ndarray]
    worth: float
    bones: set[int]
    strokes: set[int]
    dotted: set[int]
    doubtful: set[int] = field(default_factory=set)

    def take_in(self, other: Figure) -> None:
        """Make another piece a part of this one."""
        self.doubtful |= self.joints.keys() & other.joints.keys()
        better = {joint: at for joint, at in other.joints.items() if joint not in self.joints or joint in other.dotted}
        self.joints |= better
        self.worth += other.worth
        self.bones |= other.bones
        self.strokes |= other.strokes
        self.dotted |= other.dotted


def joined(pieces: Iterable[Figure], *, reach: float) -> list[Figure]:
    """Put pieces of one body together, which has fallen apart where a joint is missing or badly drawn."""
    bodies: list[Figure] = []
    for piece in pieces:
        fitting = [body for body in bodies if _fits(body, piece, reach=reach)]
        if fitting:
            min(fitting, key=lambda body: _far(body, piece)).take_in(piece)
        else:
            bodies.append(piece)
    return sorted(bodies, key=lambda body: -body.worth)


def _fits(body: Figure, piece: Figure, *, reach: float) -> bool:
    """Whether a piece may be a body's: it has other bones, and their joints are in the same places, but for one."""
    shared = body.joints.keys() & piece.joints.keys()
    apart = {joint for joint in shared if math.dist(body.joints[joint], piece.joints[joint]) > _LOOSE * reach}
    is_same = not apart or (len(apart | body.doubtful) == 1 and not apart & body.dotted & piece.dotted)
    return is_same and not body.bones & piece.bones and _far(body, piece) <= _FARTHEST


def _far(body: Figure, piece: Figure) -> float:
    """How far a piece is from a body, in sizes of the larger one."""
    ours, others = (np.array(list(each.joints.values())) for each in (body, piece))
    nearest = np.linalg.norm(ours[:, None] - others[None], axis=2).min()
    return float(nearest / max(1.0, np.ptp(ours, axis=0).max(), np.ptp(others, axis=0).max()))


def without_leftovers(figures: Sequence[Figure], *, has_dots: bool) -> list[Figure]:
    """Leave out small pieces beside whole figures, and such as are made of the lines' blurred edges."""

    def is_figure(figure: Figure) -> bool:
        is_dotted = len(figure.dotted) >= 0.5 * len(figure.joints) or not has_dots
        return len(figure.bones) >= _FEW_BONES and is_dotted

    return [each for each in figures if is_figure(each) or each.worth >= _LITTLE_WORTH * figures[0].worth]
