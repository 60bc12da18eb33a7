"""The description of a people detector before it is loaded, and its interface.

A new detector is a module with a class and its `Detector`, which is listed in `detectors`. Both must be importable
without PyTorch and the packages it needs, so that the page opens at once: import those where they are used.
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
    """A person as returned by controlnet-aux and rtmlib, each of which has its own type with these members.

    Points are fractions 0..1 of the picture. Points that are not seen are None or lie outside it.
    """

    @property
    def body(self) -> Any:
        """An object with the 18 points as `keypoints`."""
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
    """Build a skeleton of the people found, without those with fewer than two visible body points.

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
    """What to look for, and with which detector.

    Attributes:
        pose_detector: name of the detector in `pose.detectors.DETECTORS`.
        pose_hands: whether to look for fingers.
        pose_face: whether to look for face points.
    """

    pose_detector: str = "openpose"
    pose_hands: bool = False
    pose_face: bool = False


Weights = Callable[[PoseOptions], Mapping[str, Path]]
"""Returns the files that a detector needs, by their published names.

It may block while it downloads them.

Raises:
    UserError: they are unavailable; with the reason.
    Cancelled: they are no longer wanted.
"""


class PeopleDetector(Protocol):
    """A loaded detector. Use from one thread at a time."""

    def is_ready(self, options: PoseOptions, /) -> bool:
        """Whether everything needed for these options is loaded."""
        ...

    def load(self, files: Mapping[str, Path], options: PoseOptions, /) -> None:
        """Load whatever is needed and not loaded yet.

        Args:
            files: weights by their published names.
            options: what to look for.

        Raises:
            UserError: a file is damaged, or holds something else.
        """
        ...

    def find(self, photo: Image.Image, options: PoseOptions, /) -> list[FoundPerson]:
        """Find everybody in a photo (mode "RGB"); points are fractions 0..1 of it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Detector:
    """The description of a detector.

    Attributes:
        name: its name in requests.
        title: its display name.
        licence: of its weights, in a word.
        help: what users should know before they choose it, such as what is downloaded then; whole sentences.
        make: builds one for a torch device.
        repo: repository "owner/name" of its weights on the Hugging Face Hub.
        revision: commit of that repository.
        files: names of the weights there, for bodies.
        hand_files: further files needed for fingers.
        face_files: further files needed for faces.
        pickles: whether the weights are PyTorch pickles; the loader must refuse code in them.
        packages: extra packages it needs, besides those always installed.
        hands: whether it can find fingers.
        face: whether it can find face points.
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
        """What users should know before they choose it, as a message."""
        return Message.declared(f"detector.{self.name}.help", self.help)

    @property
    def is_installed(self) -> bool:
        """Whether the packages that it needs are installed."""
        return all(map(find_spec, self.packages))

    def files_for(self, options: PoseOptions) -> tuple[str, ...]:
        """Return the names of the weights that these options need."""
        return self.files + self.hand_files * options.pose_hands + self.face_files * options.pose_face
