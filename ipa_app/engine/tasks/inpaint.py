"""Inpainting at any size: cut out what the model should see, draw it at the model's size, paste the masked pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from ipa_app.engine.references import Reference
from ipa_app.engine.tasks.area import Area, margins, mark_area, swapped
from ipa_app.engine.tasks.task import LARGEST_SIDE, OwnOptions, Task, TaskInputs, Tools
from ipa_app.engine.wording import readable
from ipa_app.errors import UserError
from ipa_app.imaging.cropping import scale_window
from ipa_app.imaging.masks import blank_masked, cover_cells, fill_masked, fit_mask, paste_back
from ipa_app.imaging.packing import LONGEST_SIDE, packed_size
from ipa_app.messages import Message
from ipa_app.models.prompt_weights import without_weights
from ipa_app.options import Option, option

if TYPE_CHECKING:
    from ipa_app.engine.batch import BatchItem
    from ipa_app.engine.plan import Plan
    from ipa_app.engine.requests import GenerateRequest
    from ipa_app.models.entry import ControlNetEntry, ModelEntry
    from ipa_app.models.families import PipelineTask

AreaName = Literal["masked", "whole"]

EXTENSIONS = ("extend_left", "extend_right", "extend_up", "extend_down")

# The effect of both is measured by `python -m bench.quality --only hole` and documented in docs/toybox.md.
_WEIGHT_OF_SURROUNDINGS = 1.3
_GUIDANCE_BY_SURROUNDINGS = 1.5


def _extension(title: str, *, label: str, of: str) -> Any:
    """Declare the option for extending the picture in a direction, in percent of its width or height."""
    return option(
        0,
        title=title,
        label=label,
        step=5,
        between=(0, 100),
        doc=f"continue the picture there by {{least:g}} to {{most:g}} percent of its {of}",
    )


@dataclass(frozen=True, kw_only=True)
class InpaintOptions(OwnOptions):
    """The options that only this task has.

    Attributes:
        image: mode "RGB", or "RGBA", whose transparency the result keeps.
        mask: white where `image` should change: mode "L" of its size, 0 or 255; any other picture is converted to that.
            It may be empty or missing only if the picture is extended.
    """

    image: Image.Image | None = option(None, title="The picture", doc="the picture to change")
    mask: Image.Image | None = option(
        None,
        title="The mask",
        kind="mask",
        doc="white is redrawn, or the hole in a copy of the picture; not needed where the picture is extended",
    )
    mask_invert: bool = option(
        False,
        title="“Swap”",
        label="Swap: keep what I painted, redraw everything else",
        doc="keep the white part of the mask and redraw the rest",
    )
    mask_grow: float = option(
        0,
        label="Grow or shrink the mask",
        help=(
            "Above 0, what you painted grows on all sides; below 0, it shrinks. In percent of the picture's "
            "longer side."
        ),
        step=0.5,
        between=(-20, 20),
        doc="grow the mask, or shrink it below 0; percent of the longer side, {least:g} to {most:g}",
    )
    mask_feather: float = option(
        1,
        label="Softness of its edge",
        help=(
            "0: a hard edge. 1: as usual. More: the new part fades in over a wider edge, which always lies inside "
            "the mask."
        ),
        step=0.5,
        between=(0, 8),
        doc="softness of the mask's edge, always inwards; {least:g} is hard, 1 as usual, up to {most:g}",
    )
    area: AreaName = option(
        "masked",
        label="What the model looks at",
        help=(
            "Only the masked part: it and its surroundings are drawn as finely as the model can. The whole "
            "picture: the model sees everything around it, so the new part fits in better but is drawn more coarsely."
        ),
        shown=("Only the masked part, at full resolution", "The whole picture"),
        doc="what the model looks at, masked (that part only, at full resolution) or whole (the whole picture)",
    )
    mask_padding: float = option(
        25,
        label="Surroundings of the masked part",
        help=(
            "How much of the surroundings the model sees when it looks only at the masked part, in percent of that "
            "part's size. Less gives finer detail, more gives a better match."
        ),
        step=5,
        between=(0, 200),
        doc="surroundings seen of the masked part, percent of its size, {least:g} to {most:g}",
    )
    extend_left: float = _extension("The extension to the left", label="To the left", of="width")
    extend_right: float = _extension("The extension to the right", label="To the right", of="width")
    extend_up: float = _extension("The extension upwards", label="Upwards", of="height")
    extend_down: float = _extension("The extension downwards", label="Downwards", of="height")

    surroundings: bool = option(
        True,
        label="Match the surroundings",
        help=(
            "Lines and colours continue across the edge, with models that can do this. If there is no reference, no "
            "words and no style, what is around the painted part also serves as the reference, and “Strength of the "
            "picture” applies to it."
        ),
        doc=(
            "use the model's ControlNet for inpainting, where it has one, and, if there is no reference, no prompt and "
            "no style, what is around the mask as the reference"
        ),
    )

    @property
    def extends(self) -> bool:
        """Whether the picture is extended on any side."""
        return any(getattr(self, side) > 0 for side in EXTENSIONS)


class Inpaint(Task):
    """Redraws part of a picture, or extends a picture beyond its edges."""

    name = "inpaint"
    options = InpaintOptions
    required = ("image", "mask")
    may_be_none = ("mask",)

    def check(self, request: GenerateRequest) -> None:
        """Check that there are a picture and a mask."""
        if request.image is None:
            raise UserError("request.no_picture").blaming("image")
        if request.mask is None and not request.extends:
            raise UserError("request.no_mask")

    def normalized(self, request: GenerateRequest) -> Mapping[str, Any]:
        """Return the mask at the picture's size with hard edges; a mask that already is so stays the same picture."""
        if request.image is None or request.mask is None:
            return {}
        return {"mask": fit_mask(request.mask, request.image.size, may_be_empty=True)}

    def result_size(self, request: GenerateRequest, entry: ModelEntry) -> tuple[int, int]:
        """Return the requested size, or else the picture's own; before any extension."""
        if request.image is None:
            return super().result_size(request, entry)
        size = (request.width or request.image.width, request.height or request.image.height)
        margins(request, size)  # raises if the result would be too large
        return size

    def canvas_size(self, plan: Plan) -> tuple[int, int]:
        """Return the model's own size, at which all or part of a picture is drawn."""
        return plan.entry.width, plan.entry.height

    def pipeline(self, plan: Plan) -> PipelineTask:
        """Return the pipeline for inpainting, with a ControlNet or without."""
        controlnet = self.controlnet(plan)
        return "inpaint" if controlnet is None else controlnet.pipeline_task

    def controlnet(self, plan: Plan) -> ControlNetEntry | None:
        """Return the model's ControlNet for inpainting, if it has one, which sees the surroundings of the mask."""
        return plan.entry.find_controlnet("inpaint") if plan.request.surroundings else None

    def makes_reference(self, request: GenerateRequest, entry: ModelEntry) -> bool:
        """Whether the surroundings of the mask serve as the reference, because nothing else says what to draw."""
        if not request.surroundings or request.references or request.style or request.scale == 0:
            return False
        words = without_weights(readable(request.prompt)).strip()
        return not words and _has_surroundings(request) and entry.find_adapter(request.adapter) is not None

    def guidance_scale(self, request: GenerateRequest, entry: ModelEntry) -> float:
        """Return low guidance if the surroundings are the reference: high guidance exaggerates, and spoils the join."""
        usual = super().guidance_scale(request, entry)
        return min(usual, _GUIDANCE_BY_SURROUNDINGS) if self.makes_reference(request, entry) else usual

    def prompt(self, request: GenerateRequest, entry: ModelEntry) -> str:
        """Return the model's own prompt for surroundings if nothing says what to draw.

        An image prompt reaches only the UNet; without words a ControlNet cannot tell whether to fill a hole with
        somebody or to continue the surroundings.
        """
        return entry.surroundings_prompt if self.makes_reference(request, entry) else super().prompt(request, entry)

    def is_noted(self, option: Option, plan: Plan) -> bool:
        """Return False for `surroundings` if it is on but has no effect."""
        if option.name != "surroundings" or not plan.request.surroundings:
            return True
        return plan.makes_reference or self.controlnet(plan) is not None

    def prepare(self, plan: Plan, tools: Tools) -> TaskInputs:
        """Cut out what the model should see."""
        canvas = make_canvas(plan, cell=tools.model.latent_cell)
        references, notes = (), canvas.area.notes
        if canvas.surroundings is not None:
            references = (Reference(image=canvas.surroundings, weight=_WEIGHT_OF_SURROUNDINGS, view="pad"),)
            notes = (*notes, Message("inpaint.from_surroundings"))
        if plan.request.surroundings and self.controlnet(plan) is None:
            # Mention a ControlNet that was meant for this and cannot be used; a model may also have none.
            notes = (*notes, *filter(None, [plan.entry.controlnets_left_out.get("inpaint")]))
        return TaskInputs(
            image=canvas.view,
            mask=canvas.view_mask,
            references=references,
            picture_size=canvas.area.picture.size,
            window=canvas.area.window,
            finish=canvas.finish,
            notes=notes,
        )

    def pipeline_inputs(self, plan: Plan, items: Sequence[BatchItem]) -> dict[str, Any]:
        """Return the pictures and their masks, and a ControlNet's inputs made from them."""
        pictures: list[Any] = [(item.image, item.mask) for item in items]
        images, masks = zip(*pictures, strict=True)
        # Strength 1 starts from pure noise: what was there before must not show through.
        inputs = {"image": list(images), "mask_image": list(masks), "strength": 1.0}
        if self.controlnet(plan) is None:
            return inputs
        seen = [blank_masked(image, mask) for image, mask in pictures]
        return {**inputs, "control_image": seen, "controlnet_conditioning_scale": 1.0}

    def restored(
        self, metadata: Mapping[str, Any], pictures: Mapping[str, Image.Image], *, of: type[GenerateRequest]
    ) -> dict[str, Any]:
        """Return the picture, its mask, and the requested size: 0, the picture's own, if none was requested.

        A picture that was too large to be stored in full comes back smaller; its own size is then the best available.
        Both sides come back as they were requested or neither: one alone would squeeze the picture.
        """
        values = super().restored(metadata, pictures, of=of)
        own = values["image"].size if "image" in values else (0, 0)
        noted = (metadata.get("width", 0), metadata.get("height", 0))
        asked = (0, 0) if _is_own_size(noted, own) else noted
        sides = zip(("width", "height"), asked, own, strict=True)
        return values | {side: 0 if value == pixels else value for side, value, pixels in sides}


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """The model's inputs for inpainting.

    Attributes:
        area: the part of the picture that is redrawn.
        view: its window at the model's size, with edges continued outwards.
        view_mask: mode "L", the cells of the latent grid that hold any masked pixel.
        surroundings: mode "RGB", the surroundings of the mask within `area.box`, continued into it; None if they do not
            serve as the reference.
    """

    area: Area
    view: Image.Image
    view_mask: Image.Image
    surroundings: Image.Image | None = None

    def finish(self, drawn: Image.Image) -> Image.Image:
        """Put what was drawn for the window into the picture; pixels outside the mask stay byte-identical."""
        area = self.area
        patch = area.to_box(drawn, Image.Resampling.LANCZOS)
        patch = Image.composite(patch, area.picture.crop(area.box), area.box_feather_mask)
        return area.with_transparency(paste_back(area.picture, patch, area.mask, area.box))


def make_canvas(plan: Plan, *, cell: int) -> Canvas:
    """Prepare an inpainting request for the model.

    If the surroundings are the reference, they also replace what is under the mask, which then has no effect.

    Args:
        plan: of an inpainting.
        cell: side of a latent cell in pixels at the drawn size.

    Raises:
        UserError: nothing is masked.
    """
    size, area = plan.canvas_size, mark_area(plan)
    filled = _filled(plan, area)
    return Canvas(
        area=area,
        view=scale_window(filled or area.picture, area.window, size, Image.Resampling.LANCZOS),
        view_mask=cover_cells(area.mask, size, cell=cell, window=area.window),
        surroundings=filled and filled.crop(area.box),
    )


def _filled(plan: Plan, area: Area) -> Image.Image | None:
    """Return the picture with its surroundings continued into the mask; None if they are not the reference."""
    # Growing the mask may have left no surroundings.
    if not plan.makes_reference or area.mask.getextrema()[0]:
        return None
    return fill_masked(area.picture, area.mask)


def _is_own_size(noted: tuple[Any, Any], own: tuple[int, int]) -> bool:
    """Return whether a noted size, of any content, is the picture's own or cannot have been requested.

    Args:
        noted: (width, height) of the result before it was extended.
        own: (width, height) of the picture as it came back.
    """
    if not all(isinstance(value, int) for value in noted):
        return True
    asked = [value for value, pixels in zip(noted, own, strict=True) if value != pixels]
    return packed_size(noted, longest=LONGEST_SIDE["image"]) == own or any(
        value > LARGEST_SIDE or value % 8 for value in asked
    )


def _has_surroundings(request: GenerateRequest) -> bool:
    """Whether anything of the picture stays, before the mask grows."""
    return request.mask is None or swapped(request.mask, request).getextrema()[0] == 0
