"""Drawing one batch: rows in, pictures out. Where the engine meets diffusers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from diffusers import StableDiffusionImg2ImgPipeline

from ipa_app.adapter import ImagePromptBatch
from ipa_app.engine.plan import Plan
from ipa_app.engine.rows import Row
from ipa_app.errors import UserError

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
) -> list[Image.Image]:
    """Draw pictures in one batch.

    Args:
        model: what draws.
        rows: one per picture.
        like: whose size, steps, guidance and task all of them share.
        on_step: told after every step, and when the last one is done before the pictures are decoded.
        previewer: looks at the pictures while they are drawn, and changes nothing in them.

    Returns:
        A picture per row, mode "RGB".

    Raises:
        UserError: the model's numbers ran out of range, in single precision too.
    """

    def denoise() -> torch.Tensor:
        return _denoise(model, rows, like=like, on_step=on_step, previewer=previewer)

    latents = _finite(model, denoise, when="while denoising")
    return [_decode(model, latents[index : index + 1]) for index in range(len(rows))]


def _denoise(
    model: LoadedModel, rows: Sequence[Row], *, like: Plan, on_step: OnStep, previewer: Previewer | None
) -> torch.Tensor:
    """Denoise the rows' latents (batch, channels, height, width)."""
    pipeline: Any = _pipeline(model, like)
    if previewer is not None:
        previewer.follow(pipeline.scheduler)
    batch = _image_prompt_batch(rows, like=like, dtype=pipeline.unet.dtype)

    def after_step(_pipeline: DiffusionPipeline, step: int, _timestep: object, tensors: dict) -> dict:
        if batch is not None:
            batch.at_step(step + 1)
        if previewer is not None:
            previewer.after_step(pipeline, rows, step=step + 1, steps=like.drawn_steps, latents=tensors["latents"])
        on_step(step + 1)
        return {}

    generators = [torch.Generator().manual_seed(row.seed) for row in rows]
    return pipeline(
        prompt=[row.prompt for row in rows],
        negative_prompt=[row.negative_prompt for row in rows],
        num_inference_steps=like.steps,
        guidance_scale=like.guidance_scale,
        generator=generators,
        cross_attention_kwargs=None if batch is None else {"image_prompt": batch},
        callback_on_step_end=after_step,
        output_type="latent",
        **_start_inputs(pipeline, rows, like=like, generators=generators),
        **_task_inputs(rows, like=like),
    ).images


def _pipeline(model: LoadedModel, like: Plan) -> Any:
    """Give the pipeline for one call; the one that starts from a picture is made of the parts of text-to-image."""
    if like.pipeline_task != "image_to_image":
        return model.pipeline(like.pipeline_task)
    pipeline = StableDiffusionImg2ImgPipeline(
        **model.pipeline("text_to_image").components, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _start_inputs(
    pipeline: Any, rows: Sequence[Row], *, like: Plan, generators: Sequence[torch.Generator]
) -> dict[str, Any]:
    """Give what denoising starts from: every picture's noise, or a picture that diffusers adds noise to."""
    if like.pipeline_task == "image_to_image":
        return {"image": [row.image for row in rows], "strength": like.request.strength}
    width, height = like.canvas_size
    latents = _noise(pipeline, generators, size=like.canvas_size).to(pipeline.unet.dtype)
    return {"latents": latents, "width": width, "height": height}


def _image_prompt_batch(rows: Sequence[Row], *, like: Plan, dtype: torch.dtype) -> ImagePromptBatch | None:
    """Stack the rows' image prompts; None where no row has any, which is plain Stable Diffusion."""
    if not any(row.image_prompts for row in rows):
        return None
    return ImagePromptBatch.stack(
        [[prompt.to(dtype) for prompt in row.image_prompts] for row in rows],
        guidance=like.guidance_scale > 1,
        steps=like.drawn_steps,
    )


def _task_inputs(rows: Sequence[Row], *, like: Plan) -> dict[str, Any]:
    """Give the arguments that only this task's pipeline has."""
    inputs: dict[str, Any] = {}
    if like.pipeline_task == "inpaint":
        # Strength 1 starts from pure noise: what was there before shall not shine through.
        inputs |= {"image": [row.image for row in rows], "mask_image": [row.mask for row in rows], "strength": 1.0}
    if like.pipeline_task == "pose":
        request = like.request
        inputs |= {"image": [row.pose for row in rows], "controlnet_conditioning_scale": request.control_scale}
        inputs |= {"control_guidance_start": request.control_start, "control_guidance_end": request.control_end}
    return inputs


def _noise(
    pipeline: DiffusionPipeline, generators: Sequence[torch.Generator], *, size: tuple[int, int]
) -> torch.Tensor:
    """Draw every picture's noise from its own generator, on the CPU, so that no other picture or device changes it.

    Returns:
        (batch, channels, height / factor, width / factor) float32, of variance 1.
    """
    factor = pipeline.vae_scale_factor
    shape = (1, pipeline.vae.config.latent_channels, size[1] // factor, size[0] // factor)
    return torch.cat([torch.randn(shape, generator=generator) for generator in generators])


def _decode(model: LoadedModel, latents: torch.Tensor) -> Image.Image:
    """Turn the latents (1, channels, height, width) of one picture into it."""
    pipeline: Any = model.pipelines["text_to_image"]
    vae = pipeline.vae

    def decode() -> torch.Tensor:
        return vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor, return_dict=False)[0]

    pixels = _finite(model, decode, when="while decoding")
    return pipeline.image_processor.postprocess(pixels, output_type="pil")[0]


def _finite(model: LoadedModel, work: Callable[[], torch.Tensor], *, when: str) -> torch.Tensor:
    """Carry out work, once more in single precision where its result has infinities or NaN: a black picture.

    Raises:
        UserError: it has them still.
    """
    values = work()
    if not torch.isfinite(values).all() and model.dtype != torch.float32:
        logger.warning("%s ran out of range %s; once more in float32", model.dtype, when)
        with model.in_float32():
            values = work()
    if not torch.isfinite(values).all():
        raise UserError(
            f"The model's numbers ran out of range {when}, so there is no picture; please lower the guidance or the "
            "scale."
        )
    return values
