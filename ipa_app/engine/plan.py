"""A request with every default filled in from its model: exactly what will be drawn. Data only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from PIL import Image

from ipa_app.adapter.kinds import USUAL_NAMES
from ipa_app.engine.ranges import no_whole_step
from ipa_app.engine.references import Reference, slot_name
from ipa_app.engine.requests import GenerateRequest, picture_seeds
from ipa_app.engine.tasks import TASKS
from ipa_app.engine.tasks.task import Task
from ipa_app.engine.wording import readable
from ipa_app.errors import UserError, blaming
from ipa_app.messages import Message
from ipa_app.models.prompt_weights import check_weights
from ipa_app.models.styles import style_called
from ipa_app.options import options

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ipa_app.models.entry import AdapterEntry, ControlNetEntry, FastWay, ModelEntry
    from ipa_app.models.families import PipelineTask
    from ipa_app.models.styles import Style


MOST_FAST_STEPS = 50
"""When drawing fast. LCMScheduler, used by most fast ways, has no more (diffusers: original_inference_steps)."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A request as it will be carried out.

    Attributes:
        request: as submitted.
        entry: its model.
        width: of the result in pixels; before any extension of the picture.
        height: of the result in pixels; before any extension of the picture.
        steps: denoising steps.
        guidance_scale: 1 or more; 1 means no guidance.
        guidance_start: when guidance begins, as a share of the steps.
        guidance_end: when it ends.
        prompt: the request's, or else the task's; without a style.
        negative_prompt: the request's, or else the model's; without a style.
        fast: how it is drawn in a few steps; None if it is drawn in the model's usual way.
    """

    request: GenerateRequest
    entry: ModelEntry
    width: int
    height: int
    steps: int
    guidance_scale: float
    guidance_start: float
    guidance_end: float
    prompt: str
    negative_prompt: str
    fast: FastWay | None = None

    @property
    def task(self) -> Task:
        """The task of the request."""
        return TASKS[self.request.task]

    @property
    def prompts(self) -> tuple[str, str]:
        """The prompt and the negative prompt in the requested style."""
        prompts = self.prompt, self.negative_prompt
        return self._style.styled(*prompts) if self._style else prompts

    @property
    def region_prompts(self) -> tuple[str, ...]:
        """The words of each reference's region, also in the requested style; empty where it has none."""
        words = (each.region_prompt if each.has_words else "" for each in self.request.references)
        return tuple(self._style.styled(each, "")[0] if each and self._style else each for each in words)

    @property
    def _style(self) -> Style | None:
        return style_called(self.request.style, self.entry.styles, title=self.entry.title)

    @property
    def seeds(self) -> tuple[int, ...]:
        """One seed per picture; the request's own seed must be definite."""
        return picture_seeds(self.request.seed, self.request.count)

    @property
    def pipeline_task(self) -> PipelineTask:
        """The model's pipeline that carries this out."""
        return self.task.pipeline(self)

    @property
    def controlnet(self) -> ControlNetEntry | None:
        """The ControlNet that guides the drawing; None for tasks that need none."""
        return self.task.controlnet(self)

    @property
    def canvas_size(self) -> tuple[int, int]:
        """Width and height at which the model draws."""
        return self.task.canvas_size(self)

    @cached_property
    def makes_reference(self) -> bool:
        """Whether the task makes a reference of its own; computed once, as it may look at every pixel of a mask."""
        return self.task.makes_reference(self.request, self.entry)

    @cached_property
    def seen(self) -> object:
        """What the task sees in the request's pictures; computed once, on first use."""
        return self.task.look(self)

    @property
    def uses_references(self) -> bool:
        """Whether references, given or made by the task, have any effect; with scale 0 they have exactly none."""
        request = self.request
        given = request.scale > 0 and any(reference.weight > 0 for reference in request.references)
        return given or self.makes_reference

    @property
    def adapter(self) -> AdapterEntry | None:
        """The adapter for the references; None if no reference has any effect."""
        return self.entry.adapter(self.request.adapter) if self.uses_references else None

    @property
    def image_scale(self) -> float | dict[str, float]:
        """How strongly references count: one scale for all layers, or scales by name for the part asked for."""
        scale, part = self.request.scale, self.request.part
        if part == "all":
            return scale
        return {layer: share * scale for layer, share in self.entry.presets[part].items()}

    @property
    def noted_references(self) -> tuple[Reference, ...]:
        """The references to record: all if they have an effect or the task needs some, otherwise none."""
        counts = self.uses_references or any(self.region_prompts) or self.task.needs_references(self.request)
        return self.request.references if counts else ()

    @property
    def negative_reference(self) -> Image.Image | None:
        """The picture to avoid, if it has an effect: beside references, and with guidance."""
        return self.request.negative_reference if self.uses_references and self.guidance_scale > 1 else None

    @property
    def without_effect(self) -> list[Message]:
        """Messages on settings that have no effect because the fast way has a guidance of its own."""
        request, no_guidance = self.request, self.guidance_scale == 1
        asked = {
            "guidance": request.guidance_scale not in (0, self.guidance_scale)
            or (no_guidance and (request.guidance_start, request.guidance_end or 1) != (0, 1)),
            "negative_prompt": no_guidance and bool(request.negative_prompt.strip()),
            "negative_reference": no_guidance and self.uses_references and request.negative_reference is not None,
        }
        return [Message(f"fast.{name}") for name, is_asked in asked.items() if self.fast and is_asked]

    @property
    def drawn_steps(self) -> int:
        """Number of denoising steps that are carried out."""
        return self.task.drawn_steps(self)

    @property
    def guided(self) -> range:
        """The steps that have guidance."""
        steps = self.drawn_steps
        return range(round(self.guidance_start * steps), round(self.guidance_end * steps))

    @property
    def batch_key(self) -> Hashable:
        """Pictures of plans with equal keys can be drawn in one batch."""
        pipeline = (self.entry.name, self.pipeline_task, self.controlnet)
        shared = (*pipeline, self.canvas_size, self.steps, self.guidance_scale, self.request.speed)
        # Pictures drawn from words and references alone can share a batch, whatever their task.
        own = () if self.pipeline_task == "text_to_image" else (self.request.task, self.task.batch_key(self))
        return (*shared, *own)


def make_plan(request: GenerateRequest, entry: ModelEntry) -> Plan:
    """Fill in a model's defaults and check what depends on the model. The same request always gives the same plan.

    Raises:
        UserError: the size is not one of this model's, the model cannot draw fast, lacks the adapter, cannot use the
            requested part of the references, lacks the style, or cannot do what the task needs.
    """
    task = TASKS[request.task]
    width, height = task.result_size(request, entry)
    with blaming("speed"):
        fast = entry.fast_way() if request.speed == "fast" else None
    guidance_start, guidance_end = _guided_share(request, entry, is_fast=fast is not None)
    plan = Plan(
        request=request,
        entry=entry,
        width=width,
        height=height,
        steps=request.steps or (fast or entry).steps,
        # A LoRA for few steps is trained for one guidance scale, and spoils the picture at another.
        guidance_scale=fast.guidance_scale if fast else request.guidance_scale or task.guidance_scale(request, entry),
        guidance_start=guidance_start,
        guidance_end=guidance_end,
        prompt=task.prompt(request, entry),
        negative_prompt=request.negative_prompt or entry.negative_prompt,
        fast=fast,
    )
    if plan.uses_references or request.adapter not in USUAL_NAMES:
        with blaming("adapter"):
            entry.adapter(request.adapter)  # raises if the model does not have it
    if request.style:
        with blaming("style"):
            _check_style(plan)
    with blaming("part"):
        _check_part(request.part, entry)
    if fast and plan.steps > MOST_FAST_STEPS:
        raise UserError("fast.too_many_steps", most=MOST_FAST_STEPS).blaming("steps")
    task.check_plan(plan)
    _check_range(plan)
    _check_guidance(plan)
    return plan


def draft_of(request: GenerateRequest, entry: ModelEntry) -> GenerateRequest | None:
    """Return a request for a quick draft of much the same picture, shown while a visitor is changing the request.

    None if the model does not suit live mode or has no fast way, if the request asks for the fast way already, or if
    one of its settings has no effect in the fast way or is not possible in so few steps.
    """
    if not entry.live or entry.fast is None or request.speed == "fast":
        return None
    draft = replace(request, speed="fast", steps=0)
    try:
        plan = make_plan(draft, entry)
    except UserError:  # such as a share of the steps that is less than one of so few
        return None
    return None if plan.without_effect else draft


def _guided_share(request: GenerateRequest, entry: ModelEntry, *, is_fast: bool) -> tuple[float, float]:
    """Return the shares of the steps at which guidance begins and ends: as requested, or else the model's own."""
    if request.guidance_end or is_fast:
        return request.guidance_start, request.guidance_end or 1.0
    return request.guidance_start or entry.guidance_start, max(entry.guidance_end, request.guidance_start)


def _check_style(plan: Plan) -> None:
    """Check that the model has the requested style, and that the weights in the styled prompts are within bounds."""
    for name, text in zip(("prompt", "negative_prompt"), plan.prompts, strict=True):
        check_weights(readable(text), prompt=options(GenerateRequest)[name].called)
    for text in plan.region_prompts:
        check_weights(readable(text), prompt=options(Reference)["region_prompt"].called)


def _check_part(part: str, entry: ModelEntry) -> None:
    """Check that a model can use only that part of a picture."""
    if part != "all" and part not in entry.presets:
        raise UserError("model.cannot_tell_parts", title=entry.title, part=Message(f"layer_preset.{part}"))


def _check_guidance(plan: Plan) -> None:
    """Check that guidance, if there is any, covers at least one step."""
    if plan.guidance_scale > 1 and not plan.guided:
        of, start, end = Message("counted.guidance"), plan.guidance_start, plan.guidance_end
        raise no_whole_step(of, start=start, end=end, steps=plan.drawn_steps, field="guidance_end")


def _check_range(plan: Plan) -> None:
    """Check that references limited to a part of the steps count for at least one step."""
    request, steps = plan.request, plan.drawn_steps
    if not plan.uses_references:
        return
    whole = (request.start, request.end, "end")
    numbered = enumerate(request.references, start=1)
    own = (
        (max(request.start, each.start), min(request.end, each.end), slot_name("reference_end", number))
        for number, each in numbered
    )
    for start, end, field in (whole, *own):
        if round(start * steps) >= round(end * steps):
            counted = Message("counted.picture")
            raise no_whole_step(counted, start=start, end=max(start, end), steps=steps, field=field)
