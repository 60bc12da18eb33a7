"""What a task is: everything in which the ways to ask for a picture differ.

Whatever carries out a request, or offers it on the page and to programs, asks its task and names none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from PIL import Image

from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.hashing import picture_hash
from ipa_app.options import Option, check, options

if TYPE_CHECKING:
    from ipa_app.engine.batch import BatchItem
    from ipa_app.engine.plan import Plan
    from ipa_app.engine.references import Reference
    from ipa_app.engine.requests import GenerateRequest
    from ipa_app.engine.results import Progress
    from ipa_app.imaging.cropping import Box
    from ipa_app.models.entry import ControlNetEntry, ModelEntry
    from ipa_app.models.families import PipelineTask
    from ipa_app.models.loaded import LoadedModel
    from ipa_app.pose.detect import PoseDetector

LARGEST_SIDE = 2048
"""Of a result, in pixels."""


@dataclass(frozen=True, kw_only=True)
class OwnOptions:
    """What only one task has, unless others borrow it: the base of each task's own options."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What a task may use to prepare a request.

    Attributes:
        model: that will draw.
        detector: finds people in photos.
        emit: told how far it is.
        stop: set when what goes on in another thread is for nobody any more; see `meanwhile`.
        check_cancelled: raises then.
        meanwhile: called several times a second while something long goes on in another thread, so that others are
            drawn in this one; raises then, too.
    """

    model: LoadedModel
    detector: PoseDetector
    emit: Callable[[Progress], None]
    stop: threading.Event
    check_cancelled: Callable[[], None]
    meanwhile: Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class TaskInputs:
    """What a task has made of a request for the model; the same for every picture of the request.

    Attributes:
        image: the picture to change or to start from, mode "RGB", of the size that is drawn.
        mask: mode "L" of the same size, white where the picture changes.
        control_image: what a ControlNet sees, mode "RGB", of the size that is drawn; shown before it is used.
        references: that the task has made where none are given; see `Task.makes_reference`.
        picture_size: (width, height) of the finished picture, where a part of it is drawn only.
        window: (left, top, right, bottom) of that part, in the finished picture's pixels; may reach over its edges.
        finish: makes the finished picture of what was drawn, mode "RGB".
        notes: sentences to be shown with the pictures.
    """

    image: Image.Image | None = None
    mask: Image.Image | None = None
    control_image: Image.Image | None = None
    references: tuple[Reference, ...] = ()
    picture_size: tuple[int, int] | None = None
    window: Box | None = None
    finish: Callable[[Image.Image], Image.Image] = field(default=lambda drawn: drawn)
    notes: tuple[Message, ...] = ()


class Task:
    """A way to ask for pictures. It holds no state, so that there is one of each, in `TASKS`.

    By itself it is plain text-to-image with references.

    Attributes:
        name: what requests, files and programs call it.
        options: the dataclass of what only this task has; a request has the fields of them all.
        borrowed: what it has of other tasks' options, by the names that programs know them by.
        required: the options that it must be given, by those names; so are the next two.
        may_be_none: those of them that may be None where something else is given.
        defaults: other defaults than the options' own.
    """

    name: ClassVar[str]
    options: ClassVar[type[OwnOptions]] = OwnOptions
    borrowed: ClassVar[tuple[str, ...]] = ()
    required: ClassVar[tuple[str, ...]] = ()
    may_be_none: ClassVar[tuple[str, ...]] = ()
    defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def takes(self, option: Option) -> bool:
        """Return whether the task has an option: one that all have, one of its own, or one that it borrows."""
        return not _is_own(option) or option.declared_in is self.options or option.api in self.borrowed

    def default_of(self, option: Option) -> Any:
        """Return what an option is where it is not given; there is no usual picture."""
        return None if option.is_picture else self.defaults.get(option.api, option.default)

    def check(self, request: GenerateRequest) -> None:
        """Make sure that a request has what the task needs.

        Raises:
            UserError: it lacks something.
        """

    def normalized(self, request: GenerateRequest) -> Mapping[str, Any]:
        """Return the fields of a checked request that are to be brought to their usual form, in that form."""
        del request
        return {}

    def result_size(self, request: GenerateRequest, entry: ModelEntry) -> tuple[int, int]:
        """Return the width and height of the result in pixels.

        Raises:
            UserError: the model cannot draw at the size that is asked for.
        """
        declared = options(type(request))
        width, height = (
            check(replace(declared[side], between=entry.side_limits), getattr(request, side))
            for side in ("width", "height")
        )
        return width or entry.width, height or entry.height

    def canvas_size(self, plan: Plan) -> tuple[int, int]:
        """Return the width and height that the model draws at, in pixels."""
        return plan.width, plan.height

    def pipeline(self, plan: Plan) -> PipelineTask:
        """Return which of the model's pipelines carries a plan out."""
        del plan
        return "text_to_image"

    def controlnet(self, plan: Plan) -> ControlNetEntry | None:
        """Return what guides the drawing beside the prompt; most tasks need nothing.

        Raises:
            UserError: the model does not have what is needed.
        """
        del plan
        return None

    def drawn_steps(self, plan: Plan) -> int:
        """Return how many of a plan's denoising steps are carried out."""
        return plan.steps

    def check_plan(self, plan: Plan) -> None:
        """Make sure of what depends on the model.

        Raises:
            UserError: the model cannot do this.
        """

    def guidance_scale(self, request: GenerateRequest, entry: ModelEntry) -> float:
        """Return the guidance of a request that asks for none, 1 or more."""
        del request
        return entry.guidance_scale

    def prompt(self, request: GenerateRequest, entry: ModelEntry) -> str:
        """Return the prompt of a request, without a style."""
        del entry
        return request.prompt

    def needs_references(self, request: GenerateRequest) -> bool:
        """Return whether a request is refused without references: they are noted then, with or without effect."""
        del request
        return False

    def makes_reference(self, request: GenerateRequest, entry: ModelEntry) -> bool:
        """Return whether the task makes a reference of its own where none is given, for its `TaskInputs`."""
        del request, entry
        return False

    def is_noted(self, option: Option, plan: Plan) -> bool:
        """Return whether a result's metadata note an option that the task has."""
        del option, plan
        return True

    def batch_key(self, plan: Plan) -> Hashable:
        """Return what plans of one batch must have in common, beside what is so for every task."""
        del plan
        return None

    def look(self, plan: Plan) -> object:
        """Look at the request's pictures, for what takes a moment and is asked for again; see `Plan.seen`.

        Raises:
            UserError: one of them cannot be used.
        """
        del plan
        return None

    def may_search(self, plan: Plan) -> bool:
        """Return whether something that takes long may come before the drawing; see `Tools.meanwhile`.

        Asked once, when a request is submitted, by whoever submits it.
        """
        del plan
        return False

    def prepare(self, plan: Plan, tools: Tools) -> TaskInputs:
        """Make the inputs of the model.

        Raises:
            UserError: something cannot be used.
            Cancelled: nobody wants the pictures any more.
        """
        del plan, tools
        return TaskInputs()

    def pipeline_inputs(self, plan: Plan, items: Sequence[BatchItem]) -> dict[str, Any]:
        """Return the arguments that only this task's pipeline has, for the items of a batch."""
        del plan, items
        return {}

    def pictures(self, plan: Plan) -> dict[str, Any]:
        """Return what the task draws from beside references, by field: pictures, or other things that stand for them.

        What need not be there is left out where it is not; what is required is None then.
        """
        found = {name: getattr(plan.request, name) for name in self.picture_fields(type(plan.request))}
        return {name: value for name, value in found.items() if value is not None or name in self.required}

    def noted(self, picture: Any) -> Any:
        """Return how one of the `pictures` is noted in a result's metadata, ready for JSON."""
        return None if picture is None else picture_hash(picture)

    def restored(
        self, metadata: Mapping[str, Any], pictures: Mapping[str, Image.Image], *, of: type[GenerateRequest]
    ) -> dict[str, Any]:
        """Return the fields that a result's metadata and pictures give back, beside those that are noted as they are.

        Args:
            metadata: of any content.
            pictures: those in the file, by name.
            of: the class of the request.

        Raises:
            UserError: a picture is missing.
        """
        wanted = [
            name
            for name in self.picture_fields(of)
            if metadata.get(name) is not None or (name in self.required and name not in metadata)
        ]
        return {name: picture_in_file(pictures, name) for name in wanted}

    def picture_fields(self, kind: type[GenerateRequest]) -> list[str]:
        """Return the names of a request's pictures that only this task has."""
        return [
            name
            for name, option in options(kind).items()
            if option.is_picture and _is_own(option) and self.takes(option)
        ]


def _is_own(option: Option) -> bool:
    # A request inherits the options of all tasks, and is none of theirs itself.
    return OwnOptions in option.declared_in.__bases__


def picture_in_file(pictures: Mapping[str, Image.Image], name: str) -> Image.Image:
    """Return an input picture of a result's file.

    Raises:
        UserError: it is missing.
    """
    if name not in pictures:
        raise UserError("recipe.picture_missing")
    return pictures[name]
