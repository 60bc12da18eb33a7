"""Inpainting at any size: cut out what the model shall see, draw it at the model's size, put back the masked pixels."""

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

# What comes of both is counted by `python -m bench.quality --only hole`, and written down in docs/toybox.md.
_WEIGHT_OF_SURROUNDINGS = 1.3
_GUIDANCE_BY_SURROUNDINGS = 1.5


def _extension(title: str, *, label: str, of: str) -> Any:
    """Declare by how much the picture is continued in a direction, in percent of its width or height."""
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
    """What only this task has.

    Attributes:
        image: mode "RGB", or "RGBA", whose transparency the result keeps.
        mask: white where `image` should change: mode "L" of its size, 0 or 255, to which any other picture is brought.
            Only where the picture is extended it may be empty or missing.
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
        label="Go by what is around it",
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
        """Whether the picture is continued on any side."""
        return any(getattr(self, side) > 0 for side in EXTENSIONS)


class Inpaint(Task):
    """Part of a picture drawn anew, or a picture continued beyond its edges."""

    name = "inpaint"
    options = InpaintOptions
    required = ("image", "mask")
    may_be_none = ("mask",)

    def check(self, request: GenerateRequest) -> None:
        """Make sure that there are a picture and a mask."""
        if request.image is None:
            raise UserError("request.no_picture").blaming("image")
        if request.mask is None and not request.extends:
            raise UserError("request.no_mask")

    def normalized(self, request: GenerateRequest) -> Mapping[str, Any]:
        """Bring the mask to the picture's size, hard; a mask that is so already stays the same picture."""
        if request.image is None or request.mask is None:
            return {}
        return {"mask": fit_mask(request.mask, request.image.size, may_be_empty=True)}

    def result_size(self, request: GenerateRequest, entry: ModelEntry) -> tuple[int, int]:
        """Return the picture's own size, where no other is asked for; of an extended picture, before that."""
        if request.image is None:
            return super().result_size(request, entry)
        size = (request.width or request.image.width, request.height or request.image.height)
        margins(request, size)  # which refuses what would get too large
        return size

    def canvas_size(self, plan: Plan) -> tuple[int, int]:
        """Return the model's own size, at which all or part of a picture is drawn."""
        return plan.entry.width, plan.entry.height

    def pipeline(self, plan: Plan) -> PipelineTask:
        """Return the pipeline for inpainting, with a ControlNet or without."""
        controlnet = self.controlnet(plan)
        return "inpaint" if controlnet is None else controlnet.pipeline_task

    def controlnet(self, plan: Plan) -> ControlNetEntry | None:
        """Return the one for inpainting, which sees what is around the mask, where the model has one."""
        return plan.entry.find_controlnet("inpaint") if plan.request.surroundings else None

    def makes_reference(self, request: GenerateRequest, entry: ModelEntry) -> bool:
        """Return whether what is around the mask serves as the reference: where nothing says what to draw."""
        if not request.surroundings or request.references or request.style or request.scale == 0:
            return False
        words = without_weights(readable(request.prompt)).strip()
        return not words and _has_surroundings(request) and entry.find_adapter(request.adapter) is not None

    def guidance_scale(self, request: GenerateRequest, entry: ModelEntry) -> float:
        """Return little guidance for what is around the mask: it exaggerates, and what is drawn has to join on."""
        usual = super().guidance_scale(request, entry)
        return min(usual, _GUIDANCE_BY_SURROUNDINGS) if self.makes_reference(request, entry) else usual

    def prompt(self, request: GenerateRequest, entry: ModelEntry) -> str:
        """Return the model's own words for what is around the mask, where nothing says what to draw.

        An image prompt reaches the UNet alone; a ControlNet that reads no words cannot tell whether a hole is to be
        filled with somebody or to be left to what is around it.
        """
        return entry.surroundings_prompt if self.makes_reference(request, entry) else super().prompt(request, entry)

    def is_noted(self, option: Option, plan: Plan) -> bool:
        """Return False for surroundings that could serve and need not."""
        if option.name != "surroundings" or not plan.request.surroundings:
            return True
        return plan.makes_reference or self.controlnet(plan) is not None

    def prepare(self, plan: Plan, tools: Tools) -> TaskInputs:
        """Cut out what the model shall see."""
        canvas = make_canvas(plan, cell=tools.model.latent_cell)
        references, notes = (), canvas.area.notes
        if canvas.surroundings is not None:
            references = (Reference(image=canvas.surroundings, weight=_WEIGHT_OF_SURROUNDINGS, view="pad"),)
            notes = (*notes, Message("inpaint.from_surroundings"))
        if plan.request.surroundings and self.controlnet(plan) is None:
            # One that was meant for this and cannot be used is named; a model without any is none the worse.
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
        """Return the pictures and their masks, and what a ControlNet sees of them."""
        pictures: list[Any] = [(item.image, item.mask) for item in items]
        images, masks = zip(*pictures, strict=True)
        # Strength 1 starts from pure noise: what was there before shall not shine through.
        inputs = {"image": list(images), "mask_image": list(masks), "strength": 1.0}
        if self.controlnet(plan) is None:
            return inputs
        seen = [blank_masked(image, mask) for image, mask in pictures]
        return {**inputs, "control_image": seen, "controlnet_conditioning_scale": 1.0}

    def restored(
        self, metadata: Mapping[str, Any], pictures: Mapping[str, Image.Image], *, of: type[GenerateRequest]
    ) -> dict[str, Any]:
        """Return the picture, its mask, and the size that was asked for: 0, the picture's own, where it was none.

        A picture that was too large to be kept whole comes back smaller; then its own size is as good as can be had.
        """
        values = super().restored(metadata, pictures, of=of)
        own = values["image"].size if "image" in values else (0, 0)
        for side, pixels in zip(("width", "height"), own, strict=True):
            value = metadata.get(side, 0)
            could_be_asked = isinstance(value, int) and value <= LARGEST_SIDE and value % 8 == 0
            values[side] = value if could_be_asked and value != pixels else 0
        return values


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """What is painted on.

    Attributes:
        area: what is redrawn of the picture.
        view: its window at the model's size, edges continued outwards.
        view_mask: mode "L", the cells of the latent grid that hold any masked pixel.
        surroundings: mode "RGB", what is around the mask within `area.box`, continued into it, where that serves as the
            reference.
    """

    area: Area
    view: Image.Image
    view_mask: Image.Image
    surroundings: Image.Image | None = None

    def finish(self, drawn: Image.Image) -> Image.Image:
        """Put what was drawn for the window into the picture; pixels outside the mask keep their bytes."""
        area = self.area
        patch = area.to_box(drawn, Image.Resampling.LANCZOS)
        patch = Image.composite(patch, area.picture.crop(area.box), area.box_feather_mask)
        return area.with_transparency(paste_back(area.picture, patch, area.mask, area.box))


def make_canvas(plan: Plan, *, cell: int) -> Canvas:
    """Prepare an inpainting request for the model.

    Where the surroundings are the reference, they are what is seen below the mask, too: nothing that is there counts.

    Args:
        plan: of an inpainting.
        cell: pixels of the drawn size per latent cell, each way.

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
    """Return the picture with what is around the mask continued into it; None where that is no reference."""
    # Growing may have left nothing around it.
    if not plan.makes_reference or area.mask.getextrema()[0]:
        return None
    return fill_masked(area.picture, area.mask)


def _has_surroundings(request: GenerateRequest) -> bool:
    """Whether anything of the picture stays, before the mask grows."""
    return request.mask is None or swapped(request.mask, request).getextrema()[0] == 0
