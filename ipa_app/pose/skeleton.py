"""Skeletons as data: OpenPose's 18 body points for any number of people, and their hands and faces.

The order of the points (COCO-18, as the OpenPose ControlNets were trained on): nose, neck, right shoulder, elbow,
wrist, left shoulder, elbow, wrist, right hip, knee, ankle, left hip, knee, ankle, right eye, left eye, right ear,
left ear. Right and left are the person's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ipa_app.errors import UserError
from ipa_app.pose.keypoints import Details, Points, write_points

KEYPOINTS_PER_PERSON = 18
MOST_PEOPLE = 32
"""Most people in a skeleton."""

Person = Points
"""The 18 points of one body."""


@dataclass(frozen=True)
class Skeleton:
    """The people in a picture; points that are not seen are None.

    Attributes:
        people: 18 points each, at least two of them seen.
        details: hands and face of each person, in the same order; empty if nobody has any.

    Raises:
        UserError: at construction, if there is nobody, or a person's points are too few, too many or outside 0..1.
    """

    people: tuple[Person, ...]
    details: tuple[Details, ...] = ()

    def __post_init__(self) -> None:
        """Check every person, so that every skeleton can be drawn."""
        if not self.people:
            raise UserError("pose.empty")
        if len(self.people) > MOST_PEOPLE:
            raise UserError("pose.too_many_people", count=len(self.people), most=MOST_PEOPLE)
        for number, person in enumerate(self.people, start=1):
            _check_person(person, number=number)
        if self.details and len(self.details) != len(self.people):
            raise ValueError(f"{len(self.people)} people have {len(self.details)} details")
        if all(details == Details() for details in self.details):
            object.__setattr__(self, "details", ())

    @property
    def figures(self) -> tuple[tuple[Person, Details], ...]:
        """Every person with their details."""
        return tuple(zip(self.people, self.details or (Details(),) * len(self.people), strict=True))

    def to_openpose(self, width: int, height: int) -> dict[str, Any]:
        """Return OpenPose's JSON for a canvas of `width` x `height` pixels, to a hundredth of a pixel."""
        people = []
        for person, details in self.figures:
            body = write_points(person, width=width, height=height)
            people.append({"pose_keypoints_2d": body, **details.to_openpose(width, height)})
        return {"people": people, "canvas_width": width, "canvas_height": height}


def _check_person(person: Person, *, number: int) -> None:
    if len(person) != KEYPOINTS_PER_PERSON:
        raise UserError("keypoints.wrong_count", person=number, count=len(person), wanted=KEYPOINTS_PER_PERSON)
    seen = [point for point in person if point is not None]
    if len(seen) < 2:
        raise UserError("keypoints.too_few", person=number)
    for point in seen:
        if not point.is_inside:
            raise UserError("keypoints.outside", person=number)
