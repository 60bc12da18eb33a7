"""What detectors find, as a skeleton."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ipa_app.errors import UserError
from ipa_app.pose.keypoints import Details, Keypoint, Points
from ipa_app.pose.skeleton import Person, Skeleton


class FoundPerson(Protocol):
    """A person as controlnet-aux and rtmlib give one; the same type, but each has its own.

    Points are fractions 0..1 of the picture. Where they are not seen, they are None, or lie outside.
    """

    @property
    def body(self) -> Any:
        """Has the 18 points as `keypoints`."""
        ...

    @property
    def left_hand(self) -> Sequence[Any] | None:
        """21 points."""
        ...

    @property
    def right_hand(self) -> Sequence[Any] | None:
        """Likewise."""
        ...

    @property
    def face(self) -> Sequence[Any] | None:
        """70 points."""
        ...


def skeleton_from_people(people: Sequence[FoundPerson]) -> Skeleton:
    """Turn what was found into a skeleton, without those of whom fewer than two points of the body are seen.

    Raises:
        UserError: there is nobody.
    """
    bodies: list[Person] = []
    details: list[Details] = []
    for person in people:
        body = _points(person.body.keypoints)
        if sum(point is not None for point in body) >= 2:
            bodies.append(body)
            parts = {"left_hand": person.left_hand, "right_hand": person.right_hand, "face": person.face}
            details.append(Details(**{name: _points(part) for name, part in parts.items() if part is not None}))
    if not bodies:
        raise UserError("pose.nobody_found")
    return Skeleton(tuple(bodies), tuple(details))


def _points(points: Sequence[Any]) -> Points:
    found = (None if point is None else Keypoint(float(point.x), float(point.y)) for point in points)
    return tuple(point if point is not None and point.is_inside else None for point in found)
