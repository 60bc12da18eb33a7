"""What is to be known of a detector of people before it is loaded, and what it does then.

A new one is a module of its own with a class and its `Detector`, which is listed in `detectors`. Both must be there
without PyTorch and without the packages that it needs, so that the page opens at once: import them where they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from ipa_app.errors import UserError
from ipa_app.messages import Message
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
        """21 points."""
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


@dataclass(frozen=True, kw_only=True)
class PoseOptions:
    """What is looked for, and by what.

    Attributes:
        pose_detector: the name of what finds the people, in `pose.detectors.DETECTORS`.
        pose_hands: whether to look for their fingers.
        pose_face: whether to look for the points of their faces.
    """

    pose_detector: str = "openpose"
    pose_hands: bool = False
    pose_face: bool = False


Weights = Callable[[PoseOptions], Mapping[str, Path]]
"""Gives the files that a detector needs, by the names under which they are published.

It may take its time to fetch them.

Raises:
    UserError: they cannot be had, and why.
    Cancelled: nobody wants them any more.
"""


class PeopleDetector(Protocol):
    """A detector at work. For one thread at a time."""

    def is_ready(self, options: PoseOptions, /) -> bool:
        """Whether everything is loaded that is needed to look for this."""
        ...

    def load(self, files: Mapping[str, Path], options: PoseOptions, /) -> None:
        """Load what is needed and not loaded yet.

        Args:
            files: the weights by the names under which they are published.
            options: what is looked for.

        Raises:
            UserError: a file is damaged, or of something else.
        """
        ...

    def find(self, photo: Image.Image, options: PoseOptions, /) -> list[FoundPerson]:
        """Find everybody in a photo (mode "RGB"); points are fractions 0..1 of it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Detector:
    """What is to be known of a detector.

    Attributes:
        name: what requests call it.
        title: what people call it.
        licence: of its weights, in a word.
        help: what people should know before they choose it, such as what is downloaded then; whole sentences.
        make: makes one that works on a torch device.
        repo: "owner/name" on the Hugging Face Hub, where its weights are.
        revision: the commit that they are taken from.
        files: their names there, for bodies.
        hand_files: those that fingers need beside them.
        face_files: those that faces need beside them.
        pickles: whether they are PyTorch's pickles; its reader must refuse code in them.
        packages: what has to be installed for it, beside what is there anyway.
        hands: whether it can find fingers.
        face: whether it can find the points of faces.
    """

    name: str
    title: str
    licence: str
    help: str
    make: Callable[[str], PeopleDetector]
    repo: str
    revision: str
    files: tuple[str, ...]
    hand_files: tuple[str, ...] = ()
    face_files: tuple[str, ...] = ()
    pickles: bool = False
    packages: tuple[str, ...] = ()
    hands: bool = True
    face: bool = True

    @property
    def told(self) -> Message:
        """What people should know before they choose it, as a message."""
        return Message.declared(f"detector.{self.name}.help", self.help)

    @property
    def is_installed(self) -> bool:
        """Whether the packages that it needs are there."""
        return all(map(find_spec, self.packages))

    def files_for(self, options: PoseOptions) -> tuple[str, ...]:
        """Return the names of the weights that it takes to look for something."""
        return self.files + self.hand_files * options.pose_hands + self.face_files * options.pose_face
