"""Drawing one batch: rows in, pictures out. Where the engine meets diffusers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ipa_app.adapter import ImagePromptBatch
from ipa_app.engine.plan import Plan
from ipa_app.engine.rows import Row
from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.latents import decode

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from PIL import Image

    from ipa_app.engine.previews import Previewer
    from ipa_app.models.loaded import LoadedModel

logger = logging.getLogger(__name__)

OnStep = Callable[[int], None]
"""Told how many denoising steps are done; may raise to stop."""


@torch.inference_mode()
def draw(
    model: LoadedModel, rows: Sequence[Row], *, like: Plan, on_step: OnStep, previewer: Previewer | None = None
) -> list[Image.Image | None]:
    """Draw pictures in one batch.

    Args:
        model: what draws.
        rows: one per picture.
        like: whose size, steps, guidance and task all of them share.
        on_step: told after every step, and before each of the pictures is decoded.
        previewer: looks at the pictures while they are drawn, and changes nothing in them.

    Returns:
        A picture per row, mode "RGB"; None for one that the model's safety checker holds back.

    Raises:
        UserError: the model's numbers ran out of range, in single precision too.
    """

    def attempt() -> torch.Tensor:
        return denoise(model, rows, like=like, on_step=on_step, previewer=previewer)

    latents = _finite(model, attempt, when=Message("moment.denoising"), like=like)
    pictures: list[Image.Image | None] = []
    for index in range(len(rows)):
        on_step(like.drawn_steps)
        picture = _decode(model, latents[index : index + 1], like=like)
        pictures.append(None if model.safety is not None and model.safety.flags(picture) else picture)
    return pictures


def denoise(
    model: LoadedModel, rows: Sequence[Row], *, like: Plan, on_step: OnStep, previewer: Previewer | None = None
) -> torch.Tensor:
    """Denoise the rows' latents; see `draw`.

    Returns:
        (batch, channels, height / factor, width / factor), in the range that the model draws in.
    """
    pipeline: Any = model.pipeline(like.pipeline_task, controlnet=like.controlnet)
    if previewer is not None:
        previewer.follow(pipeline.scheduler)
    # A model distilled to follow a guidance it is told, as LCM, is run once per step and not on both sides.
    guidance = like.guidance_scale > 1 and pipeline.unet.config.time_cond_proj_dim is None
    steps = like.drawn_steps
    batch = _image_prompt_batch(rows, model=model, like=like, guidance=guidance)

    def after_step(_pipeline: DiffusionPipeline, step: int, _timestep: object, tensors: dict) -> dict:
        # Some schedules take more turns than steps: PNDM, which Stable Diffusion 1.5 comes with, one more.
        done = (step + 1) * steps // _pipeline.num_timesteps
        if batch is not None:
            batch.at_step(done)
        if previewer is not None:
            previewer.after_step(model, rows, step=done, steps=steps, latents=tensors["latents"])
        on_step(done)
        return {}

    generators = [torch.Generator().manual_seed(row.seed) for row in rows]
    prompts, negative_prompts = [row.prompt for row in rows], [row.negative_prompt for row in rows]
    return pipeline(
        num_inference_steps=like.steps,
        guidance_scale=like.guidance_scale,
        generator=generators,
        cross_attention_kwargs=None if batch is None else {"image_prompt": batch},
        callback_on_step_end=after_step,
        output_type="latent",
        **model.family.text_inputs(pipeline, prompts, negative_prompts, guidance=guidance),
        **_start_inputs(model, rows, like=like, generators=generators),
        **_task_inputs(rows, like=like),
    ).images


def _start_inputs(
    model: LoadedModel, rows: Sequence[Row], *, like: Plan, generators: Sequence[torch.Generator]
) -> dict[str, Any]:
    """Give what denoising starts from: every picture's noise, or a picture that diffusers adds noise to."""
    if like.pipeline_task == "image_to_image":
        return {"image": [row.image for row in rows], "strength": like.request.strength}
    pipeline: Any = model.pipelines["text_to_image"]
    width, height = like.canvas_size
    noise = _noise(generators, channels=pipeline.vae.config.latent_channels, size=model.latent_size(like.canvas_size))
    latents = noise.to(pipeline.unet.dtype)
    return {"latents": latents, "width": width, "height": height}


def _image_prompt_batch(
    rows: Sequence[Row], *, model: LoadedModel, like: Plan, guidance: bool
) -> ImagePromptBatch | None:
    """Stack the rows' image prompts; None where no row has any, which is plain Stable Diffusion."""
    if not any(row.image_prompts for row in rows):
        return None
    pipeline: Any = model.pipelines["text_to_image"]
    dtype = pipeline.unet.dtype
    width, height = model.latent_size(like.canvas_size)
    return ImagePromptBatch.stack(
        [[prompt.to(dtype, device=model.device) for prompt in row.image_prompts] for row in rows],
        guidance=guidance,
        steps=like.drawn_steps,
        latent_size=(height, width),
    )


def _task_inputs(rows: Sequence[Row], *, like: Plan) -> dict[str, Any]:
    """Give the arguments that only this task's pipeline has."""
    inputs: dict[str, Any] = {}
    if like.pipeline_task == "inpaint":
        # Strength 1 starts from pure noise: what was there before shall not shine through.
        inputs |= {"image": [row.image for row in rows], "mask_image": [row.mask for row in rows], "strength": 1.0}
    if like.pipeline_task == "controlnet":
        request = like.request
        inputs |= {"image": [row.pose for row in rows], "controlnet_conditioning_scale": request.control_scale}
        inputs |= {"control_guidance_start": request.control_start, "control_guidance_end": request.control_end}
    return inputs


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


def _decode(model: LoadedModel, latents: torch.Tensor, *, like: Plan) -> Image.Image:
    """Turn the latents (1, channels, height, width) of one picture into it."""
    pipeline: Any = model.pipelines["text_to_image"]
    upcast = model.family.needs_upcast(pipeline.vae)
    pixels = _finite(
        model, lambda: decode(pipeline.vae, latents, upcast=upcast), when=Message("moment.decoding"), like=like
    )
    return pipeline.image_processor.postprocess(pixels, output_type="pil")[0]


def _finite(model: LoadedModel, work: Callable[[], torch.Tensor], *, when: str, like: Plan) -> torch.Tensor:
    """Carry out work, once more in single precision where its result has infinities or NaN: a black picture.

    That the weights themselves have none was made sure of when they were read.

    Raises:
        UserError: it has them still.
    """
    values = work()
    if not torch.isfinite(values).all() and model.dtype != torch.float32:
        logger.warning("%s ran out of range %s; once more in float32", model.dtype, when)
        with model.in_float32():
            values = work()
    if torch.isfinite(values).all():
        return values
    if like.guidance_scale > 1 or like.uses_references:
        raise UserError("drawing.out_of_range_by_settings", moment=when)
    raise UserError("drawing.out_of_range", moment=when)
