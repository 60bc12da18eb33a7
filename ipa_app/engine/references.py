"""A picture used as a prompt, and its settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from PIL import Image

from ipa_app.engine.ranges import check_range
from ipa_app.engine.wording import readable
from ipa_app.errors import UserError, blaming
from ipa_app.imaging.cropping import SquareMode
from ipa_app.imaging.masks import region_levels
from ipa_app.messages import Message
from ipa_app.models.prompt_weights import check_weights, without_weights
from ipa_app.options import check_options, option, options

RegionName = Literal["everywhere", "left", "right", "upper", "lower", "painted"]

MOST_REFERENCES = 4
LONGEST_PROMPT = 2000


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A picture used as a prompt.

    Each option documents its own meaning and limits. Beside the options:

    Attributes:
        region_mask: mode "L", at most 1024 pixels a side; any other picture is converted to that. If there is one, the
            region is "painted".

    Raises:
        UserError: a value is not allowed; a mask is missing, empty, or given together with a half; there are words for
            a region, but no region.
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
        doc="how much the reference counts compared with others, {least:g} to {most:g}",
    )
    view: SquareMode = option(
        "crop",
        label="How it becomes a square",
        shown=("Cut one out", "Add bars", "Squeeze it", "Use several"),
        doc="how the picture becomes the square that the model looks at: crop, pad, stretch or tiles (several)",
    )
    centre_x: float = option(
        0.5,
        label="Crop: left (0) to right (1)",
        step=0.01,
        between=(0, 1),
        doc="where the crop's middle should be, {least:g} (left) to {most:g} (right)",
    )
    centre_y: float = option(
        0.5,
        label="Crop: top (0) to bottom (1)",
        step=0.01,
        between=(0, 1),
        doc="where the crop's middle should be, {least:g} (top) to {most:g} (bottom)",
    )
    region: RegionName = option(
        "everywhere",
        label="Where in the new picture it counts",
        help="Two pictures can each have a half, or the places you paint. Pictures for the same place share it.",
        shown=("Everywhere", "Left half", "Right half", "Upper half", "Lower half", "Where I paint"),
        doc=(
            "where in the new picture the reference counts: everywhere, or left, right, upper or lower half, "
            "or painted, which {region_mask} implies"
        ),
    )
    region_mask: Image.Image | None = option(
        None,
        title="The mask of the reference's region",
        kind="mask",
        doc="where the reference counts: white in full, black not at all, grey in between; of the result's shape",
    )
    region_softness: float = option(
        0,
        label="Softness of the place's edge",
        help="0: as sharp as it was painted. In percent of the picture's longer side.",
        step=0.5,
        between=(0, 20),
        beside="region_mask",
        doc="width of the soft edge of {region_mask}, percent of its longer side, {least:g} (as it is) to {most:g}",
    )
    region_prompt: str = option(
        "",
        label="Words for its place",
        help="What to draw there, instead of the words for the whole picture. If left empty, those words are used.",
        longest=LONGEST_PROMPT,
        is_rare=True,
        doc="words for the reference's region, which count there instead of the prompt",
    )
    start: float = option(
        0.0,
        title="The beginning of the reference's strength",
        label="Has an effect from (0: first step)",
        step=0.05,
        between=(0, 1),
        excluded=1,
        api="reference_start",
        doc="when this reference begins to count, as a share of the steps, within start to end of all",
    )
    end: float = option(
        1.0,
        title="The end of the reference's strength",
        label="Has an effect until (1: last step)",
        step=0.05,
        between=(0, 1),
        excluded=0,
        api="reference_end",
        doc="when it stops counting; later than {reference_start}",
    )

    def __post_init__(self) -> None:
        """Check the values. A mask is converted to its usual form and implies the region "painted"."""
        check_options(self)
        check_range(self.start, self.end, of=Message("strength.reference"), field="reference_end")
        with blaming("region_prompt"):
            check_weights(readable(self.region_prompt), prompt=options(type(self))["region_prompt"].called)
        self._check_region()
        if self.has_words and self.region == "everywhere":
            raise UserError("region.words_everywhere").blaming("region_prompt")

    @property
    def has_words(self) -> bool:
        """Whether there are words for its region."""
        return bool(without_weights(readable(self.region_prompt)).strip())

    def _check_region(self) -> None:
        if self.region_mask is None:
            if self.region == "painted":
                raise UserError("region.no_mask").blaming("region_mask")
            return
        if self.region not in ("everywhere", "painted"):
            raise UserError("region.two_places", region=self.region).blaming("region_mask")
        object.__setattr__(self, "region", "painted")
        object.__setattr__(self, "region_mask", region_levels(self.region_mask))


def slot_name(name: str, number: int) -> str:
    """Return the name of an option for the reference of that number; for the first it is the API's name unchanged."""
    return name if number == 1 else f"{name}_{number}"


def words_of_region(number: int) -> Message:
    """Return the name that messages use for the words of a reference's region, by the reference's number."""
    return Message("region.words_of", number=number)


def spans(
    references: Sequence[Reference], start: float, end: float
) -> Iterator[tuple[float, float, tuple[Reference, ...]]]:
    """Yield the ranges in which the same references count: start and end, as shares of the steps, and the references.

    Args:
        references: each with a range of its own.
        start: before this none counts, 0 to 1.
        end: after this none counts.
    """
    bounds = (bound for each in references for bound in (each.start, each.end))
    moments = sorted({start, end, *(min(max(bound, start), end) for bound in bounds)})
    for begins, ends in pairwise(moments):
        counted = tuple(each for each in references if each.start <= begins and ends <= each.end)
        if any(each.weight > 0 for each in counted):
            yield begins, ends, counted
