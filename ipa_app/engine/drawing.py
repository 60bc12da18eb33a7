"""Drawing one batch: items in, pictures out. This is where the engine calls diffusers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ipa_app.adapter import ImagePromptBatch, RegionalPromptBatch
from ipa_app.engine.batch import BatchItem
from ipa_app.engine.plan import Plan
from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.guidance import GuidedSteps
from ipa_app.models.latents import decode, in_tiles
from ipa_app.models.memory import OutOfMemoryError, memory_errors
from ipa_app.models.prompt_encoding import prompt_inputs
from ipa_app.models.schedule import step_errors

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from PIL import Image

    from ipa_app.engine.previews import Previewer
    from ipa_app.models.loaded import LoadedModel

logger = logging.getLogger(__name__)

OnStep = Callable[[int], None]
"""Called with the number of denoising steps done; may raise to stop."""


@torch.inference_mode()
def draw(
    model: LoadedModel,
    items: Sequence[BatchItem],
    *,
    plan: Plan,
    on_step: OnStep,
    check: Callable[[], None] = lambda: None,
    on_again: Callable[[], None] = lambda: None,
    previewer: Previewer | None = None,
) -> list[Image.Image | None]:
    """Draw pictures in one batch.

    Args:
        model: that draws.
        items: one per picture.
        plan: whose size, steps, guidance and task all items share.
        on_step: called after every step, and before each picture is decoded.
        check: called more often than that, as for `LoadedModel.checked_by`; may raise to stop.
        on_again: called when the steps begin again in single precision.
        previewer: shows the pictures while they are drawn, and changes nothing in them.

    Returns:
        A picture per item, mode "RGB"; None for one that the model's safety checker withholds.

    Raises:
        UserError: the model cannot do so many steps, or its numbers ran out of range, in single precision too.
    """

    def attempt() -> torch.Tensor:
        return denoise(model, items, plan=plan, on_step=on_step, previewer=previewer)

    pictures: list[Image.Image | None] = []
    with model.checked_by(check):
        when = Message("moment.denoising")
        latents = _finite(model, attempt, when=when, plan=plan, check=check, on_again=on_again)
        for index, item in enumerate(items):
            on_step(plan.drawn_steps)
            picture = _decode(model, latents[index : index + 1], plan=plan, is_draft=item.is_draft, check=check)
            pictures.append(None if model.safety is not None and model.safety.flags(picture) else picture)
    return pictures


def denoise(
    model: LoadedModel, items: Sequence[BatchItem], *, plan: Plan, on_step: OnStep, previewer: Previewer | None = None
) -> torch.Tensor:
    """Denoise the latents of a batch; see `draw`.

    Returns:
        (batch, channels, height / factor, width / factor), in the range that the model draws in.
    """
    pipeline: Any = model.pipeline(plan.pipeline_task, controlnet=plan.controlnet, is_fast=plan.fast is not None)
    if previewer is not None:
        previewer.follow(pipeline.scheduler)
    guidance, steps = _has_two_sides(pipeline, plan), plan.drawn_steps
    told = _attention_prompts(items, model=model, plan=plan, guidance=guidance)
    guided = GuidedSteps([item.guided for item in items], steps=steps)
    pipeline = guided.applied_to(pipeline) if guidance else pipeline

    def after_step(_pipeline: DiffusionPipeline, step: int, _timestep: object, tensors: dict) -> dict:
        # Some schedulers have more timesteps than steps: PNDM, Stable Diffusion 1.5's own, has one more.
        done = (step + 1) * steps // _pipeline.num_timesteps
        if "image_prompt" in told:
            told["image_prompt"].at_step(done)
        guided.at_step(done)
        if previewer is not None:
            previewer.after_step(model, items, step=done, steps=steps, latents=tensors["latents"])
        on_step(done)
        return {}

    generators = [torch.Generator().manual_seed(item.seed) for item in items]
    with step_errors(pipeline.scheduler, plan.steps, title=model.entry.title):
        return pipeline(
            num_inference_steps=plan.steps,
            guidance_scale=plan.guidance_scale,
            generator=generators,
            cross_attention_kwargs=told or None,
            callback_on_step_end=after_step,
            output_type="latent",
            **_prompt_inputs(items, model=model, pipeline=pipeline, guidance=guidance),
            **_start_inputs(model, plan=plan, generators=generators),
            **_acting(plan.task.pipeline_inputs(plan, items), scheduler=pipeline.scheduler, steps=plan.steps),
        ).images


def _acting(inputs: dict[str, Any], *, scheduler: Any, steps: int) -> dict[str, Any]:
    """Return a pipeline's arguments with a ControlNet range that holds at least one of the scheduler's timesteps.

    Diffusers applies a ControlNet at timesteps that lie wholly within the range. Where there are more timesteps than
    steps, as with PNDM and Heun, a range of a whole step may hold none; the timestep in its middle is used then.
    """
    if "control_guidance_start" not in inputs:
        return inputs
    start, end = inputs["control_guidance_start"], inputs["control_guidance_end"]
    own = type(scheduler).from_config(scheduler.config)
    own.set_timesteps(steps)
    turns = len(own.timesteps)
    if any(turn / turns >= start and (turn + 1) / turns <= end for turn in range(turns)):
        return inputs
    turn = min(int((start + end) / 2 * turns), turns - 1)
    return {**inputs, "control_guidance_start": turn / turns, "control_guidance_end": (turn + 1) / turns}


def _has_two_sides(pipeline: Any, plan: Plan) -> bool:
    """Whether the UNet is run on an unconditional side too, in some steps at least.

    A guidance-distilled model such as LCM takes the guidance scale as an input and runs once per step.
    """
    return plan.guidance_scale > 1 and pipeline.unet.config.time_cond_proj_dim is None


def _prompt_inputs(
    items: Sequence[BatchItem], *, model: LoadedModel, pipeline: DiffusionPipeline, guidance: bool
) -> dict[str, Any]:
    """Return a pipeline's arguments for the items' prompts; negative prompts count with guidance only."""
    negative_prompts = [item.negative_prompt for item in items] if guidance else None
    prompts = [item.prompt for item in items]
    return prompt_inputs(model.family, pipeline, prompts, negative_prompts, device=model.device)


def _start_inputs(model: LoadedModel, *, plan: Plan, generators: Sequence[torch.Generator]) -> dict[str, Any]:
    """Return what denoising starts from: each picture's own noise, unless diffusers adds noise to a picture itself."""
    if plan.pipeline_task == "image_to_image":
        return {}
    pipeline: Any = model.pipelines["text_to_image"]
    width, height = plan.canvas_size
    noise = _noise(generators, channels=pipeline.vae.config.latent_channels, size=model.latent_size(plan.canvas_size))
    latents = noise.to(pipeline.unet.dtype)
    return {"latents": latents, "width": width, "height": height}


def _attention_prompts(items: Sequence[BatchItem], *, model: LoadedModel, plan: Plan, guidance: bool) -> dict[str, Any]:
    """Stack the items' image prompts and regional prompts, as cross-attention arguments by name.

    Returns:
        An `ImagePromptBatch` and a `RegionalPromptBatch`, each only if there is any; an empty dict means plain Stable
        Diffusion.
    """
    pipeline: Any = model.pipelines["text_to_image"]
    place: dict[str, Any] = {"dtype": pipeline.unet.dtype, "device": model.device}
    width, height = model.latent_size(plan.canvas_size)
    told: dict[str, Any] = {}
    if any(item.image_prompts for item in items):
        told["image_prompt"] = ImagePromptBatch.stack(
            [[prompt.to(**place) for prompt in item.image_prompts] for item in items],
            guidance=guidance,
            steps=plan.drawn_steps,
            latent_size=(height, width),
        )
    if any(item.regional_prompts for item in items):
        told["regional_prompt"] = RegionalPromptBatch.stack(
            [[prompt.to(**place) for prompt in item.regional_prompts] for item in items],
            guidance=guidance,
            latent_size=(height, width),
        )
    return told


def _noise(generators: Sequence[torch.Generator], *, channels: int, size: tuple[int, int]) -> torch.Tensor:
    """Draw every picture's noise from its own generator, on the CPU, so that no other picture or device changes it.

    Args:
        generators: one per picture.
        channels: of the latents.
        size: their width and height.

    Returns:
        (batch, channels, height, width) float32, of variance 1.
    """
    width, height = size
    return torch.cat([torch.randn(1, channels, height, width, generator=generator) for generator in generators])


def _decode(
    model: LoadedModel, latents: torch.Tensor, *, plan: Plan, is_draft: bool, check: Callable[[], None]
) -> Image.Image:
    """Decode the latents (1, channels, height, width) of one picture."""
    pipeline: Any = model.pipelines["text_to_image"]
    vae = model.draft_vae if is_draft else model.vae
    upcast = model.family.needs_upcast(vae)

    def attempt() -> torch.Tensor:
        return decode(vae, latents, upcast=upcast)

    def all_attempts() -> torch.Tensor:
        return _finite(model, attempt, when=Message("moment.decoding"), plan=plan, check=check)

    try:
        with memory_errors():
            pixels = all_attempts()
    except OutOfMemoryError:
        # Decode the same latents in tiles: denoising was most of the work, and is not repeated.
        with in_tiles(vae):
            pixels = all_attempts()
    return pipeline.image_processor.postprocess(pixels, output_type="pil")[0]


def _finite(
    model: LoadedModel,
    work: Callable[[], torch.Tensor],
    *,
    when: str,
    plan: Plan,
    check: Callable[[], None],
    on_again: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """Run `work`, again in single precision if its result has infinities or NaN, which would make a black picture.

    The weights themselves have none: they were checked when they were read.

    Raises:
        UserError: the result still has some.
    """
    values = work()
    if not torch.isfinite(values).all() and model.dtype != torch.float32:
        logger.warning("%s ran out of range %s; drawing again in float32", model.dtype, when)
        on_again()
        with model.in_float32(check):
            values = work()
    if torch.isfinite(values).all():
        return values
    if plan.guidance_scale > 1 or plan.uses_references:
        raise UserError("drawing.out_of_range_by_settings", moment=when)
    raise UserError("drawing.out_of_range", moment=when)
