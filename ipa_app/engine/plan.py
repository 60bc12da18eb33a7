"""A request with every default filled in from its model: what exactly will be drawn. Data only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from PIL import Image

from ipa_app.adapter.kinds import USUAL_NAMES
from ipa_app.engine.extending import margins
from ipa_app.engine.references import Reference
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.seeds import picture_seeds
from ipa_app.errors import UserError, blaming
from ipa_app.messages import Message
from ipa_app.models.hashing import picture_hash
from ipa_app.options import check, options
from ipa_app.pose.sheet import PoseSheet

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from ipa_app.models.entry import AdapterEntry, ControlNetEntry, ModelEntry
    from ipa_app.models.families import PipelineTask

_NEEDS_PIPELINE: Mapping[str, PipelineTask] = {
    "variation": "text_to_image",
    "mix": "text_to_image",
    "inpaint": "inpaint",
    "pose": "controlnet",
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A request as it will be carried out.

    Attributes:
        request: as it came.
        entry: its model.
        width: of the result in pixels; of an extended picture, before that.
        height: likewise.
        steps: denoising steps.
        guidance_scale: 1 or more; 1 means no guidance.
        negative_prompt: the request's, or else the model's.
        seeds: one per picture.
    """

    request: GenerateRequest
    entry: ModelEntry
    width: int
    height: int
    steps: int
    guidance_scale: float
    negative_prompt: str
    seeds: tuple[int, ...]

    @property
    def pipeline_task(self) -> PipelineTask:
        """Which of the model's pipelines carries this out."""
        if self.start_image is not None:
            return "image_to_image"
        return _NEEDS_PIPELINE[self.request.task]

    @property
    def controlnet(self) -> ControlNetEntry | None:
        """What guides the drawing beside the prompt; None for tasks that need none."""
        return self.entry.controlnet("pose") if self.request.task == "pose" else None

    @property
    def canvas_size(self) -> tuple[int, int]:
        """Width and height that the model draws at. Inpainting draws all or part of a picture, at the native size."""
        if self.request.task == "inpaint":
            return self.entry.width, self.entry.height
        return self.width, self.height

    @property
    def uses_references(self) -> bool:
        """Whether references have any effect; with scale 0 they have none, exactly."""
        return self.request.scale > 0 and any(reference.weight > 0 for reference in self.request.references)

    @property
    def adapter(self) -> AdapterEntry | None:
        """What looks at the references; None where none of them has any effect."""
        return self.entry.adapter(self.request.adapter) if self.uses_references else None

    @property
    def image_scale(self) -> float | dict[str, float]:
        """How strongly references count: alike in all layers, or by name in those that take the part asked for."""
        scale, part = self.request.scale, self.request.part
        if part == "all":
            return scale
        return {layer: share * scale for layer, share in self.entry.presets[part].items()}

    @property
    def noted_references(self) -> tuple[Reference, ...]:
        """The references that are written down: those with an effect, and a variation's, which is none without."""
        return self.request.references if self.uses_references or self.request.task == "variation" else ()

    @property
    def negative_reference(self) -> Image.Image | None:
        """The picture to stay away from, where it has an effect: beside references, and with guidance."""
        return self.request.negative_reference if self.uses_references and self.guidance_scale > 1 else None

    @property
    def start_image(self) -> Image.Image | None:
        """The picture that is drawn over, if there is one."""
        return self.request.start_image if self.request.task == "mix" else None

    @property
    def drawn_steps(self) -> int:
        """How many steps are carried out; of those with a start picture only the last ones, as diffusers counts."""
        return self.steps if self.start_image is None else min(int(self.steps * self.request.strength), self.steps)

    @property
    def batch_key(self) -> Hashable:
        """Pictures of plans with equal keys can be drawn in one batch."""
        request = self.request
        control = (request.control_scale, request.control_start, request.control_end)
        return (
            self.entry.name,
            self.pipeline_task,
            self.controlnet,
            self.canvas_size,
            self.steps,
            self.guidance_scale,
            control if request.task == "pose" else None,
            request.strength if self.start_image is not None else None,
        )


def make_plan(request: GenerateRequest, entry: ModelEntry) -> Plan:
    """Fill in a model's defaults and check what depends on the model.

    Raises:
        UserError: the size is not one of this model's, an extended picture would be too large, or the model lacks the
            adapter or the ControlNet, or cannot take the part of the references that is asked for.
    """
    width, height = _result_size(request, entry)
    plan = Plan(
        request=request,
        entry=entry,
        width=width,
        height=height,
        steps=request.steps or entry.steps,
        guidance_scale=request.guidance_scale or entry.guidance_scale,
        negative_prompt=request.negative_prompt or entry.negative_prompt,
        seeds=picture_seeds(request.seed, request.count),
    )
    if plan.uses_references or request.adapter not in USUAL_NAMES:
        with blaming("adapter"):
            entry.adapter(request.adapter)  # which refuses one that the model has not
    with blaming("part"):
        _check_part(request.part, entry)
    if request.task == "pose":
        entry.controlnet("pose")  # which says why where there is none
    if plan.drawn_steps == 0:
        raise UserError("request.changes_nothing", strength=f"{request.strength:g}", steps=plan.steps).blaming(
            "strength"
        )
    _check_ranges(plan)
    return plan


def _check_part(part: str, entry: ModelEntry) -> None:
    """Make sure that a model can take a part of a picture alone."""
    if part != "all" and part not in entry.presets:
        raise UserError("model.cannot_tell_parts", title=entry.title, part=Message(f"layer_preset.{part}"))


def _check_ranges(plan: Plan) -> None:
    """Make sure that what shall count for a part of the steps counts for one at least."""
    request, steps = plan.request, plan.drawn_steps
    ranges = []
    if plan.uses_references and round(request.start * steps) == round(request.end * steps):
        ranges.append((Message("counted.picture"), "end", request.start, request.end))
    # The steps that diffusers' ControlNet pipelines keep.
    kept = [i for i in range(steps) if i / steps >= request.control_start and (i + 1) / steps <= request.control_end]
    if request.task == "pose" and not kept:
        ranges.append((Message("counted.pose"), "control_end", request.control_start, request.control_end))
    for what, field, start, end in ranges:
        raise UserError(
            "request.counts_in_no_step", start=f"{start:g}", end=f"{end:g}", steps=steps, counted=what
        ).blaming(field)


def settings_of(plan: Plan, *, scheduler: str, adapter_sha256: str | None = None) -> dict[str, Any]:
    """Every input as it was used, for JSON.

    Pictures are named by the SHA-256 of their pixels; a skeleton's keypoints are given whole, as OpenPose writes them.
    Without a reference, or with its scale at 0, the picture is plain Stable Diffusion's either way, and both are
    written down as the same: no references, scale 0. Only a variation keeps its references, as it must have some.

    Args:
        plan: what was drawn.
        scheduler: class name of the sampler.
        adapter_sha256: of the file of the adapter, where one was used.
    """
    request = plan.request
    settings: dict[str, Any] = {name: getattr(request, name) for name in _noted_options(request)} | {
        "adapter": _noted_adapter(plan),
        "references": [_noted(each) for each in plan.noted_references],
        "negative_prompt": plan.negative_prompt,
        "seed": plan.seeds[0],
        "seeds": list(plan.seeds),
        "steps": plan.steps,
        "guidance_scale": plan.guidance_scale,
        "width": plan.width,
        "height": plan.height,
        "scheduler": scheduler,
        "versions": {name: version(name) for name in ("diffusers", "torch", "transformers")},
    }
    if not plan.uses_references:
        declared = options(GenerateRequest)
        settings |= {name: declared[name].default for name in ("start", "end", "part")} | {"scale": 0.0}
    if adapter_sha256 is not None:
        settings["adapter_sha256"] = adapter_sha256
    if plan.negative_reference is not None:
        settings["negative_reference"] = picture_hash(plan.negative_reference)
    if plan.start_image is not None:
        settings["start_image"] = picture_hash(plan.start_image)
    if request.task == "inpaint":
        settings |= {"image": _hash(request.image), "mask": _hash(request.mask)}
    if request.task == "pose":
        pose = request.pose
        settings["pose"] = pose.to_openpose() if isinstance(pose, PoseSheet) else _hash(pose)
    return settings


def _noted_options(request: GenerateRequest) -> list[str]:
    """Name the options that are written down as they were asked for: those that count for the request's task."""
    return [
        name
        for name, option in options(type(request)).items()
        if option.is_for(request.task)
        and not option.is_picture
        and (not option.beside or isinstance(getattr(request, option.beside), Image.Image))
    ]


def _noted_adapter(plan: Plan) -> str:
    """The name of the adapter; what a visitor's own is asked for by is nobody else's business."""
    asked = plan.request.adapter
    adapter = plan.adapter or plan.entry.adapters.get(asked)
    return adapter.name if adapter else asked


def _result_size(request: GenerateRequest, entry: ModelEntry) -> tuple[int, int]:
    if request.task == "inpaint" and request.image is not None:
        size = (request.width or request.image.width, request.height or request.image.height)
        margins(request, size)  # which refuses what would get too large
        return size
    declared = options(GenerateRequest)
    width, height = (
        check(replace(declared[side], between=entry.side_limits), getattr(request, side))
        for side in ("width", "height")
    )
    return width or entry.width, height or entry.height


def _noted(reference: Reference) -> dict[str, Any]:
    values = {name: getattr(reference, name) for name, option in options(Reference).items() if not option.is_picture}
    return {"sha256": picture_hash(reference.image), **values}


def _hash(image: Image.Image | None) -> str | None:
    return None if image is None else picture_hash(image)
