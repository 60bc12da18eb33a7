"""What a person asks for, validated when it is made and never changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from ipa_app.engine.references import MOST_REFERENCES, Reference
from ipa_app.engine.seeds import LARGEST_SEED
from ipa_app.engine.wording import readable
from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.options import check_options, option
from ipa_app.pose.detectors import DETECTORS, USUAL, DetectorName
from ipa_app.pose.options import PoseOptions
from ipa_app.pose.sheet import PoseSheet

Task = Literal["variation", "mix", "inpaint", "pose"]
AreaName = Literal["masked", "whole"]
PartName = Literal["all", "style", "layout"]

LARGEST_SIDE = 2048
_LONGEST_PROMPT = 2000
_LONGEST_FILE_NAME = 255

EXTENSIONS = ("extend_left", "extend_right", "extend_up", "extend_down")


def _side(title: str, *, label: str) -> Any:
    """Declare how wide or how high the result is."""
    return option(
        0,
        title=title,
        label=label,
        help="In pixels. 0: the model's own size.",
        between=(8, LARGEST_SIDE),
        or_zero=True,
        multiple=8,
        doc="in pixels, 0 for the model's own",
    )


def _extension(title: str, *, label: str, of: str) -> Any:
    """Declare by how much the picture is continued in a direction, in percent of its width or height."""
    return option(
        0,
        title=title,
        label=label,
        step=5,
        between=(0, 100),
        tasks=("inpaint",),
        doc=f"continue the picture there by {{least:g}} to {{most:g}} percent of its {of}",
    )


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """One order of pictures. Numbers that are 0 mean the model's own default.

    Each option says itself what it means, what is allowed and which tasks it is for; beside these:

    Attributes:
        references: pictures used as a prompt; none means plain Stable Diffusion.
        image: mode "RGB", or "RGBA", whose transparency the result keeps; so is `start_image`.
        mask: white where `image` should change; of any size, stretched to the picture's. Only where the picture is
            extended it may be empty or missing.
        pose: a drawn skeleton or a photo, mode "RGB", or a skeleton as keypoints.
        width: of the result in pixels. For inpaint 0 is the picture's own size, and what the picture is extended by
            comes on top; so for `height`.
        seed: picture i has the seed `seed + i`.
        notes: sentences on how its inputs were understood, where that may not be what was meant. They change nothing
            and come back with the result.

    Raises:
        UserError: a value is not allowed, or the task lacks something; names the field, its value and what is allowed.
    """

    task: Task = option(title="The task")
    prompt: str = option("", title="The prompt", longest=_LONGEST_PROMPT, required=("mix",), doc="words")
    references: tuple[Reference, ...] = ()
    adapter: str = option(
        "base",
        title="The adapter",
        longest=_LONGEST_FILE_NAME,
        doc="base (overall look), fine (more detail) or another name that /models lists for the model",
    )
    scale: float = option(
        1.0,
        title="The scale",
        label="Strength of the picture",
        help="0: the picture is ignored. 1: it is followed closely. Above 1: it is exaggerated.",
        step=0.05,
        between=(0, 1.5),
        defaults={"mix": 0.6},
        doc="strength of the picture, {least:g} to {most:g}",
    )
    control_scale: float = option(
        1.0,
        title=Message("strength.pose"),
        label="Strength of the pose",
        help="0: the pose is ignored. 1: it is followed. Up to 2.",
        step=0.05,
        between=(0, 2),
        tasks=("pose",),
        doc="strength of the pose, {least:g} to {most:g}",
    )
    negative_prompt: str = option(
        "",
        title="The negative prompt",
        label="Not in the picture",
        longest=_LONGEST_PROMPT,
        doc="words for what should not be there",
    )
    count: int = option(
        1,
        title="The count",
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
        doc="of the first picture, the next ones count up; -1 draws one",
    )
    steps: int = option(
        0,
        title="The number of steps",
        label="Steps",
        help="More is slower and a little finer. 0: the model's own number.",
        step=1,
        between=(0, 100),
        doc="denoising steps, 0 for the model's own number",
    )
    guidance_scale: float = option(
        0,
        title="The guidance",
        label="Guidance",
        help="How strictly picture and words are obeyed, 1 to 20. 0: the model's own number.",
        step=0.5,
        between=(1, 20),
        or_zero=True,
        api="guidance",
        doc="{least:g} to {most:g}, 0 for the model's own",
    )
    width: int = _side("The width", label="Width")
    height: int = _side("The height", label="Height")
    model: str = option("toybox", title="The model", label="Model", longest=100, doc="a name from /models")
    start: float = option(
        0.0,
        title="The beginning of the picture's strength",
        label="From (0: the beginning)",
        step=0.05,
        between=(0, 1),
        doc="when the picture begins to count, as a share of the steps, {least:g} to {most:g}",
    )
    end: float = option(
        1.0,
        title="The end of the picture's strength",
        label="To (1: the end)",
        step=0.05,
        between=(0, 1),
        doc="when it ceases to count; later than start",
    )
    start_image: Image.Image | None = option(None, title="The start", tasks=("mix",), doc="a picture to start from")
    strength: float = option(
        0.75,
        title="The strength of the change",
        label="How much to change",
        help="Small: it stays nearly as it is. 1: nothing of it is left. Counts with a start picture only.",
        step=0.05,
        low=0.05,
        between=(0, 1),
        tasks=("mix",),
        beside="start_image",
        doc="how much of the start picture is drawn anew, up to {most:g}",
    )
    image: Image.Image | None = option(
        None, title="The picture", tasks=("inpaint",), required=("inpaint",), doc="the picture to change"
    )
    mask: Image.Image | None = option(
        None,
        title="The mask",
        tasks=("inpaint",),
        required=("inpaint",),
        doc="white is redrawn, or the hole in a copy of the picture; not needed where the picture is extended",
    )
    mask_invert: bool = option(
        False,
        title="The swapping of the mask",
        label="Swap: keep what I painted, redraw everything else",
        tasks=("inpaint",),
        doc="keep the white part of the mask and redraw the rest",
    )
    mask_grow: float = option(
        0,
        title="The growth of the mask",
        label="Grow or shrink the mask",
        help=(
            "Above 0 what you painted gets larger on all sides, below 0 smaller. In percent of the picture's "
            "longer side."
        ),
        step=0.5,
        between=(-20, 20),
        tasks=("inpaint",),
        doc="grow the mask, or shrink it below 0; percent of the longer side, {least:g} to {most:g}",
    )
    mask_feather: float = option(
        1,
        title="The softness of the mask",
        label="Softness of its edge",
        help=(
            "0: a hard cut. 1: as usual. More: the new part fades in over a wider rim. The rim always lies inside"
            " the mask."
        ),
        step=0.5,
        between=(0, 8),
        tasks=("inpaint",),
        doc="softness of the mask's edge, always inwards; {least:g} is hard, 1 as usual, up to {most:g}",
    )
    area: AreaName = option(
        "masked",
        title="The area",
        label="What the model looks at",
        help=(
            "Only the masked part: it and its surroundings are drawn, as finely as the model can. The whole "
            "picture: the model sees everything around, so that the new part suits it better, but draws it more "
            "coarsely."
        ),
        shown=("Only the masked part, at full resolution", "The whole picture"),
        tasks=("inpaint",),
        doc="what the model looks at, masked (that part only, at full resolution) or whole (the whole picture)",
    )
    mask_padding: float = option(
        25,
        title="The surroundings of the mask",
        label="Surroundings of the masked part",
        help=(
            "How much of what lies around it the model sees when it looks at the masked part only, in percent of "
            "that part's size. Less gives finer drawing, more a better match."
        ),
        step=5,
        between=(0, 200),
        tasks=("inpaint",),
        doc="surroundings seen of the masked part, percent of its size, {least:g} to {most:g}",
    )
    extend_left: float = _extension("The extension left", label="To the left", of="width")
    extend_right: float = _extension("The extension right", label="To the right", of="width")
    extend_up: float = _extension("The extension up", label="Upwards", of="height")
    extend_down: float = _extension("The extension down", label="Downwards", of="height")
    negative_reference: Image.Image | None = option(
        None,
        title="The picture to stay away from",
        label="Picture to stay away from",
        doc="a picture to stay away from; counts beside a reference only",
    )
    pose: Image.Image | PoseSheet | None = option(
        None,
        title="The pose",
        tasks=("pose",),
        required=("pose",),
        doc="a drawn skeleton, a photo of a person, or, with Toybox, a picture of a toy character",
    )
    control_start: float = option(
        0.0,
        title="The beginning of the pose's strength",
        label="From (0: the beginning)",
        step=0.05,
        between=(0, 1),
        tasks=("pose",),
        doc="when the pose begins to count, as a share of the steps, {least:g} to {most:g}",
    )
    control_end: float = option(
        1.0,
        title="The end of the pose's strength",
        label="To (1: the end)",
        step=0.05,
        between=(0, 1),
        tasks=("pose",),
        doc="when it ceases to count; later than control_start",
    )
    part: PartName = option(
        "all",
        title="What of the picture counts",
        label="What of it counts",
        help=(
            "Style: colours, material and mood. Layout: what is where, and how large. With one of them alone, "
            "your words say what is drawn."
        ),
        shown=("Everything", "Only its style", "Only its layout"),
        doc="what of the reference counts: all, style or layout; other than all for models that /models says can",
    )
    pose_hands: bool = option(
        False,
        title="The finding of hands",
        label="In a photo: fingers, too",
        tasks=("pose",),
        beside="pose",
        doc="whether to find fingers in a photo, too",
    )
    pose_face: bool = option(
        False,
        title="The finding of faces",
        label="In a photo: faces, too",
        tasks=("pose",),
        beside="pose",
        doc="whether to find the points of faces in a photo, too",
    )
    pose_detector: DetectorName = option(
        USUAL.name,
        title="The pose's detector",
        label="Who looks for people in a photo",
        help=" ".join(each.help for each in DETECTORS.values() if each is not USUAL),
        shown=tuple(each.title for each in DETECTORS.values()),
        tasks=("pose",),
        beside="pose",
        doc="what finds people in a photo: "
        + ", or ".join(each.name + " where it is installed" * bool(each.packages) for each in DETECTORS.values()),
    )
    notes: tuple[Message, ...] = ()

    @property
    def pose_options(self) -> PoseOptions:
        """How people are looked for in a photo that sets the pose."""
        return PoseOptions(detector=self.pose_detector, hands=self.pose_hands, face=self.pose_face)

    @property
    def extends(self) -> bool:
        """Whether the picture is continued on any side."""
        return any(getattr(self, side) > 0 for side in EXTENSIONS)

    def __post_init__(self) -> None:
        """Check every value, and that the task has what it needs."""
        check_options(self)
        self._check_range("start", "end", of=Message("strength.picture"))
        self._check_range("control_start", "control_end", of=Message("strength.pose"))
        self._check_references()
        self._check_task()

    def _check_range(self, start: str, end: str, *, of: Message) -> None:
        if getattr(self, start) >= getattr(self, end):
            raise UserError(
                "request.ends_before_it_begins",
                strength=of,
                start=f"{getattr(self, start):g}",
                end=f"{getattr(self, end):g}",
            ).blaming(end)

    def _check_references(self) -> None:
        object.__setattr__(self, "references", tuple(self.references))
        if len(self.references) > MOST_REFERENCES:
            raise UserError("request.too_many_references", count=len(self.references), most=MOST_REFERENCES)
        if not all(isinstance(reference, Reference) for reference in self.references):
            raise UserError("request.not_references")

    def _check_task(self) -> None:
        if self.task == "variation" and not self.references:
            raise UserError("request.no_reference")
        if self.task == "mix" and not (self.references or readable(self.prompt).strip()):
            raise UserError("request.nothing_to_draw")
        if self.task == "inpaint":
            if self.image is None:
                raise UserError("request.no_picture").blaming("image")
            if self.mask is None and not self.extends:
                raise UserError("request.no_mask")
        if self.task == "pose" and self.pose is None:
            raise UserError("request.no_pose")
