"""What comes back during and after a request, and the sign that stands for a withheld picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image, ImageDraw

from ipa_app.errors import UserError
from ipa_app.messages import Message

DRAWN_AGAIN = "doing.drawing_again"
"""Key of the progress message while steps that ran out of range are carried out a second time."""

Phase = Literal["queued", "loading", "encoding", "denoising", "decoding"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a request is.

    Attributes:
        phase: what is being done.
        step: how much of it is done. While denoising these are the steps of all pictures together.
        steps: out of how many; 0 when that is not known.
        message: a few words for users.
        preview: the pictures so far, side by side, small, mode "RGB"; None if there is no new one.
    """

    phase: Phase
    step: int = 0
    steps: int = 0
    message: Message | None = None
    preview: Image.Image | None = field(default=None, hash=False)


@dataclass(frozen=True, kw_only=True)
class GenerateResult:
    """The pictures of a request.

    Attributes:
        images: mode "RGB", as many as were requested; "RGBA" if the picture that was changed is transparent.
        seeds: the seed of each.
        settings: every input as it was used, ready to be written as JSON. Its "withheld", if present, lists the seeds
            of pictures that the model's safety checker withheld; a sign replaces each.
        inputs: the pictures that were used, by their names in a result's file.
        notes: messages to be shown with the pictures, including those of the request.
    """

    images: tuple[Image.Image, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    inputs: Mapping[str, Image.Image] = field(default_factory=dict)
    notes: tuple[Message, ...] = ()

    @property
    def withheld(self) -> tuple[int, ...]:
        """The seeds of the pictures that the safety checker withheld."""
        return tuple(self.settings.get("withheld", ()))


_PAPER, _INK = (236, 236, 240), (96, 96, 108)
# Drawn this many times larger at first, for smooth lines.
_FINER = 4


class AllWithheld(UserError):  # noqa: N818 - an outcome of a request, as Cancelled is
    """Every picture of a request was withheld; `result` has the sign in place of each."""

    def __init__(self, message: Message, result: GenerateResult) -> None:
        super().__init__(message)
        self.result = result


def notice(size: tuple[int, int]) -> Image.Image:
    """Draw the sign, a crossed-out eye. It is understood in every language; the words are beside the picture.

    Args:
        size: (width, height) in pixels of the picture it stands for.

    Returns:
        Mode "RGB".
    """
    image = Image.new("RGB", size, _PAPER)
    side = max(1, min(size) // 2)
    sign = _crossed_eye(side * _FINER).resize((side, side), Image.Resampling.LANCZOS)
    image.paste(_INK, ((size[0] - side) // 2, (size[1] - side) // 2), sign)
    return image


def _crossed_eye(side: int) -> Image.Image:
    """Draw the eye's lines, mode "L", 255 where there is ink."""
    sign = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(sign)
    middle, width = side / 2, max(1, round(side * 0.06))
    # The lids are arcs of two circles that meet in the corners of the eye.
    radius, lift = side * 0.58, side * 0.34
    for way, (first, last) in ((1, (216, 324)), (-1, (36, 144))):
        centre = middle + way * lift
        draw.arc((middle - radius, centre - radius, middle + radius, centre + radius), first, last, 255, width)
    iris = side * 0.13
    draw.ellipse((middle - iris, middle - iris, middle + iris, middle + iris), outline=255, width=width)
    near, far = side * 0.16, side * 0.84
    draw.line((near, far, far, near), fill=0, width=3 * width)
    draw.line((near, far, far, near), fill=255, width=width)
    return sign
