"""What a person asks for, validated when it is made and never changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from PIL import Image

from ipa_app.engine.checks import (
    checked_choice,
    checked_image,
    checked_number,
    checked_switch,
    checked_text,
    checked_whole,
)
from ipa_app.engine.seeds import LARGEST_SEED
from ipa_app.engine.wording import readable
from ipa_app.errors import UserError, blaming
from ipa_app.imaging.cropping import SquareMode
from ipa_app.pose.options import DetectorName, PoseOptions
from ipa_app.pose.sheet import PoseSheet

Task = Literal["variation", "mix", "inpaint", "pose"]
AreaName = Literal["masked", "whole"]
PartName = Literal["all", "style", "layout"]
RegionName = Literal["everywhere", "left", "right", "upper", "lower"]

LONGEST_PROMPT = 2000
LONGEST_FILE_NAME = 255
MOST_PICTURES = 8
MOST_REFERENCES = 4
MOST_STEPS = 100
MOST_GUIDANCE = 20
LARGEST_SIDE = 2048
DEFAULT_STRENGTH = 0.75
MOST_GROWTH = 20
MOST_FEATHER = 8
MOST_PADDING = 200
MOST_EXTENSION = 100

EXTENSIONS = ("extend_left", "extend_right", "extend_up", "extend_down")
MASK_FIELDS = ("mask_invert", "mask_grow", "mask_feather", "area", "mask_padding", *EXTENSIONS)
"""What an inpainting asks for beside its picture and its mask."""
PHOTO_FIELDS = ("pose_hands", "pose_face", "pose_detector")
"""How the pose in a photo is looked for."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A picture used as a prompt.

    Attributes:
        image: mode "RGB", of any size and shape.
        weight: how much it counts beside the others, 0 to 2.
        view: how it is made the square that the vision tower looks at: crop, pad, stretch or tiles (several).
        centre_x: where the crop's middle should be, 0 (left) to 1 (right).
        centre_y: likewise, 0 (top) to 1 (bottom).
        region: where in the new picture it counts: everywhere, or in one half of it.
    """

    image: Image.Image
    weight: float = 1.0
    view: SquareMode = "crop"
    centre_x: float = 0.5
    centre_y: float = 0.5
    region: RegionName = "everywhere"

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: one is not allowed.
        """
        _keep(self, "image", checked_image, "The reference")
        _keep(self, "weight", checked_number, "The reference's weight", least=0, most=2)
        _keep(self, "view", checked_choice, "The reference's view", choices=get_args(SquareMode))
        _keep(self, "region", checked_choice, "The reference's region", choices=get_args(RegionName))
        for name, word in (("centre_x", "across"), ("centre_y", "down")):
            _keep(self, name, checked_number, f"The crop's centre {word}", least=0, most=1)


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """One order of pictures. Numbers that are 0 mean the model's own default.

    Attributes:
        task: variation (of a reference), mix (of text and references), inpaint or pose.
        model: a name of the catalogue.
        prompt: what to draw; may be empty.
        negative_prompt: what not to draw.
        references: pictures used as a prompt; none means plain Stable Diffusion.
        adapter: how references are read: base (the gist), fine (the details), or another one that the model has.
        scale: how strongly references count, 0 to 1.5.
        count: how many pictures, 1 to 8; picture i has the seed `seed + i`.
        seed: -1 for a random one.
        steps: denoising steps, 1 to 100.
        guidance_scale: 1 (no guidance) to 20.
        width: of the result in pixels, a multiple of 8. For inpaint 0 is the picture's own size, and what the picture
            is extended by comes on top.
        height: likewise.
        image: inpaint only: the picture to change, mode "RGB", or "RGBA", whose transparency the result keeps.
        mask: inpaint only: white where it should change; of any size, stretched to the picture's. Only where the
            picture is extended it may be empty or missing.
        pose: pose only: a drawn skeleton or a photo, or a skeleton as keypoints.
        pose_hands: in a photo, whether to find fingers too.
        pose_face: in a photo, whether to find the points of faces too.
        pose_detector: what finds people in a photo: openpose, or dwpose where it is installed.
        control_scale: how strictly the pose is kept, 0 to 2.
        start: when references begin to count, as a share of the steps, 0 to 1.
        end: when they cease to; later than `start`.
        control_start: pose only: when the pose begins to count, likewise.
        control_end: pose only: when it ceases to; later than `control_start`.
        negative_reference: a picture to stay away from, as the negative prompt says it in words. Counts beside
            references only, and where there is guidance.
        start_image: mix only: the picture to start from instead of noise, of a mode as `image`.
        strength: how much of it is drawn anew: 0 (nothing, which is refused) to 1 (all).
        mask_invert: inpaint only, as all that follow: change what is not masked, and keep what is.
        mask_grow: by how much the masked part grows, or shrinks below 0: -20 to 20 percent of the picture's longer
            side.
        mask_feather: how softly the new part begins, inwards from the mask's edge: 0 is hard, 1 is a 64th of what the
            model sees, up to 8 of them.
        area: what the model sees: the masked part, or the whole picture.
        mask_padding: surroundings that it sees of the masked part, 0 to 200 percent of that part's longer side.
        extend_left: by how much the picture is continued there, 0 to 100 percent of its width.
        extend_right: likewise.
        extend_up: likewise, of its height.
        extend_down: likewise.
        part: what of the references counts: all of them, or only their style or their layout, where the model can tell
            these apart.
        notes: sentences on how its inputs were understood, where that may not be what was meant. They change nothing
            and come back with the result.
    """

    task: Task
    model: str = "toybox"
    prompt: str = ""
    negative_prompt: str = ""
    references: tuple[Reference, ...] = ()
    adapter: str = "base"
    scale: float = 1.0
    count: int = 1
    seed: int = -1
    steps: int = 0
    guidance_scale: float = 0.0
    width: int = 0
    height: int = 0
    image: Image.Image | None = None
    mask: Image.Image | None = None
    pose: Image.Image | PoseSheet | None = None
    pose_hands: bool = False
    pose_face: bool = False
    pose_detector: DetectorName = "openpose"
    control_scale: float = 1.0
    start: float = 0.0
    end: float = 1.0
    control_start: float = 0.0
    control_end: float = 1.0
    negative_reference: Image.Image | None = None
    start_image: Image.Image | None = None
    strength: float = DEFAULT_STRENGTH
    mask_invert: bool = False
    mask_grow: float = 0.0
    mask_feather: float = 1.0
    area: AreaName = "masked"
    mask_padding: float = 25.0
    extend_left: float = 0.0
    extend_right: float = 0.0
    extend_up: float = 0.0
    extend_down: float = 0.0
    part: PartName = "all"
    notes: tuple[str, ...] = ()

    @property
    def pose_options(self) -> PoseOptions:
        """How people are looked for in a photo that sets the pose."""
        return PoseOptions(detector=self.pose_detector, hands=self.pose_hands, face=self.pose_face)

    @property
    def extends(self) -> bool:
        """Whether the picture is continued on any side."""
        return any(getattr(self, side) > 0 for side in EXTENSIONS)

    def __post_init__(self) -> None:
        """Check every value, and that the task has what it needs.

        Raises:
            UserError: names the field, its value and what is allowed.
        """
        _keep(self, "task", checked_choice, "The task", choices=get_args(Task))
        _keep(self, "part", checked_choice, "What of the picture counts", choices=get_args(PartName))
        _keep(self, "model", checked_text, "The model", longest=100)
        _keep(self, "adapter", checked_text, "The adapter", longest=LONGEST_FILE_NAME)
        _keep(self, "prompt", checked_text, "The prompt", longest=LONGEST_PROMPT)
        _keep(self, "negative_prompt", checked_text, "The negative prompt", longest=LONGEST_PROMPT)
        _keep(self, "scale", checked_number, "The scale", least=0, most=1.5)
        _keep(self, "count", checked_whole, "The count", least=1, most=MOST_PICTURES)
        _keep(self, "seed", checked_whole, "The seed", least=-1, most=LARGEST_SEED)
        _keep(self, "steps", checked_whole, "The number of steps", least=0, most=MOST_STEPS)
        _keep(self, "guidance_scale", checked_number, "The guidance", least=1, most=MOST_GUIDANCE, or_zero=True)
        for side in ("width", "height"):
            _keep(self, side, checked_whole, f"The {side}", least=8, most=LARGEST_SIDE, or_zero=True, multiple=8)
        _keep(self, "control_scale", checked_number, "The pose's strength", least=0, most=2)
        self._check_range("start", "end", of="The picture's strength")
        self._check_range("control_start", "control_end", of="The pose's strength")
        _keep(self, "strength", checked_number, "The strength of the change", least=0, most=1)
        for name, words in (("negative_reference", "The picture to stay away from"), ("start_image", "The start")):
            if getattr(self, name) is not None:
                _keep(self, name, checked_image, words)
        self._check_mask_fields()
        _keep(self, "pose_hands", checked_switch, "The finding of hands")
        _keep(self, "pose_face", checked_switch, "The finding of faces")
        _keep(self, "pose_detector", checked_choice, "The pose's detector", choices=get_args(DetectorName))
        self._check_references()
        self._check_task()

    def _check_range(self, start: str, end: str, *, of: str) -> None:
        for name, word in ((start, "beginning"), (end, "end")):
            _keep(self, name, checked_number, f"The {word} of {of.lower()}", least=0, most=1)
        if getattr(self, start) >= getattr(self, end):
            raise UserError(
                f"{of} begins at {getattr(self, start):g} of the steps and ends at {getattr(self, end):g}; it must "
                "end later than it begins.",
                field=end,
            )

    def _check_mask_fields(self) -> None:
        _keep(self, "mask_invert", checked_switch, "The swapping of the mask")
        _keep(self, "area", checked_choice, "The area", choices=get_args(AreaName))
        _keep(self, "mask_grow", checked_number, "The growth of the mask", least=-MOST_GROWTH, most=MOST_GROWTH)
        _keep(self, "mask_feather", checked_number, "The softness of the mask", least=0, most=MOST_FEATHER)
        _keep(self, "mask_padding", checked_number, "The surroundings of the mask", least=0, most=MOST_PADDING)
        for side in EXTENSIONS:
            name = f"The extension {side.removeprefix('extend_')}"
            _keep(self, side, checked_number, name, least=0, most=MOST_EXTENSION)

    def _check_references(self) -> None:
        object.__setattr__(self, "references", tuple(self.references))
        if len(self.references) > MOST_REFERENCES:
            raise UserError(f"There are {len(self.references)} references; there may be at most {MOST_REFERENCES}.")
        if not all(isinstance(reference, Reference) for reference in self.references):
            raise UserError("The references must be pictures, each with a weight.")

    def _check_task(self) -> None:
        if self.task == "variation" and not self.references:
            raise UserError("There is no reference: please add the picture that you want variations of.")
        if self.task == "mix" and not (self.references or readable(self.prompt).strip()):
            raise UserError("There is nothing to draw: please write a prompt, add a reference, or both.")
        if self.task == "inpaint":
            if self.image is None:
                raise UserError("There is no picture: please add the one that you want to change.", field="image")
            _keep(self, "image", checked_image, "The picture")
            if self.mask is not None:
                _keep(self, "mask", checked_image, "The mask")
            elif not self.extends:
                raise UserError("There is no mask: please paint over the part that should change (white = repaint).")
        if self.task == "pose":
            if self.pose is None:
                raise UserError("There is no pose: please choose one, or add a skeleton or a photo.")
            if not isinstance(self.pose, PoseSheet):
                _keep(self, "pose", checked_image, "The pose")


def _keep(instance: object, field: str, check: Callable[..., object], title: str, **bounds: Any) -> None:
    """Check a field and keep its value as the check gives it (4 for 4.0), in a frozen instance that is being made."""
    with blaming(field):
        object.__setattr__(instance, field, check(title, getattr(instance, field), **bounds))
