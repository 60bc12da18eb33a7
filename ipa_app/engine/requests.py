"""A request for pictures, validated when it is created and never changed."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from PIL import Image

from ipa_app.engine.ranges import check_range, range_end, range_start
from ipa_app.engine.references import LONGEST_PROMPT, MOST_REFERENCES, Reference
from ipa_app.engine.tasks import TASKS, TaskOptions
from ipa_app.engine.tasks.task import LARGEST_SIDE
from ipa_app.engine.wording import readable
from ipa_app.errors import UserError, blaming
from ipa_app.imaging.result_files import EXACT_FORMATS, OutputFormat
from ipa_app.imaging.transparency import opacity_of
from ipa_app.messages import Message
from ipa_app.models.prompt_weights import check_weights
from ipa_app.models.styles import LONGEST_NAME
from ipa_app.options import check_options, option, options

LARGEST_SEED = 2**32 - 1
RANDOM_SEED = -1
"""Asks for a seed that is drawn when the request is submitted."""


def random_seed() -> int:
    """Return a random seed, 0 to 2**32 - 1."""
    return secrets.randbelow(LARGEST_SEED + 1)


def picture_seeds(seed: int, count: int) -> tuple[int, ...]:
    """Return the seeds of a series: seed, seed + 1 and so on, starting over at 0 after the largest.

    Args:
        seed: the first, 0 to 2**32 - 1.
        count: how many.

    Raises:
        ValueError: the seed is not decided yet.
    """
    if seed == RANDOM_SEED:
        raise ValueError("the seed is not decided yet")
    return tuple((seed + index) % (LARGEST_SEED + 1) for index in range(count))


PartName = Literal["all", "style", "layout"]
Speed = Literal["best", "fast"]

_LONGEST_FILE_NAME = 255


def _side(title: str, *, label: str) -> Any:
    """Declare the option for the width or height of the result."""
    return option(
        0,
        title=title,
        label=label,
        help="In pixels. 0: the model's own size; on Inpaint, the picture's size.",
        between=(8, LARGEST_SIDE),
        or_zero=True,
        multiple=8,
        doc="in pixels, 0 for the model's own size, or that of the picture to change",
    )


@dataclass(frozen=True, kw_only=True)
class GenerateRequest(TaskOptions):
    """A request for one or more pictures. For numbers, 0 means the model's own default.

    Each option documents its own meaning and limits. Options of all tasks are declared here; those of only some tasks
    are declared with these tasks. Beside the options:

    Attributes:
        references: pictures used as a prompt; none means plain Stable Diffusion.
        width: of the result in pixels. Where a picture is changed, 0 means its own size, and any extension is added on
            top; the same holds for `height`.
        seed: picture i has the seed `seed + i`.
        notes: messages on how its inputs were understood, where that may not be what was meant. They change nothing
            and come back with the result.

    Raises:
        UserError: a value is not allowed, or the task lacks something; names the field, its value and what is allowed.
    """

    task: str = option(title="The task", among=tuple(TASKS))
    prompt: str = option("", title="“Words”", longest=LONGEST_PROMPT, doc="words")
    references: tuple[Reference, ...] = ()
    adapter: str = option(
        "base",
        title="The adapter",
        longest=_LONGEST_FILE_NAME,
        doc="base (overall look), fine (more detail) or another name that /models lists for the model",
    )
    scale: float = option(
        1.0,
        label="Strength of the picture",
        help="0: the picture is ignored. 1: it is followed closely. Above 1: it is exaggerated.",
        step=0.05,
        between=(0, 1.5),
        doc="strength of the picture, {least:g} to {most:g}",
    )
    negative_prompt: str = option(
        "",
        label="Not in the picture",
        longest=LONGEST_PROMPT,
        doc="words for what should not be there",
    )
    count: int = option(
        1,
        label="How many pictures",
        step=1,
        initial=4,
        between=(1, 8),
        doc="number of pictures, {least:g} to {most:g}",
    )
    seed: int = option(
        -1,
        title="The seed",
        label="Seed",
        help="The same seed and settings give the same picture. -1: a new one every time.",
        between=(-1, LARGEST_SEED),
        doc="of the first picture, the next ones count up; -1 picks one at random",
    )
    steps: int = option(
        0,
        title="The number of steps",
        label="Steps",
        help="More steps are slower and a little finer. 0: the usual number for the model.",
        step=1,
        between=(0, 100),
        doc="denoising steps, 0 for the model's own number",
    )
    guidance_scale: float = option(
        0,
        title="The guidance",
        label="Guidance",
        help="How strictly the picture and words are followed, 1 to 20. 0: the usual value for the model.",
        step=0.5,
        between=(1, 20),
        or_zero=True,
        api="guidance",
        doc="{least:g} to {most:g}, 0 for the model's own",
    )
    width: int = _side("The width", label="Width")
    height: int = _side("The height", label="Height")
    model: str = option("toybox", title="The model", label="Model", longest=100, doc="a name from /models")
    start: float = range_start("picture")
    end: float = range_end("picture", after="start")
    negative_reference: Image.Image | None = option(
        None,
        title="The picture to avoid",
        label="Picture to avoid",
        kind="reference",
        doc="a picture to avoid; counts only together with a reference",
    )
    part: PartName = option(
        "all",
        label="What to use of the picture",
        help=(
            "Style: colours, material and mood. Layout: what is where, and how large. With only one of them, "
            "your words say what is drawn."
        ),
        shown=("Everything", "Only its style", "Only its layout"),
        doc="what of the reference counts: all, style or layout; the last two for models that /models says can do so",
    )
    output_format: OutputFormat = option(
        "png",
        title="The file format",
        label="File format",
        help="PNG and WebP keep every pixel exactly as it was drawn, WebP in a smaller file; JPEG does not.",
        shown=("PNG", "JPEG", "WebP"),
        doc="of the files: png and webp keep every pixel exactly as it was drawn, jpeg does not",
    )
    guidance_start: float = option(
        0.0,
        title="The beginning of the guidance",
        label="Guidance from (0: first step)",
        step=0.05,
        between=(0, 1),
        doc="when guidance begins, as a share of the steps, {least:g} to {most:g}",
    )
    guidance_end: float = option(
        0,
        title="The end of the guidance",
        label="Guidance to (1: last step)",
        help="Ending earlier is faster. 0: as is usual for the model.",
        step=0.05,
        between=(0.05, 1),
        or_zero=True,
        doc=(
            "when it ends, later than guidance_start, {least:g} to {most:g}; 0 for the model's own end, and where "
            "guidance_start is 0 as well its own beginning"
        ),
    )
    style: str = option(
        "",
        title="The style",
        label="Style",
        longest=LONGEST_NAME,
        doc="name of a prompt style that /models lists for the model",
    )
    speed: Speed = option(
        "best",
        title="The speed",
        label="Speed",
        help=(
            "Fast takes only a few steps, and gives a different picture from Best. “Guidance” then has no effect, and "
            "“Not in the picture” usually has none either."
        ),
        shown=("Best", "Fast"),
        doc="best, or fast for models that /models says can do so: in a few steps, with a different picture",
    )
    notes: tuple[Message, ...] = ()

    def with_seed(self) -> GenerateRequest:
        """Return the request with a definite seed: a random one is drawn if needed."""
        return self if self.seed != RANDOM_SEED else replace(self, seed=random_seed())

    def __post_init__(self) -> None:
        """Check every value, and that the task has all it needs."""
        check_options(self)
        check_range(self.start, self.end, of=Message("strength.picture"), field="end")
        if self.guidance_end:
            check_range(self.guidance_start, self.guidance_end, of=Message("strength.guidance"), field="guidance_end")
        for name in ("prompt", "negative_prompt"):
            with blaming(name):
                check_weights(readable(getattr(self, name)), prompt=options(type(self))[name].called)
        self._check_references()
        task = TASKS[self.task]
        task.check(self)
        self._check_format(task.picture_fields(type(self)))
        for name, value in task.normalized(self).items():
            object.__setattr__(self, name, value)

    def _check_format(self, pictures: Sequence[str]) -> None:
        """Check that the file format can hold the opacity of the task's own pictures, given by their field names."""
        own = (getattr(self, name) for name in pictures)
        if self.output_format not in EXACT_FORMATS and any(
            isinstance(each, Image.Image) and opacity_of(each) is not None for each in own
        ):
            raise UserError("request.jpeg_is_opaque").blaming("output_format")

    def _check_references(self) -> None:
        object.__setattr__(self, "references", tuple(self.references))
        if len(self.references) > MOST_REFERENCES:
            raise UserError("request.too_many_references", count=len(self.references), most=MOST_REFERENCES)
        if not all(isinstance(reference, Reference) for reference in self.references):
            raise UserError("request.not_references")
