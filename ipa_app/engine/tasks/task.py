"""The base class of tasks: everything in which the ways to ask for a picture differ.

Code that carries out requests, or offers them on the page and in the API, asks the task and never names a particular
one.
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
"""Largest side of a result, in pixels."""


@dataclass(frozen=True, kw_only=True)
class OwnOptions:
    """Base class of each task's own options, which no other task has unless it borrows them."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What a task may use to prepare a request.

    Attributes:
        model: that will draw.
        detector: finds people in photos.
        emit: called with the progress.
        stop: set when the work in another thread is no longer wanted; see `meanwhile`.
        check_cancelled: raises if the job is cancelled or must give way.
        meanwhile: to be called several times a second while something long goes on in another thread, so that others
            are drawn in this one; raises as `check_cancelled` does.
    """

    model: LoadedModel
    detector: PoseDetector
    emit: Callable[[Progress], None]
    stop: threading.Event
    check_cancelled: Callable[[], None]
    meanwhile: Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class TaskInputs:
    """The model's inputs that a task has made from a request; the same for every picture of the request.

    Attributes:
        image: the picture to change or to start from, mode "RGB", of the size that is drawn.
        mask: mode "L" of the same size, white where the picture changes.
        control_image: a ControlNet's input, mode "RGB", of the size that is drawn; shown before it is used.
        references: made by the task if none are given; see `Task.makes_reference`.
        picture_size: (width, height) of the finished picture, if only a part of it is drawn.
        window: (left, top, right, bottom) of that part, in the finished picture's pixels; may extend beyond its edges.
        finish: makes the finished picture from what was drawn, mode "RGB".
        notes: messages to be shown with the pictures.
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
    """A way to ask for pictures. Tasks hold no state: there is one of each, in `TASKS`.

    The base class is plain text-to-image with references.

    Attributes:
        name: its name in requests, files and the API.
        options: the dataclass of the options that only this task has; a request has the fields of all tasks.
        borrowed: the options of other tasks that it has, too, by their names in the API.
        required: the options that must be given, by their names in the API.
        may_be_none: those of them that may be None if something else is given, by the same names.
        defaults: defaults that differ from the options' own, by the same names.
    """

    name: ClassVar[str]
    options: ClassVar[type[OwnOptions]] = OwnOptions
    borrowed: ClassVar[tuple[str, ...]] = ()
    required: ClassVar[tuple[str, ...]] = ()
    may_be_none: ClassVar[tuple[str, ...]] = ()
    defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def takes(self, option: Option) -> bool:
        """Whether the task has an option: one that all tasks have, one of its own, or one that it borrows."""
        return not _is_own(option) or option.declared_in is self.options or option.api in self.borrowed

    def default_of(self, option: Option) -> Any:
        """Return the default of an option; None for a picture."""
        return None if option.is_picture else self.defaults.get(option.api, option.default)

    def check(self, request: GenerateRequest) -> None:
        """Check that a request has what the task needs.

        Raises:
            UserError: it lacks something.
        """

    def normalized(self, request: GenerateRequest) -> Mapping[str, Any]:
        """Return, in their usual form, the fields of a checked request that have one."""
        del request
        return {}

    def result_size(self, request: GenerateRequest, entry: ModelEntry) -> tuple[int, int]:
        """Return the width and height of the result in pixels.

        Raises:
            UserError: the model cannot draw at the requested size.
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
        """Return which of the model's pipelines carries out a plan."""
        del plan
        return "text_to_image"

    def controlnet(self, plan: Plan) -> ControlNetEntry | None:
        """Return the ControlNet that guides the drawing; most tasks need none.

        Raises:
            UserError: the model does not have what is needed.
        """
        del plan
        return None

    def drawn_steps(self, plan: Plan) -> int:
        """Return how many of a plan's denoising steps are carried out."""
        return plan.steps

    def check_plan(self, plan: Plan) -> None:
        """Check what depends on the model.

        Raises:
            UserError: the model cannot do this.
        """

    def guidance_scale(self, request: GenerateRequest, entry: ModelEntry) -> float:
        """Return the guidance scale, 1 or more, for a request that sets none."""
        del request
        return entry.guidance_scale

    def prompt(self, request: GenerateRequest, entry: ModelEntry) -> str:
        """Return the prompt of a request, without a style."""
        del entry
        return request.prompt

    def needs_references(self, request: GenerateRequest) -> bool:
        """Whether a request is refused without references; they are then recorded even if they have no effect."""
        del request
        return False

    def makes_reference(self, request: GenerateRequest, entry: ModelEntry) -> bool:
        """Whether the task makes a reference of its own, in its `TaskInputs`, if none is given."""
        del request, entry
        return False

    def is_noted(self, option: Option, plan: Plan) -> bool:
        """Whether a result's metadata record an option that the task has."""
        del option, plan
        return True

    def batch_key(self, plan: Plan) -> Hashable:
        """Return what plans of one batch must have in common, beside what all tasks require."""
        del plan
        return None

    def look(self, plan: Plan) -> object:
        """Look at the request's pictures, for a result that takes a moment and is used repeatedly; see `Plan.seen`.

        Raises:
            UserError: one of them cannot be used.
        """
        del plan
        return None

    def may_search(self, plan: Plan) -> bool:
        """Whether something that takes long may come before the drawing; see `Tools.meanwhile`.

        Called once, when a request is submitted, in the submitter's thread.
        """
        del plan
        return False

    def prepare(self, plan: Plan, tools: Tools) -> TaskInputs:
        """Make the model's inputs.

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
        """Return what the task draws from beside references, by field: pictures, or what is given in their place.

        Optional ones that are missing are left out; required ones that are missing are None.
        """
        found = {name: getattr(plan.request, name) for name in self.picture_fields(type(plan.request))}
        return {name: value for name, value in found.items() if value is not None or name in self.required}

    def noted(self, picture: Any) -> Any:
        """Return the record of one of the `pictures` for a result's metadata, ready for JSON."""
        return None if picture is None else picture_hash(picture)

    def restored(
        self, metadata: Mapping[str, Any], pictures: Mapping[str, Image.Image], *, of: type[GenerateRequest]
    ) -> dict[str, Any]:
        """Restore fields from a result's metadata and pictures, except those that are recorded unchanged.

        Args:
            metadata: of any content; not trusted.
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
    # GenerateRequest inherits from all tasks' options, but OwnOptions is not one of its direct bases.
    return OwnOptions in option.declared_in.__bases__


def picture_in_file(pictures: Mapping[str, Image.Image], name: str) -> Image.Image:
    """Return an input picture of a result's file.

    Raises:
        UserError: it is missing.
    """
    if name not in pictures:
        raise UserError("recipe.picture_missing")
    return pictures[name]
