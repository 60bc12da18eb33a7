"""Reads the joints off a drawn skeleton: by the hues of its dots and bones, and by which bone meets which.

Every line of a bone's hue may be that bone, either way round; where lines meet, dots tell which joint it is. Of all the
ways to put lines together the best figure is taken, then the next one out of what is left. What is no drawing of
skeletons has no lines that fit together so, and is refused.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from PIL import Image

from ipa_app.pose.keypoints import Keypoint
from ipa_app.pose.palettes import CONTROLNET, PALETTES, Palette
from ipa_app.pose.skeleton import KEYPOINTS_PER_PERSON, MOST_PEOPLE, Person, Skeleton
from ipa_app.pose.strokes import (
    ColouredPart,
    Stroke,
    coloured_part,
    dot_width,
    find_strokes,
    hues_at,
    line_width,
    without_gaps,
)

_NECK = 1
# What a figure is worth: a bone that is one line, two dots with the bone's hue between them, two dots that touch, a dot
# of the joint's own hue where a joint is.
_BONE, _SHORT_BONE, _TOUCHING, _DOT = 1.0, 0.8, 0.3, 0.6
# A figure of one bone and its two dots is worth more, a bone without dots less.
_LEAST_WORTH = 1.9
# Beside the best figure, pieces of so few bones and so little worth are leftovers.
_FEW_BONES, _LITTLE_WORTH = 4, 0.3
# As many strokes of one hue have the most people, and ten with all their fingers; writing has more, and takes long.
_MOST_ALIKE = 80
# In squares of a line's width: what is smaller is noise.
_SPECK = 0.15
# How much of the lines a reading must explain: with the dots of most joints, and by the lines alone.
_EXPLAINED, _EXPLAINED_WITHOUT_DOTS, _CERTAIN = 0.75, 0.9, 0.95
_DOTTED = 0.6
_BONES, _BONES_WITHOUT_DOTS = 4, 10
# How much less a stroke's end says about how far it reaches than about its line.
_ALONG = 0.05
# How far apart pieces of a body may be: its joints, in reaches of an end, and they themselves, in sizes of a piece.
_LOOSE, _FARTHEST = 2.5, 2.0
# Among so many lines the best figure must have a part of them; where it has less, this is writing.
_CROWD, _LEAST_SHARE = 40, 0.05
# Of the bones of further figures: those that the best one has, too.
_SHARED = 0.5
# Joints of a figure that lie on one another: hands that touch, but no more.
_APART = 0.65


@dataclass(frozen=True)
class Drawing:
    """What is read off a drawing.

    Attributes:
        skeleton: whom it shows; 0..1 spans the picture.
        thickness: of its bones, in pixels of the picture.
        explained: the share of its lines that are the skeleton's, by their length.
        is_in_our_colours: whether joints and bones have the colours that ControlNets know.
    """

    skeleton: Skeleton
    thickness: float
    explained: float
    is_in_our_colours: bool


def read_drawing(picture: Image.Image) -> Drawing | None:
    """Read the skeletons drawn in a picture (mode "RGB"); None where it shows anything else."""
    part = coloured_part(picture)
    lines = None if part is None else _lines(part)
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


def _best_reading(lines: _Lines) -> _Reading | None:
    """Read by the palette that fits best; None where even that does not."""
    best = _Reading(lines, PALETTES[0])
    if not (best.is_convincing and best.explained >= _CERTAIN):
        others = (_Reading(lines, palette) for palette in PALETTES[1:])
        best = max((best, *others), key=lambda reading: reading.worth)
    return best if best.is_convincing else None


def _person(figure: _Figure, part: ColouredPart, size: tuple[int, int]) -> Person:
    points: list[Keypoint | None] = [None] * KEYPOINTS_PER_PERSON
    for joint, place in figure.joints.items():
        if joint < KEYPOINTS_PER_PERSON:
            x, y = np.clip(part.in_picture(place) / size, 0, 1)
            points[joint] = Keypoint(float(x), float(y))
    return tuple(points)


@dataclass(frozen=True)
class _Lines:
    """All strokes of a drawing, how wide its lines are, and its dots; without dots these count as wide as the lines."""

    part: ColouredPart
    strokes: Sequence[Stroke]
    line: float
    dot: float
    has_dots: bool

    @property
    def reach(self) -> float:
        """How far apart two ends may be that meet, in pixels."""
        return 1.3 * max(self.line, self.dot) + 2

    @cached_property
    def by_hue(self) -> dict[int, list[int]]:
        """The numbers of the strokes of every hue."""
        found: dict[int, list[int]] = defaultdict(list)
        for number, stroke in enumerate(self.strokes):
            found[stroke.hue].append(number)
        return found

    def is_dot(self, stroke: Stroke) -> bool:
        """Whether it may be a joint's dot."""
        size = max(self.line, self.dot)
        is_round = stroke.length <= 1.9 * size and stroke.length < 2.2 * stroke.width + 1
        return is_round and stroke.area >= 0.25 * self.dot**2

    def is_bone(self, stroke: Stroke) -> bool:
        """Whether it may be a bone: longer than wide, and neither as thin as fingers nor as broad as shapes."""
        is_long = stroke.length >= max(1.25 * self.line, 0.7 * self.dot, 1.4 * stroke.width)
        return is_long and 0.45 * self.line <= stroke.width <= 2.2 * max(self.line, 0.8 * self.dot) + 2

    @cached_property
    def _spot(self) -> np.ndarray:
        """The pixels (N, 2) about a point in which its dot is looked for."""
        radius = max(1, round(0.35 * self.dot))
        steps = np.arange(-radius, radius + 1)
        square = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
        return square[(square**2).sum(axis=1) <= radius**2 + 0.5]

    @cached_property
    def long_bones(self) -> list[int]:
        """The numbers of those strokes that are certainly lines, which a reading has to explain."""
        return [
            number
            for number, stroke in enumerate(self.strokes)
            if stroke.length >= 2.2 * max(self.line, stroke.width) and stroke.width >= 0.45 * self.line
        ]

    def share_of_hue(self, point: np.ndarray, hue: int) -> float:
        """How much of the spot about a point has a hue."""
        return float((hues_at(self.part, point + self._spot) == hue).mean())

    def share_between(self, first: np.ndarray, second: np.ndarray, hue: int) -> float | None:
        """How much of the way between two dots has a hue, or has it beside it; None where the dots touch."""
        far = math.dist(first, second)
        if far <= self.dot + 1:
            return None
        share = np.linspace(self.dot / 2 / far, 1 - self.dot / 2 / far, max(3, int(far - self.dot)))
        way = first + share[:, None] * (second - first)
        around = [hues_at(self.part, way + (x, y)) == hue for x in (-1, 0, 1) for y in (-1, 0, 1)]
        return float(np.any(around, axis=0).mean())


def _lines(part: ColouredPart) -> _Lines | None:
    strokes = find_strokes(part)
    line = line_width(strokes or ())
    if strokes is None or line is None:
        return None
    strokes = [stroke for stroke in strokes if stroke.area >= max(3.0, _SPECK * line**2)]
    if max(Counter(stroke.hue for stroke in strokes).values(), default=0) > _MOST_ALIKE:
        return None
    dot = dot_width(strokes, line=line)
    joined = without_gaps(strokes, part, line=line, dot=dot or line)
    return _Lines(part, joined, line=line, dot=dot or line, has_dots=dot is not None)


class _Places:
    """Where a joint may be: at dots of its hue, and at the ends of bones that it has.

    Attributes:
        points: (N, 2), x and y of every place.
        dotted: (N,), how surely the joint's own dot is there, 0 to 1.
        of_end: the number of the place that an end of a stroke comes to, by the stroke's number and 0 or 1.
    """

    def __init__(self, dots: Sequence[np.ndarray]) -> None:
        self.points = np.array(dots).reshape(-1, 2)
        self.dotted = np.ones(len(dots))
        self.of_end: dict[tuple[int, int], int] = {}
        self._dots = len(dots)
        self._ends: dict[int, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)  # points and directions

    def put(self, end: tuple[int, int], point: np.ndarray, axis: np.ndarray, *, reach: float, dotted: float) -> None:
        """Let a stroke's end come to the nearest place within reach where its other end is not, or to a new one.

        Args:
            end: the stroke's number, and 0 or 1.
            point: where the stroke says that the joint is.
            axis: (2,), the stroke's direction.
            reach: in pixels.
            dotted: how surely the joint's own dot is there.
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
    """Where strokes meet, of which each says where that is, and more surely on which line: the least squares."""
    left, right = np.zeros((2, 2)), np.zeros(2)
    for point, axis in ends:
        weight = np.eye(2) - (1 - _ALONG) * np.outer(axis, axis)
        left += weight
        right += weight @ point
    return np.linalg.solve(left, right)


@dataclass(frozen=True)
class _Link:
    """How a bone may run: between which places of its two joints, what that is worth, and which stroke it is."""

    first: int
    second: int
    worth: float
    stroke: int | None = None


@dataclass
class _Figure:
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

    def take_in(self, other: _Figure) -> None:
        """Make another piece a part of this one."""
        self.doubtful |= self.joints.keys() & other.joints.keys()
        better = {joint: at for joint, at in other.joints.items() if joint not in self.joints or joint in other.dotted}
        self.joints |= better
        self.worth += other.worth
        self.bones |= other.bones
        self.strokes |= other.strokes
        self.dotted |= other.dotted


def _places(lines: _Lines, palette: Palette) -> list[_Places]:
    """Find for every joint where it may be."""
    places = [
        _Places([stroke.mean for stroke in map(lines.strokes.__getitem__, lines.by_hue[hue]) if lines.is_dot(stroke)])
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


def _joint_at(lines: _Lines, stroke: Stroke, end: int, *, own: bool) -> np.ndarray:
    """Where the joint at a bone's end is: in the middle of the dot that hides it, or that has the bone's `own` hue."""
    if not lines.has_dots:
        return stroke.ends[end]
    outwards = stroke.axis * (lines.dot / 2 if end else -lines.dot / 2)
    beyond = stroke.ends[end] + outwards
    if own and lines.share_of_hue(beyond, stroke.hue) < 0.5:
        return stroke.ends[end] - outwards
    return beyond


def _links(lines: _Lines, palette: Palette, places: Sequence[_Places]) -> list[list[_Link]]:
    """List for every bone how it may run."""
    all_links = []
    for first, second, hue in palette.bones:
        links = [
            _Link(places[first].of_end[stroke, 1 - end], number, _BONE, stroke)
            for (stroke, end), number in places[second].of_end.items()
            if lines.strokes[stroke].hue == hue and (stroke, 1 - end) in places[first].of_end
        ]
        known = {(link.first, link.second) for link in links}
        short = _short_links(lines, places[first], places[second], hue=hue)
        all_links.append([*links, *(link for link in short if (link.first, link.second) not in known)])
    return all_links


def _short_links(lines: _Lines, firsts: _Places, seconds: _Places, *, hue: int) -> Iterator[_Link]:
    """Give bones of which little can be seen between two dots."""
    size = max(lines.line, lines.dot)
    far = np.linalg.norm(firsts.points[:, None] - seconds.points[None], axis=2)
    may_be = (far >= 1) & (far <= 4.5 * size) & (firsts.dotted[:, None] >= 0.5) & (seconds.dotted[None] >= 0.5)
    for i, j in np.argwhere(may_be).tolist():
        share = lines.share_between(firsts.points[i], seconds.points[j], hue)
        if share is None and far[i, j] < 1.6 * size:
            yield _Link(i, j, _TOUCHING)
        elif share is not None and share >= 0.6:
            yield _Link(i, j, _TOUCHING + (_SHORT_BONE - _TOUCHING) * share)


class _Reading:
    """A drawing read by one palette.

    Attributes:
        palette: likewise.
        figures: whom it shows, the best first.
    """

    def __init__(self, lines: _Lines, palette: Palette) -> None:
        self._lines = lines
        self.palette = palette
        self._places = _places(lines, palette)
        self._links = _links(lines, palette, self._places)
        self._order, self._children = _tree(palette)
        # Of every joint what its places are worth by themselves; nothing any more where a figure has been found.
        self._worth = [_DOT * each.dotted for each in self._places]
        self._used_strokes: set[int] = set()
        self.figures = _without_leftovers(_joined(self._pieces(), reach=lines.reach), has_dots=lines.has_dots)

    @property
    def worth(self) -> float:
        """How well it fits, where one whole figure is worth more than its pieces."""
        return sum(figure.worth**2 for figure in self.figures)

    @cached_property
    def explained(self) -> float:
        """The share of the lines, by their length, that figures are made of."""
        return self._share_of({number for figure in self.figures for number in figure.strokes})

    def _share_of(self, strokes: set[int]) -> float:
        lengths = {number: self._lines.strokes[number].length for number in self._lines.long_bones}
        return sum(length for number, length in lengths.items() if number in strokes) / max(1.0, sum(lengths.values()))

    @property
    def is_convincing(self) -> bool:
        """Whether this is a drawing of skeletons at all."""
        if not self.figures:
            return False
        best, *others = self.figures
        # What people have in common; the pieces of something else share its lines out among them.
        if sum(len(each.bones & best.bones) for each in others) < _SHARED * sum(len(each.bones) for each in others):
            return False
        joints = np.array(list(best.joints.values()))
        near = np.linalg.norm(joints[:, None] - joints[None], axis=2) < 0.5 * max(self._lines.line, self._lines.dot)
        if (near.sum(axis=1) == 1).mean() < _APART:
            return False
        with_dots = len(best.dotted) >= _DOTTED * len(best.joints) and len(best.bones) >= _BONES
        by_lines = len(best.bones) >= _BONES_WITHOUT_DOTS and self.explained >= _EXPLAINED_WITHOUT_DOTS
        return by_lines or (with_dots and self.explained >= _EXPLAINED)

    def _pieces(self) -> Iterator[_Figure]:
        """Give one connected piece after the other, the best first; none where even that is lost among the lines."""
        while (piece := self._best_piece()) is not None:
            yield piece
            is_crowded = len(self._lines.long_bones) > _CROWD
            if is_crowded and self._share_of(self._used_strokes) < _LEAST_SHARE:
                return

    def _best_piece(self) -> _Figure | None:
        """Find the piece of the tree of joints that fits best what is not used yet (dynamic programming)."""
        worth = [each.copy() for each in self._worth]
        chosen: dict[tuple[int, int], dict[int, _Link]] = defaultdict(dict)
        for joint in reversed(self._order):
            for child, bone in self._children[joint]:
                best: dict[int, tuple[float, _Link]] = {}
                for link in self._links[bone]:
                    mine, other = self._ends_of(link, bone, joint)
                    gain = link.worth + worth[child][other]
                    if link.stroke not in self._used_strokes and gain > best.get(mine, (0.0,))[0]:
                        best[mine] = gain, link
                for mine, (gain, link) in best.items():
                    worth[joint][mine] += gain
                    chosen[joint, mine][bone] = link
        top, joint = max((float(values.max(initial=-np.inf)), joint) for joint, values in enumerate(worth))
        if top < _LEAST_WORTH:
            return None
        return self._take(top, joint, int(worth[joint].argmax()), chosen=chosen)

    def _ends_of(self, link: _Link, bone: int, joint: int) -> tuple[int, int]:
        """The place of a joint at one end of a link, and the place at the other."""
        return (link.first, link.second) if self.palette.bones[bone][0] == joint else (link.second, link.first)

    def _take(
        self, worth: float, joint: int, number: int, *, chosen: dict[tuple[int, int], dict[int, _Link]]
    ) -> _Figure:
        """Make a figure of what was chosen from a joint downwards."""
        figure = _Figure({}, worth, bones=set(), strokes=set(), dotted=set())
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
                first, second, _ = self.palette.bones[bone]
                waiting.append((second if first == joint else first, self._ends_of(link, bone, joint)[1]))
        self._used_strokes |= figure.strokes
        return figure


def _tree(palette: Palette) -> tuple[list[int], dict[int, list[tuple[int, int]]]]:
    """The joints from the neck outwards, and of each those that follow it, with the bone's number."""
    children: dict[int, list[tuple[int, int]]] = defaultdict(list)
    order = [_NECK]
    for joint in order:
        for bone, (first, second, _) in enumerate(palette.bones):
            if joint in (first, second) and (other := first + second - joint) not in order:
                children[joint].append((other, bone))
                order.append(other)
    return order, children


def _joined(pieces: Iterable[_Figure], *, reach: float) -> list[_Figure]:
    """Put pieces of one body together, which has fallen apart where a joint is missing or badly drawn."""
    bodies: list[_Figure] = []
    for piece in pieces:
        fitting = [body for body in bodies if _fits(body, piece, reach=reach)]
        if fitting:
            min(fitting, key=lambda body: _far(body, piece)).take_in(piece)
        else:
            bodies.append(piece)
    return sorted(bodies, key=lambda body: -body.worth)


def _fits(body: _Figure, piece: _Figure, *, reach: float) -> bool:
    """Whether a piece may be a body's: it has other bones, and their joints are in the same places, but for one."""
    shared = body.joints.keys() & piece.joints.keys()
    apart = {joint for joint in shared if math.dist(body.joints[joint], piece.joints[joint]) > _LOOSE * reach}
    is_same = not apart or (len(apart | body.doubtful) == 1 and not apart & body.dotted & piece.dotted)
    return is_same and not body.bones & piece.bones and _far(body, piece) <= _FARTHEST


def _far(body: _Figure, piece: _Figure) -> float:
    """How far a piece is from a body, in sizes of the larger one."""
    ours, others = (np.array(list(each.joints.values())) for each in (body, piece))
    nearest = np.linalg.norm(ours[:, None] - others[None], axis=2).min()
    return float(nearest / max(1.0, np.ptp(ours, axis=0).max(), np.ptp(others, axis=0).max()))


def _without_leftovers(figures: Sequence[_Figure], *, has_dots: bool) -> list[_Figure]:
    """Leave out small pieces beside whole figures, and such as are made of the lines' blurred edges."""

    def is_figure(figure: _Figure) -> bool:
        is_dotted = len(figure.dotted) >= 0.5 * len(figure.joints) or not has_dots
        return len(figure.bones) >= _FEW_BONES and is_dotted

    return [each for each in figures if is_figure(each) or each.worth >= _LITTLE_WORTH * figures[0].worth]
