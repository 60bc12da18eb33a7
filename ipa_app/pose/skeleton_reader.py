"""Read the joints of a drawn skeleton from the hues of its dots and bones, and from which bones meet.

Of all the ways to combine a drawing's lines and dots, the best figure is taken, then the next best from what is left.
Lines that are not drawings of skeletons do not fit together, and are rejected.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from ipa_app.pose.candidates import BoneLink, Lines, bone_links, joint_places, lines_in
from ipa_app.pose.figures import Figure, joined, without_leftovers
from ipa_app.pose.keypoints import Keypoint
from ipa_app.pose.palettes import CONTROLNET, PALETTES, Palette
from ipa_app.pose.skeleton import KEYPOINTS_PER_PERSON, MOST_PEOPLE, Person, Skeleton
from ipa_app.pose.strokes import ColouredPart, coloured_part

_NECK = 1
# Score of a dot of the joint's own hue; that of a bone is 1.
_DOT = 0.6
# Least score of a figure: one bone with its two dots scores more, a bone without dots less.
_LEAST_WORTH = 1.9
# Share of the lines that a reading must explain: with the dots of most joints, by the lines alone, and to be certain.
_EXPLAINED, _EXPLAINED_WITHOUT_DOTS, _CERTAIN = 0.75, 0.9, 0.95
_DOTTED = 0.6
_BONES, _BONES_WITHOUT_DOTS = 4, 10
# Least share of further figures' bones that the best one has too.
_SHARED = 0.5
# Least share of a figure's joints that lie on no other joint: hands may touch, but not more.
_APART = 0.65


@dataclass(frozen=True)
class Drawing:
    """The result of reading a drawing.

    Attributes:
        skeleton: the people in it; 0..1 spans the picture.
        thickness: of its bones, in pixels of the picture.
        explained: share of its lines, by length, that belong to the skeleton.
        is_in_our_colours: whether joints and bones have the colours that ControlNets know.
    """

    skeleton: Skeleton
    thickness: float
    explained: float
    is_in_our_colours: bool


def read_drawing(picture: Image.Image) -> Drawing | None:
    """Read the skeletons drawn in a picture (mode "RGB"); None if it shows anything else."""
    part = coloured_part(picture)
    lines = None if part is None else lines_in(part)
    if part is None or lines is None:
        return None
    best = _best_reading(lines)
    if best is None:
        return None
    people = (_person(figure, part, picture.size) for figure in best.figures)
    drawn = [person for person in people if sum(point is not None for point in person) >= 2]
    return Drawing(
        Skeleton(tuple(drawn[:MOST_PEOPLE])),
        thickness=lines.line / part.unit,
        explained=best.explained,
        is_in_our_colours=best.palette is CONTROLNET,
    )


def _best_reading(lines: Lines) -> _Reading | None:
    """Read with the palette that fits best; None if even that does not fit."""
    best = _Reading(lines, PALETTES[0])
    if not (best.is_convincing and best.explained >= _CERTAIN):
        others = (_Reading(lines, palette) for palette in PALETTES[1:])
        best = max((best, *others), key=lambda reading: reading.worth)
    return best if best.is_convincing else None


def _person(figure: Figure, part: ColouredPart, size: tuple[int, int]) -> Person:
    points: list[Keypoint | None] = [None] * KEYPOINTS_PER_PERSON
    for joint, place in figure.joints.items():
        if joint < KEYPOINTS_PER_PERSON:
            x, y = np.clip(part.in_picture(place) / size, 0, 1)
            points[joint] = Keypoint(float(x), float(y))
    return tuple(points)


class _Reading:
    """A drawing read with one palette.

    Attributes:
        palette: the colours used.
        figures: the figures found, best first.
    """

    def __init__(self, lines: Lines, palette: Palette) -> None:
        self._lines = lines
        self.palette = palette
        self._places = joint_places(lines, palette)
        self._links = bone_links(lines, palette, self._places)
        self._order, self._children = _tree(palette)
        # Scores of every joint's candidates by themselves; 0 once a figure has used them.
        self._worth = [_DOT * each.dotted for each in self._places]
        self._used_strokes: set[int] = set()
        pieces = iter(self._best_piece, None)
        self.figures = without_leftovers(joined(pieces, reach=lines.reach), has_dots=lines.has_dots)

    @property
    def worth(self) -> float:
        """Score of the reading, in which a whole figure counts more than its pieces."""
        return sum(figure.worth**2 for figure in self.figures)

    @cached_property
    def explained(self) -> float:
        """Share of the lines, by length, that belong to figures."""
        strokes = {number for figure in self.figures for number in figure.strokes}
        lengths = {number: self._lines.strokes[number].length for number in self._lines.long_bones}
        used = sum(length for number, length in lengths.items() if number in strokes)
        return used / sum(lengths.values()) if lengths else 1.0

    @property
    def is_convincing(self) -> bool:
        """Whether this is a drawing of skeletons at all."""
        if not self.figures:
            return False
        best, *others = self.figures
        # People have bones in common; the pieces of something else divide its lines among them.
        if sum(len(each.bones & best.bones) for each in others) < _SHARED * sum(len(each.bones) for each in others):
            return False
        joints = np.array(list(best.joints.values()))
        near = np.linalg.norm(joints[:, None] - joints[None], axis=2) < 0.5 * max(self._lines.line, self._lines.dot)
        if (near.sum(axis=1) == 1).mean() < _APART:
            return False
        with_dots = len(best.dotted) >= _DOTTED * len(best.joints) and len(best.bones) >= _BONES
        by_lines = len(best.bones) >= _BONES_WITHOUT_DOTS and self.explained >= _EXPLAINED_WITHOUT_DOTS
        return by_lines or (with_dots and self.explained >= _EXPLAINED)

    def _best_piece(self) -> Figure | None:
        """Find the subtree of joints that fits the unused lines best (dynamic programming)."""
        worth = [each.copy() for each in self._worth]
        chosen: dict[tuple[int, int], dict[int, BoneLink]] = defaultdict(dict)
        for joint in reversed(self._order):
            for child, bone in self._children[joint]:
                best: dict[int, tuple[float, BoneLink]] = {}
                for link in self._links[bone]:
                    gain = link.worth + worth[child][link.second]
                    if link.stroke not in self._used_strokes and gain > best.get(link.first, (0.0,))[0]:
                        best[link.first] = gain, link
                for mine, (gain, link) in best.items():
                    worth[joint][mine] += gain
                    chosen[joint, mine][bone] = link
        top, joint = max((float(values.max(initial=-np.inf)), joint) for joint, values in enumerate(worth))
        if top < _LEAST_WORTH:
            return None
        return self._take(top, joint, int(worth[joint].argmax()), chosen=chosen)

    def _take(
        self, worth: float, joint: int, number: int, *, chosen: dict[tuple[int, int], dict[int, BoneLink]]
    ) -> Figure:
        """Build a figure from the choices made below a joint."""
        figure = Figure({}, worth, bones=set(), strokes=set(), dotted=set())
        waiting = [(joint, number)]
        while waiting:
            joint, number = waiting.pop()
            self._worth[joint][number] = -np.inf
            figure.joints[joint] = self._places[joint].points[number]
            if self._places[joint].dotted[number] >= 0.5:
                figure.dotted.add(joint)
            for bone, link in chosen.get((joint, number), {}).items():
                figure.bones.add(bone)
                if link.stroke is not None:
                    figure.strokes.add(link.stroke)
                waiting.append((self.palette.bones[bone][1], link.second))
        self._used_strokes |= figure.strokes
        return figure


def _tree(palette: Palette) -> tuple[list[int], dict[int, list[tuple[int, int]]]]:
    """Return the joints from the neck outwards, and each joint's children with the bone's index."""
    children: dict[int, list[tuple[int, int]]] = defaultdict(list)
    order = [_NECK]
    for joint in order:
        for bone, (first, second, _) in enumerate(palette.bones):
            if first == joint:
                children[joint].append((second, bone))
                order.append(second)
    return order, children
