"""Mix, text and image: the picture says who, the words say where. Without a picture it is text-to-image."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from ipa_app.engine.tasks.task import OwnOptions, Task, TaskInputs, Tools
from ipa_app.engine.wording import readable
from ipa_app.errors import UserError
from ipa_app.imaging.cropping import keeps_shape
from ipa_app.imaging.transparency import in_colour, note_of_transparency, off_white, on_white, opacity_of
from ipa_app.messages import Message
from ipa_app.models.prompt_weights import without_weights
from ipa_app.options import option

if TYPE_CHECKING:
    from ipa_app.engine.batch import BatchItem
    from ipa_app.engine.plan import Plan
    from ipa_app.engine.requests import GenerateRequest
    from ipa_app.models.families import PipelineTask


@dataclass(frozen=True, kw_only=True)
class MixOptions(OwnOptions):
    """The options that only this task has.

    Attributes:
        start_image: mode "RGB", or "RGBA", whose transparency the result keeps.
    """

    start_image: Image.Image | None = option(None, title="The start picture", doc="a picture to start from")
    strength: float = option(
        0.75,
        label="How much to change",
        help="Small: it stays nearly as it is. 1: nothing of it is left. Only counts with a start picture.",
        step=0.05,
        low=0.05,
        between=(0, 1),
        excluded=0,
        beside="start_image",
        doc="how much of the start picture is redrawn, above {least:g} to {most:g}",
    )


class Mix(Task):
    """Words and a picture, drawn from noise or over a start picture."""

    name = "mix"
    options = MixOptions
    required = ("prompt",)
    defaults = MappingProxyType({"scale": 0.6})

    def check(self, request: GenerateRequest) -> None:
        """Check that there is something to draw."""
        if self.needs_references(request) and not request.references:
            raise UserError("request.nothing_to_draw")

    def needs_references(self, request: GenerateRequest) -> bool:
        """Whether no words say what to draw."""
        return not (request.style or without_weights(readable(request.prompt)).strip())

    def pipeline(self, plan: Plan) -> PipelineTask:
        """Return image-to-image if there is a start picture, or else text-to-image."""
        return "text_to_image" if plan.request.start_image is None else "image_to_image"

    def drawn_steps(self, plan: Plan) -> int:
        """Return how many steps are carried out; with a start picture only the last ones, counted as in diffusers."""
        if plan.request.start_image is None:
            return plan.steps
        return min(int(plan.steps * plan.request.strength), plan.steps)

    def check_plan(self, plan: Plan) -> None:
        """Check that at least one step is drawn over the start picture."""
        if plan.drawn_steps == 0:
            raise UserError("request.changes_nothing", strength=f"{plan.request.strength:g}", steps=plan.steps).blaming(
                "strength"
            )

    def batch_key(self, plan: Plan) -> Hashable:
        """Return the strength if there is a start picture."""
        return None if plan.request.start_image is None else plan.request.strength

    def prepare(self, plan: Plan, tools: Tools) -> TaskInputs:
        """Resize the start picture to the drawn size; it is cropped about its centre to fit the shape."""
        del tools
        if plan.request.start_image is None:
            return TaskInputs()
        start = ImageOps.fit(in_colour(plan.request.start_image), plan.canvas_size, Image.Resampling.LANCZOS)
        notes = _note_of_crop(plan.request.start_image.size, plan.canvas_size)
        opacity = opacity_of(start)
        if opacity is None:
            return TaskInputs(image=on_white(start), notes=notes)
        return TaskInputs(
            image=on_white(start),
            finish=lambda drawn: off_white(drawn, opacity),
            notes=(*notes, note_of_transparency(Message("upload.start_image"))),
        )

    def pipeline_inputs(self, plan: Plan, items: Sequence[BatchItem]) -> dict[str, Any]:
        """Return the start pictures, to which diffusers adds noise."""
        if plan.request.start_image is None:
            return {}
        return {"image": [item.image for item in items], "strength": plan.request.strength}


def _note_of_crop(before: tuple[int, int], canvas: tuple[int, int]) -> tuple[Message, ...]:
    """Return a message if a start picture's shape is noticeably different from that of the canvas."""
    if keeps_shape(before, canvas):
        return ()
    width, height = before
    seen = min(width, round(height * canvas[0] / canvas[1])), min(height, round(width * canvas[1] / canvas[0]))
    return (Message("picture.start_cropped", width=seen[0], height=seen[1], all_width=width, all_height=height),)
