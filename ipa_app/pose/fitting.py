"""Fit a skeleton to the body that a model draws: limbs keep their directions and take that body's lengths.

A model that has learned one body's proportions deforms the body when a skeleton has others: a face lands on the face,
arms become ears.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.pose.body import BONES, JOINT_NAMES, MIRRORED
from ipa_app.pose.keypoints import Keypoint
from ipa_app.pose.sheet import PoseSheet
from ipa_app.pose.skeleton import Person, Skeleton

_NOSE, _NECK = JOINT_NAMES.index("nose"), JOINT_NAMES.index("neck")
_SHOULDERS, _HIPS, _EYES, _EARS = (
    (JOINT_NAMES.index(f"right {part}"), JOINT_NAMES.index(f"left {part}"))
    for part in ("shoulder", "hip", "eye", "ear")
)
_HEAD = (_NOSE, *_EYES, *_EARS)
_TRUNK = (*_SHOULDERS, *_HIPS)
_LIMBS = tuple(bone for bone in BONES if bone[0] != _NECK and bone[1] not in _HEAD)
"""The limbs' bones; of each arm and leg, first the bone at the trunk."""

# Tolerances: share of a bone's length beyond the shortest and longest that the model has learned; and share of the
# trunk's length by which a joint of trunk or head may be displaced. The learned poses themselves vary by as much.
_LENGTH_TOLERANCE, _PLACE_TOLERANCE = 0.25, 0.15
# Largest angle between directions in which a bone has about the same length.
_ALIKE = np.radians(20)
_MOST_TILT = np.radians(15)
# Share of the trunk's length that is drawn beyond the joints on each side.
_MARGIN = 0.3

Places = np.ndarray
"""Positions of the 18 joints (18, 2), in shorter sides of the canvas; NaN for joints that are not seen."""


@dataclass(frozen=True, eq=False)
class Body:
    """The body that a model draws, measured from poses that it has learned.

    Attributes:
        rest: a standing pose, with all joints visible.
        limbs: (poses, 8, 2), vectors along the limbs' bones in all poses and their mirror images, in trunk
            lengths.
    """

    rest: Places
    limbs: np.ndarray

    @classmethod
    def of_poses(cls, sheet: PoseSheet) -> Body:
        """Measure the body from poses.

        Args:
            sheet: poses of the same body, each with all joints visible; the first one stands.

        Raises:
            ValueError: a joint is not seen.
        """
        people = [_places(person, sheet) for person in sheet.skeleton.people]
        if np.isnan(people).any():
            raise ValueError("a pose is not whole")
        limbs = np.array([_limbs(places) / _trunk_length(places) for places in people])
        mirrored = limbs[:, [_LIMBS.index((MIRRORED[start], MIRRORED[end])) for start, end in _LIMBS]] * (-1, 1)
        return cls(rest=people[0], limbs=np.concatenate([limbs, mirrored]))

    @property
    def trunk_length(self) -> float:
        """Distance from the neck to between the hips, in shorter sides of the canvas."""
        return _trunk_length(self.rest)

    def is_of(self, places: Places) -> bool:
        """Whether a skeleton, in the same units, has this body's proportions."""
        unit = _trunk_length(places)
        if np.isnan(places).any() or not 1 - _LENGTH_TOLERANCE < unit / self.trunk_length < 1 + _LENGTH_TOLERANCE:
            return False
        lengths, learned = (np.linalg.norm(each, axis=-1) for each in (_limbs(places) / unit, self.limbs))
        is_long_enough = lengths >= learned.min(axis=0) * (1 - _LENGTH_TOLERANCE)
        is_short_enough = lengths <= learned.max(axis=0) * (1 + _LENGTH_TOLERANCE)
        shape = self._from_neck @ _turned(_lean(places)).T * (unit / self.trunk_length)
        # Eyes and ears have other places in each kind of head that a model draws on the body.
        apart = np.linalg.norm(places - places[_NECK] - shape, axis=1)[[*_TRUNK, _NOSE]]
        return bool((is_long_enough & is_short_enough).all() and (apart <= _PLACE_TOLERANCE * unit).all())

    def fitted(self, places: Places) -> Places:
        """Return this body in a skeleton's pose, starting at its neck; limbs that are not seen hang as at rest."""
        places = _facing(places)
        turn, head = _turned(_lean(places)), list(_HEAD)
        fitted = self._from_neck @ turn.T
        fitted[head] = self._from_neck[head] @ _turned(_tilt(places)).T
        usual = _limbs(fitted)
        for number, ((start, end), way) in enumerate(zip(_LIMBS, _limbs(places), strict=True)):
            is_seen = np.linalg.norm(way) > 0
            fitted[end] = fitted[start] + (self._bone(number, way) if is_seen else usual[number])
        return fitted

    @property
    def _from_neck(self) -> Places:
        return self.rest - self.rest[_NECK]

    def _bone(self, number: int, way: np.ndarray) -> np.ndarray:
        """Return a limb's bone in a direction, with the length it has in similar directions."""
        learned = self.limbs[:, number]
        lengths = np.linalg.norm(learned, axis=1)
        direction = way / np.linalg.norm(way)
        angles = np.arccos(np.clip(learned @ direction / lengths, -1, 1))
        weights = np.exp(-((angles / _ALIKE) ** 2))
        return direction * (weights @ lengths / weights.sum()) * self.trunk_length


def fit_pose(sheet: PoseSheet, body: Body) -> PoseSheet:
    """Fit a pose to a body; a pose that already has its proportions is returned unchanged.

    Args:
        sheet: the pose.
        body: the target model's.

    Returns:
        One figure, the largest, on the same canvas, with all joints, without hands and face; notes say what was done.
    """
    people = [_places(person, sheet) for person in sheet.skeleton.people]
    largest = max(people, key=_size)
    if len(people) == 1 and not sheet.skeleton.details and body.is_of(largest):
        return sheet
    notes = [Message("pose.fitted")]
    if len(people) > 1:
        notes.append(Message("pose.one_of_many", count=len(people)))
    fitted = largest if body.is_of(largest) else _placed(body, largest, sheet=sheet)
    return replace(sheet, skeleton=Skeleton((_person(fitted, sheet),)), notes=(*sheet.notes, *notes))


@cache
def read_body(path: Path) -> Body:
    """Read a body from a keypoint file whose people are poses of it.

    Raises:
        UserError: the file is damaged, or holds something else.
    """
    try:
        return Body.of_poses(PoseSheet.from_json(path.read_text("utf-8")))
    except (OSError, ValueError, UserError) as error:
        raise UserError("pose.body_damaged", folder=path.parent.name, file=path.name) from error


def _places(person: Person, sheet: PoseSheet) -> Places:
    sides = np.array((sheet.width, sheet.height)) / min(sheet.width, sheet.height)
    return np.array([(np.nan, np.nan) if point is None else point for point in person]) * sides


def _person(places: Places, sheet: PoseSheet) -> Person:
    sides = np.array((sheet.width, sheet.height)) / min(sheet.width, sheet.height)
    return tuple(Keypoint(float(x), float(y)) for x, y in np.clip(places / sides, 0, 1))


def _placed(body: Body, seen: Places, *, sheet: PoseSheet) -> Places:
    """Place a body where the figure is, on the ground it stands on, and completely on the canvas."""
    fitted = body.fitted(seen)
    low, high = _box(fitted)
    seen_low, seen_high = _box(seen)
    canvas = np.array((sheet.width, sheet.height)) / min(sheet.width, sheet.height)
    margin = _MARGIN * body.trunk_length
    least, most = margin - low, canvas - margin - high
    ground = _box(body.rest)[1][1] * canvas[1]
    shift = np.array([(seen_low + seen_high - low - high)[0] / 2, ground - high[1]])
    # What is larger than the canvas is centred.
    return fitted + np.where(least > most, (least + most) / 2, np.clip(shift, least, np.maximum(least, most)))


def _facing(places: Places) -> Places:
    """Turn a figure seen from behind to the front, as such a body is drawn."""
    sides = [places[left, 0] - places[right, 0] for right, left in (_SHOULDERS, _HIPS)]
    seen = [each for each in sides if not np.isnan(each)]
    return places[list(MIRRORED)] if seen and sum(seen) < 0 else places


def _lean(places: Places) -> float:
    """Return the clockwise lean of a trunk in radians; 0 if it is not seen."""
    x, y = _hips(places) - places[_NECK]
    return 0.0 if np.isnan(x + y) else float(np.arctan2(-x, y))


def _tilt(places: Places) -> float:
    """Return the clockwise tilt of a head in radians, limited to what such a body can do."""
    for right, left in (_EYES, _EARS):
        x, y = places[left] - places[right]
        if x > 0:
            return float(np.clip(np.arctan2(y, x), -_MOST_TILT, _MOST_TILT))
    return 0.0


def _turned(angle: float) -> np.ndarray:
    return np.array(((np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))))


def _hips(places: Places) -> np.ndarray:
    return places[list(_HIPS)].mean(axis=0)


def _trunk_length(places: Places) -> float:
    return float(np.linalg.norm(_hips(places) - places[_NECK]))


def _limbs(places: Places) -> np.ndarray:
    return np.array([places[end] - places[start] for start, end in _LIMBS])


def _size(places: Places) -> float:
    low, high = _box(places)
    return float((high - low).max())


def _box(places: Places) -> tuple[np.ndarray, np.ndarray]:
    return np.nanmin(places, axis=0), np.nanmax(places, axis=0)
