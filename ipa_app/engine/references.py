"""A picture used as a prompt, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from PIL import Image

from ipa_app.imaging.cropping import SquareMode
from ipa_app.options import check_options, option

RegionName = Literal["everywhere", "left", "right", "upper", "lower"]

MOST_REFERENCES = 4


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A picture used as a prompt.

    Each option says itself what it means and what is allowed.

    Raises:
        UserError: a value is not allowed.
    """

    image: Image.Image = option(
        title="The reference", doc="the picture that serves as prompt", api="reference", kind="reference"
    )
    weight: float = option(
        1.0,
        title="The reference's weight",
        label="Weight of picture {number}",
        step=0.05,
        between=(0, 2),
    )
    view: SquareMode = option(
        "crop",
        title="The reference's view",
        label="The model only sees a square",
        shown=("Cut one out", "Show all, with bars", "Squeeze", "Several squares"),
        doc="how the picture becomes the square that the model looks at: crop, pad, stretch or tiles (several)",
    )
    centre_x: float = option(
        0.5,
        title="The crop's centre across",
        label="Cut further left (0) or right (1)",
        step=0.01,
        between=(0, 1),
        doc="where the crop's middle should be, {least:g} (left) to {most:g} (right)",
    )
    centre_y: float = option(
        0.5,
        title="The crop's centre down",
        label="Cut further up (0) or down (1)",
        step=0.01,
        between=(0, 1),
        doc="where the crop's middle should be, {least:g} (top) to {most:g} (bottom)",
    )
    region: RegionName = option(
        "everywhere",
        title="The reference's region",
        label="Where in the new picture it counts",
        help="Two pictures can have a half each. Pictures for the same place share it.",
        shown=("Everywhere", "Left half", "Right half", "Upper half", "Lower half"),
        doc="where in the new picture the reference counts: everywhere, or left, right, upper or lower half",
    )

    def __post_init__(self) -> None:
        """Check the values."""
        check_options(self)
