"""A skeleton on the canvas it was posed on: what OpenPose's files hold, and what is edited and drawn."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ipa_app.errors import UserError
from ipa_app.pose.skeleton import Skeleton

LONGEST_JSON = 500_000
"""Most characters of an OpenPose file: 32 people with hands and faces still fit."""

_SIDES = (16, 32_768)
# Also what bounds the work of drawing: sticks are as thick as the shorter side says.
_LARGEST_RATIO = 8


@dataclass(frozen=True)
class PoseSheet:
    """A skeleton and the shape of its canvas, without which 0..1 would be squeezed.

    Attributes:
        skeleton: 0..1 spans the canvas.
        width: of the canvas in pixels.
        height: likewise.

    Raises:
        UserError: at construction, when the canvas is too small, too large or too narrow.
    """

    skeleton: Skeleton
    width: int
    height: int

    def __post_init__(self) -> None:
        """Check the canvas, so that whoever holds a sheet can draw it."""
        least, most = _SIDES
        if not (least <= min(self.width, self.height) and max(self.width, self.height) <= most):
            raise UserError(
                f"The canvas of this pose is {self.width} x {self.height} pixels: "
                f"please use one of {least} to {most} pixels a side."
            )
        if max(self.width, self.height) > _LARGEST_RATIO * min(self.width, self.height):
            raise UserError(
                f"The canvas of this pose is too narrow ({self.width} x {self.height} pixels): please use one whose "
                f"long side is at most {_LARGEST_RATIO} times the short one."
            )

    @classmethod
    def from_json(cls, text: object) -> PoseSheet:
        """Read an OpenPose file's text, whoever it comes from.

        Args:
            text: JSON as `Skeleton.from_openpose` describes it, or a list with just that in it, as some editors write.

        Raises:
            UserError: it is too long, not JSON, or not a pose.
        """
        if not isinstance(text, str):
            raise UserError("The pose must be text: please paste the keypoints of an OpenPose file.")
        if len(text) > LONGEST_JSON:
            raise UserError(f"This OpenPose file is too long: please use one of at most {LONGEST_JSON:,} characters.")
        try:
            data: Any = json.loads(text)
        except (ValueError, RecursionError):
            raise UserError("This is not JSON: please paste or upload the whole content of an OpenPose file.") from None
        return cls.from_openpose(data[0] if isinstance(data, list) and len(data) == 1 else data)

    @classmethod
    def from_openpose(cls, data: Any) -> PoseSheet:
        """Read OpenPose's data, whoever it comes from.

        Raises:
            UserError: it is not a pose.
        """
        skeleton = Skeleton.from_openpose(data)
        return cls(skeleton, round(data["canvas_width"]), round(data["canvas_height"]))

    def to_openpose(self) -> dict[str, Any]:
        """Write OpenPose's data, coordinates in pixels of the canvas."""
        return self.skeleton.to_openpose(self.width, self.height)

    def to_json(self) -> str:
        """Write an OpenPose file's text."""
        return json.dumps(self.to_openpose())
