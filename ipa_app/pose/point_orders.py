"""The orders in which programs list a body's points, and their names for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ipa_app.pose.body import JOINT_NAMES

_ARM = ("shoulder", "elbow", "wrist")
_LEG = ("hip", "knee", "ankle")


@dataclass(frozen=True)
class PointOrder:
    """The order in which a program lists a person's points.

    Attributes:
        body: joint name of every body point; None for joints that we do not have.
        least_confidence: points below it count as not seen, as some programs list guesses too.
        face: indices of the face points in the list.
        left_hand: indices of the left hand's points.
        right_hand: indices of the right hand's points.
    """

    body: tuple[str | None, ...]
    least_confidence: float = 0.0
    face: range = range(0)
    left_hand: range = range(0)
    right_hand: range = range(0)

    @property
    def count(self) -> int:
        """Total number of points."""
        return max(len(self.body), self.right_hand.stop)


def _both(parts: tuple[str, ...], *sides: str) -> tuple[str, ...]:
    """List parts side by side: right shoulder, right elbow, ..., left shoulder, ..."""
    return tuple(f"{side} {part}" for side in sides for part in parts)


def _pairs(*parts: str) -> tuple[str, ...]:
    """List parts one by one, left before right: left eye, right eye, left ear, ..."""
    return tuple(f"{side} {part}" for part in parts for side in ("left", "right"))


_FEET = (None,) * 6
_OPENPOSE_25 = (
    *("nose", "neck", *_both(_ARM, "right", "left"), None, *_both(_LEG, "right", "left")),
    *("right eye", "left eye", "right ear", "left ear", *_FEET),
)
_COCO_17 = ("nose", *_pairs("eye", "ear", *_ARM, *_LEG))
_HALPE_26 = (*_COCO_17, None, "neck", None, *_FEET)
# OpenPose's order for the MPI data set, with the head first and the chest last.
_MPI_15 = (None, "neck", *_both(_ARM, "right", "left"), *_both(_LEG, "right", "left"), None)
_MPII_16 = (
    *("right ankle", "right knee", "right hip", "left hip", "left knee", "left ankle"),
    *(None, None, None, None),
    *("right wrist", "right elbow", "right shoulder", "left shoulder", "left elbow", "left wrist"),
)
_BLAZEPOSE_33 = (
    *("nose", None, "left eye", None, None, "right eye", None, "left ear", "right ear", None, None),
    *(*_pairs(*_ARM), *_FEET, *_pairs(*_LEG), None, None, None, None),
)
# Confidences below which MMPose's and MediaPipe's own programs do not draw points either.
_UNSURE, _INVISIBLE = 0.3, 0.5

ORDERS = {
    order.count: order
    for order in (
        PointOrder(JOINT_NAMES),
        PointOrder(_OPENPOSE_25),
        PointOrder(_MPI_15),
        PointOrder(_MPII_16, _UNSURE),
        PointOrder(_COCO_17, _UNSURE),
        PointOrder(_HALPE_26, _UNSURE),
        PointOrder(_BLAZEPOSE_33, _INVISIBLE),
        # Whole-body orders of COCO and Halpe.
        PointOrder((*_COCO_17, *_FEET), _UNSURE, range(23, 91), range(91, 112), range(112, 133)),
        PointOrder(_HALPE_26, _UNSURE, range(26, 94), range(94, 115), range(115, 136)),
    )
}
"""Every order by its number of points, which identifies it."""


def _spellings(name: str) -> tuple[str, ...]:
    side, _, part = name.rpartition(" ")
    return (part,) if not side else (f"{side}{part}", f"{side[0]}{part}", f"{part}{side}", f"{part}{side[0]}")


# What only animals have, in the names that data sets of animals give to their points.
_ANIMALS_PART = re.compile("tail|paw|hoof|withers|snout|muzzle|beak|wing|horn", re.IGNORECASE)
_FEWEST_JOINTS = 2
_BY_SPELLING = {spelling: name for name in JOINT_NAMES for spelling in _spellings(name)}


def joint_named(text: object) -> str | None:
    """Return our name for a joint called "left_shoulder", "LShoulder" or the like; None for anything else."""
    letters = re.sub("[^a-z]", "", str(text).lower())
    return _BY_SPELLING.get(letters.removesuffix("joint"))


def are_of_a_body(names: Iterable[object]) -> bool:
    """Whether names of points are those of a person's body: some of our joints, and nothing that only animals have."""
    listed = list(map(str, names))
    joints = sum(joint_named(name) is not None for name in listed)
    return joints >= _FEWEST_JOINTS and not any(map(_ANIMALS_PART.search, listed))


def order_of(names: Sequence[str]) -> PointOrder:
    """Return the order of points with these names: the known one if they are its, with its hands and face."""
    body = tuple(map(joint_named, names))
    known = ORDERS.get(len(names))
    is_known = known is not None and body[: len(known.body)] == known.body and not any(body[len(known.body) :])
    return known if known is not None and is_known else PointOrder(body, _UNSURE)
