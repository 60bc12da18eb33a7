"""A skeleton on its canvas: the content of OpenPose files, and what is edited and drawn."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.pose.keypoint_files import read_keypoints
from ipa_app.pose.keypoints import Keypoint, Points
from ipa_app.pose.skeleton import Skeleton

LONGEST_JSON = 10_000_000
"""Most characters of a keypoint file: enough for some minutes of film with one list of points per frame."""

_SIDES = (16, 32_768)
# Also bounds the cost of drawing, as the thickness of sticks follows from the shorter side.
_LARGEST_RATIO = 8
# Sizes relative to the canvas: below the first, figures become blots, given the thickness of their lines; the second
# suits a figure; the third is the size assumed for a single joint.
_SMALL, _COMFORTABLE, _TINIEST = 0.25, 0.7, 0.02


@dataclass(frozen=True)
class PoseSheet:
    """A skeleton and the size of its canvas, without which the aspect ratio would be unknown.

    Attributes:
        skeleton: 0..1 spans the canvas.
        width: of the canvas in pixels.
        height: of the canvas in pixels.
        notes: sentences on what was left out or changed when it was read.

    Raises:
        UserError: at construction, if the canvas is too small, too large or too narrow.
    """

    skeleton: Skeleton
    width: int
    height: int
    notes: tuple[Message, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        """Check the canvas, so that every sheet can be drawn."""
        least, most = _SIDES
        if not (least <= min(self.width, self.height) and max(self.width, self.height) <= most):
            # A file may say any size, which would take hundreds of digits in full.
            width, height = (f"{side:.9g}" for side in (self.width, self.height))
            raise UserError("pose.canvas_size", width=width, height=height, least=least, most=most)
        if max(self.width, self.height) > _LARGEST_RATIO * min(self.width, self.height):
            raise UserError("pose.canvas_too_narrow", width=self.width, height=self.height, ratio=_LARGEST_RATIO)

    @classmethod
    def from_json(cls, text: object, *, canvas: tuple[float, float] | None = None) -> PoseSheet:
        """Read the text of a keypoint file of any known program.

        Args:
            text: JSON, of any of the programs that `read_keypoints` knows.
            canvas: as for `read_keypoints`.

        Raises:
            UserError: it is too long, not JSON, or not a pose.
        """
        if not isinstance(text, str):
            raise UserError("keypoints.not_text")
        if len(text) > LONGEST_JSON:
            raise UserError("keypoints.too_long", most=f"{LONGEST_JSON:,}")
        return cls.from_openpose(_parsed(text), canvas=canvas)

    @classmethod
    def from_openpose(cls, data: Any, *, canvas: tuple[float, float] | None = None) -> PoseSheet:
        """Read the data of a keypoint file of any known program.

        Args:
            data: as for `read_keypoints`.
            canvas: as for `read_keypoints`.

        Raises:
            UserError: it is not a pose.
        """
        file = read_keypoints(data, canvas=canvas)
        return cls(file.skeleton, *file.size, notes=file.notes)

    @property
    def window(self) -> tuple[int, int, int, int]:
        """Return the part (left, top, right, bottom) of the canvas to look at: all, or less if the figures are tiny."""
        canvas = np.array((self.width, self.height))
        seen = np.array([point for person in self.skeleton.people for point in person if point is not None])
        low, high = seen.min(axis=0), seen.max(axis=0)
        share = float((high - low).max())
        if share >= _SMALL:
            return 0, 0, self.width, self.height
        side = np.full(2, max(share, _TINIEST) / _COMFORTABLE)
        corner = np.clip((low + high - side) / 2, 0, 1 - side)
        (left, top), (right, bottom) = (np.rint(each * canvas).astype(int).tolist() for each in (corner, corner + side))
        return left, top, right, bottom

    def brought_closer(self) -> PoseSheet:
        """Return the sheet enlarged, with a note, if its figures are too tiny to be followed; else unchanged."""
        left, top, right, bottom = self.window
        if (right - left, bottom - top) == (self.width, self.height):
            return self

        def moved(points: Points) -> Points:
            corner, size = np.array((left, top)), np.array((right - left, bottom - top))
            places = [point and (np.array(point) * (self.width, self.height) - corner) / size for point in points]
            return tuple(None if place is None else Keypoint(float(place[0]), float(place[1])) for place in places)

        people = tuple(map(moved, self.skeleton.people))
        details = tuple(details.moved(moved) for details in self.skeleton.details)
        note = Message("pose.brought_closer")
        return replace(self, skeleton=Skeleton(people, details), notes=(*self.notes, note))

    def to_openpose(self) -> dict[str, Any]:
        """Return OpenPose's data, with coordinates in pixels of the canvas."""
        return self.skeleton.to_openpose(self.width, self.height)

    def to_json(self) -> str:
        """Return the text of an OpenPose file."""
        return json.dumps(self.to_openpose())


def _parsed(text: str) -> Any:
    """Parse JSON, including JSON inside a JSON string, as some programs exchange it.

    Raises:
        UserError: it is not JSON.
    """
    try:
        # As a float, an integer of thousands of digits just becomes infinite, and parses fast.
        data = json.loads(text.removeprefix("\ufeff"), parse_int=float)
        return json.loads(data, parse_int=float) if isinstance(data, str) else data
    except (ValueError, RecursionError):
        raise UserError("keypoints.not_json") from None
