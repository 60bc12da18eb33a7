"""Find candidates for the joints and bones of drawn skeletons, by the hues of dots and lines.

A line of a bone's hue may be that bone, in either direction. A joint may be at any dot of its hue and at any end of
its bones. Choosing between the candidates is not done here.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ipa_app.pose.palettes import Palette
from ipa_app.pose.strokes import ColouredPart, Stroke, dot_width, find_strokes, hues_at, line_width, without_gaps

# Score of a bone that is a line, of one whose hue shows between two dots, and of two dots that touch.
_BONE, _SHORT_BONE, _TOUCHING = 1.0, 0.8, 0.3
# Most strokes of one hue: enough for the most people, or for ten with all their fingers. Writing has more, and is slow.
_MOST_ALIKE = 80
# Least area of a stroke, in squares of a line's width; smaller ones are noise.
_SPECK = 0.15
# Weight of a stroke's end along the stroke, relative to across it: it is surer of the line than of the length.
_ALONG = 0.05


@dataclass(frozen=True)
class Lines:
    """All strokes of a drawing and the widths of its lines and dots; without dots, their width is that of the lines."""

    part: ColouredPart
    strokes: Sequence[Stroke]
    line: float
    dot: float
    has_dots: bool

    @property
    def reach(self) -> float:
        """Largest distance in pixels between two ends that meet."""
        return 1.3 * max(self.line, self.dot) + 2

    @cached_property
    def by_hue(self) -> dict[int, list[int]]:
        """Indices of the strokes of every hue."""
        found: dict[int, list[int]] = defaultdict(list)
        for number, stroke in enumerate(self.strokes):
            found[stroke.hue].append(number)
        return found

    def is_dot(self, stroke: Stroke) -> bool:
        """Whether a stroke may be a joint's dot."""
        size = max(self.line, self.dot)
        is_round = stroke.length <= 1.9 * size and stroke.length < 2.2 * stroke.width + 1
        return is_round and stroke.area >= 0.25 * self.dot**2

    def is_bone(self, stroke: Stroke) -> bool:
        """Whether a stroke may be a bone: longer than wide, and neither as thin as fingers nor as broad as shapes."""
        is_long = stroke.length >= max(1.25 * self.line, 0.7 * self.dot, 1.4 * stroke.width)
        return is_long and 0.45 * self.line <= stroke.width <= 2.2 * max(self.line, 0.8 * self.dot) + 2

    @cached_property
    def _spot(self) -> np.ndarray:
        """Offsets (N, 2) of the pixels around a point that are searched for its dot."""
        radius = max(1, round(0.35 * self.dot))
        steps = np.arange(-radius, radius + 1)
        square = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
        return square[(square**2).sum(axis=1) <= radius**2 + 0.5]

    @cached_property
    def long_bones(self) -> list[int]:
        """Indices of the strokes that are certainly lines, which a reading must explain."""
        return [
            number
            for number, stroke in enumerate(self.strokes)
            if stroke.length >= 2.2 * max(self.line, stroke.width) and stroke.width >= 0.45 * self.line
        ]

    def share_of_hue(self, point: np.ndarray, hue: int) -> float:
        """Return the share of the spot around a point that has a hue."""
        return float((hues_at(self.part, point + self._spot) == hue).mean())

    def share_between(self, first: np.ndarray, second: np.ndarray, hue: int) -> float | None:
        """Return the share of the way between two dots that has a hue on it or beside it; None if the dots touch."""
        far = math.dist(first, second)
        if far <= self.dot + 1:
            return None
        share = np.linspace(self.dot / 2 / far, 1 - self.dot / 2 / far, max(3, int(far - self.dot)))
        way = first + share[:, None] * (second - first)
        around = [hues_at(self.part, way + (x, y)) == hue for x in (-1, 0, 1) for y in (-1, 0, 1)]
        return float(np.any(around, axis=0).mean())


def lines_in(part: ColouredPart) -> Lines | None:
    """Find the lines and dots of a drawing; None if there are none, or far more than a drawing has."""
    strokes = find_strokes(part)
    line = line_width(strokes or ())
    if strokes is None or line is None:
        return None
    strokes = [stroke for stroke in strokes if stroke.area >= max(3.0, _SPECK * line**2)]
    if max(Counter(stroke.hue for stroke in strokes).values(), default=0) > _MOST_ALIKE:
        return None
    dot = dot_width(strokes, line=line)
    joined = without_gaps(strokes, part, line=line, dot=dot or line)
    return Lines(part, joined, line=line, dot=dot or line, has_dots=dot is not None)


class JointPlaces:
    """Candidate positions of a joint: dots of its hue, and the ends of its bones.

    Attributes:
        points: (N, 2), x and y of every candidate.
        dotted: (N,), confidence that the joint's own dot is there, 0 to 1.
        of_end: index of the candidate that a stroke's end belongs to, by the stroke's index and 0 or 1.
    """

    def __init__(self, dots: Sequence[np.ndarray]) -> None:
        self.points = np.array(dots).reshape(-1, 2)
        self.dotted = np.ones(len(dots))
        self.of_end: dict[tuple[int, int], int] = {}
        self._dots = len(dots)
        self._ends: dict[int, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)  # points and directions

    def put(self, end: tuple[int, int], point: np.ndarray, axis: np.ndarray, *, reach: float, dotted: float) -> None:
        """Assign a stroke's end to the nearest candidate in reach that its other end does not have, or to a new one.

        Args:
            end: the stroke's index, and 0 or 1.
            point: the joint's position according to the stroke.
            axis: (2,), the stroke's direction.
            reach: in pixels.
            dotted: confidence that the joint's own dot is there.
        """
        far = np.linalg.norm(self.points - point, axis=1)
        other = self.of_end.get((end[0], 1 - end[1]))
        if other is not None:
            far[other] = np.inf
        if len(far) and far.min() <= reach:
            number = int(far.argmin())
        else:
            number = len(self.points)
            self.points = np.concatenate([self.points, point[None]])
            self.dotted = np.append(self.dotted, dotted)
        self.of_end[end] = number
        if number >= self._dots:
            self._ends[number].append((point, axis))
            self.points[number] = _meeting(self._ends[number])


def _meeting(ends: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return the least-squares meeting point of strokes, each of which is surer of its line than of its end."""
    left, right = np.zeros((2, 2)), np.zeros(2)
    for point, axis in ends:
        weight = np.eye(2) - (1 - _ALONG) * np.outer(axis, axis)
        left += weight
        right += weight @ point
    return np.linalg.solve(left, right)


@dataclass(frozen=True)
class BoneLink:
    """A candidate for a bone: the candidates of its two joints, its score, and its stroke."""

    first: int
    second: int
    worth: float
    stroke: int | None = None


def joint_places(lines: Lines, palette: Palette) -> list[JointPlaces]:
    """Find the candidate positions of every joint."""
    places = [
        JointPlaces(
            [stroke.mean for stroke in map(lines.strokes.__getitem__, lines.by_hue[hue]) if lines.is_dot(stroke)]
        )
        for hue in palette.joints
    ]
    for first, second, hue in palette.bones:
        for number in lines.by_hue[hue]:
            stroke = lines.strokes[number]
            if lines.is_bone(stroke):
                for joint, end in itertools.product((first, second), (0, 1)):
                    own = palette.joints[joint]
                    point = _joint_at(lines, stroke, end, own=own == hue)
                    dotted = 0.8 * lines.share_of_hue(point, own)
                    places[joint].put((number, end), point, stroke.axis, reach=lines.reach, dotted=dotted)
    return places


def _joint_at(lines: Lines, stroke: Stroke, end: int, *, own: bool) -> np.ndarray:
    """Locate the joint at a bone's end: the centre of the dot that covers it or, if `own`, has the bone's hue."""
    if not lines.has_dots:
        return stroke.ends[end]
    outwards = stroke.axis * (lines.dot / 2 if end else -lines.dot / 2)
    beyond = stroke.ends[end] + outwards
    if own and lines.share_of_hue(beyond, stroke.hue) < 0.5:
        return stroke.ends[end] - outwards
    return beyond


def bone_links(lines: Lines, palette: Palette, places: Sequence[JointPlaces]) -> list[list[BoneLink]]:
    """List the candidates of every bone."""
    all_links = []
    for first, second, hue in palette.bones:
        links = [
            BoneLink(places[first].of_end[stroke, 1 - end], number, _BONE, stroke)
            for (stroke, end), number in places[second].of_end.items()
            if lines.strokes[stroke].hue == hue and (stroke, 1 - end) in places[first].of_end
        ]
        known = {(link.first, link.second) for link in links}
        short = _short_links(lines, places[first], places[second], hue=hue)
        all_links.append([*links, *(link for link in short if (link.first, link.second) not in known)])
    return all_links


def _short_links(lines: Lines, firsts: JointPlaces, seconds: JointPlaces, *, hue: int) -> Iterator[BoneLink]:
    """Yield candidates for bones that hardly show between two dots."""
    size = max(lines.line, lines.dot)
    far = np.linalg.norm(firsts.points[:, None] - seconds.points[None], axis=2)
    may_be = (far >= 1) & (far <= 4.5 * size) & (firsts.dotted[:, None] >= 0.5) & (seconds.dotted[None] >= 0.5)
    for i, j in np.argwhere(may_be).tolist():
        share = lines.share_between(firsts.points[i], seconds.points[j], hue)
        if share is None:
            yield BoneLink(i, j, _TOUCHING)
        elif share >= 0.6:
            yield BoneLink(i, j, _TOUCHING + (_SHORT_BONE - _TOUCHING) * share)
