"""Read keypoint files of many programs: OpenPose and its editors, ControlNet, DWPose, COCO, MMPose, MediaPipe.

What can be read is used; whatever was left out is noted in a sentence, person by person and point by point.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.pose.body import JOINT_NAMES, joint_title
from ipa_app.pose.keypoints import FACE_POINTS, HAND_POINTS, PARTS, Details, Keypoint, Points
from ipa_app.pose.point_orders import ORDERS, PointOrder, are_of_a_body, joint_named, order_of
from ipa_app.pose.skeleton import MOST_PEOPLE, Person, Skeleton
from ipa_app.pose.written_people import Frame, body_of, frames_in
from ipa_app.pose.written_points import (
    MISSING,
    WrittenPoint,
    are_columns,
    are_signed,
    as_number,
    placed,
    read_each,
    read_points,
)

_SCORE_NAMES = ("keypoint_scores", "keypoints_scores", "scores")
_PART_NAMES = {
    "left_hand": ("hand_left_keypoints_2d", "hand_left_keypoints", "lefthand_kpts", "leftHandLandmarks", "left_hand"),
    "right_hand": (
        *("hand_right_keypoints_2d", "hand_right_keypoints", "righthand_kpts", "rightHandLandmarks", "right_hand"),
    ),
    "face": ("face_keypoints_2d", "face_keypoints", "face_kpts", "face"),
}
# Some detectors omit face points that they do not see, and some add the background as a point.
_FACE_COUNTS = range(1, FACE_POINTS + 2)


class UnknownCanvasError(UserError):
    """A file does not give the size of the picture that its points belong to."""

    def __init__(self) -> None:
        super().__init__("keypoints.unknown_canvas")


@dataclass(frozen=True)
class KeypointFile:
    """The contents of a keypoint file.

    Attributes:
        skeleton: the people; 0..1 spans the canvas.
        size: the canvas's width and height in pixels.
        notes: sentences on what was left out.
    """

    skeleton: Skeleton
    size: tuple[int, int]
    notes: tuple[Message, ...] = ()


def read_keypoints(data: object, *, canvas: tuple[float, float] | None = None) -> KeypointFile:
    """Read a keypoint file of any known program.

    Args:
        data: the parsed JSON.
        canvas: width and height in pixels of the picture that the points belong to, if the file does not give them.

    Raises:
        UserError: it contains nobody who can be used.
        UnknownCanvasError: the size of the canvas is unknown.
    """
    frames = list(frames_in(data))
    if not frames:
        raise UserError("keypoints.none_found")
    reasons: list[Message] = []
    for number, frame in enumerate(frames, start=1):
        reading = _Reading(frame, canvas=canvas)
        if reading.people:
            if len(frames) > 1:
                reading.notes.insert(0, Message("keypoints.frames", count=len(frames), used=number))
            skeleton = Skeleton(tuple(reading.people), tuple(reading.details))
            return KeypointFile(skeleton, reading.size, tuple(reading.notes))
        reasons += reading.reasons
    if reasons:
        raise UserError("keypoints.nobody", why=reasons[0])
    raise UserError("pose.empty")


class _LeftOutError(Exception):
    """A person cannot be used.

    Attributes:
        reason: why, as the end of a sentence.
    """

    def __init__(self, reason: Message) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class _Body:
    """A body's points by joint name, and the hands and face in the same list."""

    points: dict[str, WrittenPoint]
    least_confidence: float = 0.0
    parts: dict[str, list[WrittenPoint]] = field(default_factory=dict)

    @property
    def sure(self) -> list[WrittenPoint]:
        """All points, with MISSING in place of guesses."""
        return [point if point.is_surer_than(self.least_confidence) else MISSING for point in self.points.values()]


def _read_body(person: object, names: Sequence[str] | None) -> _Body:
    """Read a person's points, to which the file may give names in another place.

    Raises:
        _LeftOutError: their order is unknown, or they are not a person's.
    """
    listed = body_of(person)
    if isinstance(listed, Mapping) and not are_columns(listed):
        return _named_body(listed)
    if isinstance(listed, list) and all(_name_of(each) for each in listed):
        return _named_body({str(_name_of(each)): each for each in listed})
    points = read_points(listed, (len(names),)) if names else None
    if points is not None and names:
        _check_names(names)
        return _ordered_body(_with_scores(points, person), order_of(names))
    points = read_points(listed, ORDERS)
    if points is None:
        raise _LeftOutError(Message("keypoints.why.unknown_order"))
    return _ordered_body(_with_scores(points, person), ORDERS[len(points)])


def _named_body(listed: Mapping[str, object]) -> _Body:
    _check_names(listed)
    points = zip(listed, read_each(list(listed.values())), strict=True)
    return _Body({name: point for key, point in points if (name := joint_named(key))})


def _check_names(names: Iterable[str]) -> None:
    if not are_of_a_body(names):
        raise _LeftOutError(Message("keypoints.why.no_person"))


def _ordered_body(points: Sequence[WrittenPoint], order: PointOrder) -> _Body:
    named = {name: point for name, point in zip(order.body, points, strict=False) if name is not None}
    ranges = {name: getattr(order, name) for name in PARTS}
    parts = {name: list(points[part.start : part.stop]) for name, part in ranges.items() if part}
    return _Body(named, order.least_confidence, parts)


def _name_of(point: object) -> object:
    return (point.get("name") or point.get("part")) if isinstance(point, Mapping) else None


def _with_scores(points: list[WrittenPoint], person: object) -> list[WrittenPoint]:
    """Return the points with confidences from a separate list."""
    scores = (
        next((person[name] for name in _SCORE_NAMES if name in person), None) if isinstance(person, Mapping) else None
    )
    if not isinstance(scores, list) or len(scores) != len(points):
        return points
    return [point._replace(confidence=as_number(score)) for point, score in zip(points, scores, strict=True)]


class _Reading:
    """The usable people of a frame.

    Attributes:
        people: the bodies.
        details: their hands and faces.
        notes: what was left out.
        reasons: why each person who was left out was.
        size: of the canvas.
    """

    def __init__(self, frame: Frame, *, canvas: tuple[float, float] | None) -> None:
        self.people: list[Person] = []
        self.details: list[Details] = []
        self.notes: list[Message] = []
        self.reasons: list[Message] = []
        self._frame = frame
        self._given = frame.canvas or canvas
        bodies = [self._body_or_reason(person) for person in frame.people]
        # Of one person alone it may not be told.
        self._signed = are_signed(body.sure for body in bodies if isinstance(body, _Body))
        for number, (person, body) in enumerate(zip(frame.people, bodies, strict=True), start=1):
            if len(self.people) == MOST_PEOPLE:
                count = len(frame.people)
                self.notes.append(Message("keypoints.people", count=count, used=MOST_PEOPLE))
                break
            if isinstance(body, _Body):
                self._read(person, body, number)
            else:
                self._leave_out(number, body)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the canvas in pixels."""
        width, height = self._canvas
        return round(width), round(height)

    @property
    def _canvas(self) -> tuple[float, float]:
        if self._given is None:
            raise UnknownCanvasError
        return self._given

    def _body_or_reason(self, value: object) -> _Body | Message:
        """Return a person's body, or why they are left out."""
        if body_of(value) is None:
            return Message("keypoints.why.no_points")
        try:
            return _read_body(value, self._frame.names_for(value))
        except _LeftOutError as error:
            return error.reason

    def _read(self, value: object, body: _Body, number: int) -> None:
        person, reason = self._person(body, number)
        seen = sum(point is not None for point in person)
        if seen >= 2:
            self.people.append(person)
            self.details.append(self._details(value, body, number))
        elif seen == 1:
            self._leave_out(number, Message("keypoints.why.one_point"))
        else:
            self._leave_out(number, reason)

    def _leave_out(self, number: int, reason: Message) -> None:
        self.reasons.append(reason)
        self.notes.append(Message("keypoints.person_left_out", person=number, why=reason))

    def _person(self, body: _Body, number: int) -> tuple[Person, Message]:
        """Convert a body to our order; also return why it has no point, if it has none."""
        points = body.points
        unreadable = {name for name, point in points.items() if not point.is_readable}
        unsure = {name for name, point in points.items() if not point.is_surer_than(body.least_confidence)}
        placed_points = placed(body.sure, self._canvas, signed=self._signed)
        sure = {name: point for name, point in zip(points, placed_points, strict=True) if point is not None}
        unsure = {name for name in unsure if not points[name].is_missing}
        if "neck" not in points and {"left shoulder", "right shoulder"} <= sure.keys():
            left, right = sure["left shoulder"], sure["right shoulder"]
            sure["neck"] = Keypoint((left.x + right.x) / 2, (left.y + right.y) / 2)
        outside = {name for name, point in sure.items() if not point.is_inside}
        person = tuple(sure.get(name) if name not in outside else None for name in JOINT_NAMES)
        left_out = {"outside": outside, "unreadable": unreadable, "guessed": unsure}
        if any(point is not None for point in person):
            self.notes += [
                Message(
                    "keypoints.joints_left_out",
                    person=number,
                    why=Message(f"keypoints.why.{why}"),
                    joints=_listed(names),
                )
                for why, names in left_out.items()
                if names
            ]
        reason = "outside" if outside else "guessed" if unsure else "no_points"
        return person, Message(f"keypoints.why.{reason}")

    def _details(self, value: object, body: _Body, number: int) -> Details:
        """Read hands and face."""
        found: dict[str, Points | None] = {}
        for part, (_, count) in PARTS.items():
            least = body.least_confidence if part in body.parts else 0.0
            points = body.parts[part] if part in body.parts else self._part(value, part, number)
            points = [point if point.is_surer_than(least) else MISSING for point in points]
            where = placed(points, self._canvas, signed=self._signed)
            for what, happened in (
                (
                    Message("keypoints.why.some_outside"),
                    any(point is not None and not point.is_inside for point in where),
                ),
                (Message("keypoints.why.unreadable"), not all(point.is_readable for point in points)),
            ):
                if happened:
                    self.notes.append(
                        Message("keypoints.some_points_left_out", part=_named(part), person=number, why=what)
                    )
            found[part] = where + (None,) * (count - len(where))
        return Details(**found)

    def _part(self, value: object, part: str, number: int) -> list[WrittenPoint]:
        """Read a hand or a face from its own list; empty if there is none."""
        said = value if isinstance(value, Mapping) else {}
        listed = next((said[name] for name in _PART_NAMES[part] if name in said), None)
        if listed is None or listed == []:
            return []
        points = read_points(listed, _FACE_COUNTS if part == "face" else (HAND_POINTS,))
        if points is None:
            self.notes.append(Message("keypoints.part_left_out", part=_named(part), person=number))
            return []
        return points[:FACE_POINTS]


def _named(part: str) -> Message:
    return Message(f"body.{part}")


def _listed(names: Iterable[str]) -> Message:
    """Join names as in a sentence, in the body's order: "left knee, left ankle and right ankle"."""
    *most, last = (joint_title(name) for name in sorted(names, key=JOINT_NAMES.index))
    return Message("joints.and", joints=most, last=last) if most else last
