"""Figures read from a drawing, whole or in pieces."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

# Pieces with fewer bones, and less than this share of the best figure's score, are leftovers.
_FEW_BONES, _LITTLE_WORTH = 4, 0.3
# Largest distance between pieces of a body: of shared joints, in reaches of an end, and of the pieces, in piece sizes.
_LOOSE, _FARTHEST = 2.5, 2.0


@dataclass
class Figure:
    """One body, or a piece of one.

    Attributes:
        joints: positions of its joints.
        worth: score of how well it fits the drawing.
        bones: indices of its bones.
        strokes: indices of its strokes.
        dotted: joints whose dots are drawn.
        doubtful: joints whose positions differ between its pieces.
    """

    joints: dict[int, np.ndarray]
    worth: float
    bones: set[int]
    strokes: set[int]
    dotted: set[int]
    doubtful: set[int] = field(default_factory=set)

    def take_in(self, other: Figure) -> None:
        """Merge another piece into this one."""
        self.doubtful |= self.joints.keys() & other.joints.keys()
        better = {joint: at for joint, at in other.joints.items() if joint not in self.joints or joint in other.dotted}
        self.joints |= better
        self.worth += other.worth
        self.bones |= other.bones
        self.strokes |= other.strokes
        self.dotted |= other.dotted


def joined(pieces: Iterable[Figure], *, reach: float) -> list[Figure]:
    """Join the pieces of a body that broke apart at a missing or badly drawn joint."""
    bodies: list[Figure] = []
    for piece in pieces:
        fitting = [body for body in bodies if _fits(body, piece, reach=reach)]
        if fitting:
            min(fitting, key=lambda body: _far(body, piece)).take_in(piece)
        else:
            bodies.append(piece)
    return sorted(bodies, key=lambda body: -body.worth)


def _fits(body: Figure, piece: Figure, *, reach: float) -> bool:
    """Whether a piece may belong to a body: it has other bones, and all shared joints but one coincide."""
    shared = body.joints.keys() & piece.joints.keys()
    apart = {joint for joint in shared if math.dist(body.joints[joint], piece.joints[joint]) > _LOOSE * reach}
    is_same = not apart or (len(apart | body.doubtful) == 1 and not apart & body.dotted & piece.dotted)
    return is_same and not body.bones & piece.bones and _far(body, piece) <= _FARTHEST


def _far(body: Figure, piece: Figure) -> float:
    """Return the distance between a piece and a body, in sizes of the larger one."""
    ours, others = (np.array(list(each.joints.values())) for each in (body, piece))
    nearest = np.linalg.norm(ours[:, None] - others[None], axis=2).min()
    return float(nearest / max(1.0, np.ptp(ours, axis=0).max(), np.ptp(others, axis=0).max()))


def without_leftovers(figures: Sequence[Figure], *, has_dots: bool) -> list[Figure]:
    """Drop small pieces beside whole figures, and those made of the lines' blurred edges."""

    def is_figure(figure: Figure) -> bool:
        is_dotted = len(figure.dotted) >= 0.5 * len(figure.joints) or not has_dots
        return len(figure.bones) >= _FEW_BONES and is_dotted

    return [each for each in figures if is_figure(each) or each.worth >= _LITTLE_WORTH * figures[0].worth]
