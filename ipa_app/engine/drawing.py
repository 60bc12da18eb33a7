"""Drawing one batch: rows in, pictures out. Where the engine meets diffusers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ipa_app.adapter import ImagePromptBatch
from ipa_app.engine.plan import Plan
from ipa_app.engine.rows import Row
from ipa_app.errors import UserError

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from PIL import Image

    from ipa_app.models.loaded import LoadedModel

OnStep = Callable[[int], None]
"""Told how many denoising steps are done; may raise to stop."""


@torch.inference_mode()
def draw(model: LoadedModel, rows: Sequence[Row], *, like: Plan, on_step: OnStep) -> list[Image.Image]:
    """Draw pictures in one batch.

    Args:
        model: what draws.
        rows: one per picture.
        like: whose size, steps, guidance and task all of them share.
        on_step: told after every step, and when the last one is done before the pictures are decoded.

    Returns:
        A picture per row, mode "RGB".

    Raises:
        UserError: the model's numbers ran out of range.
    """
    pipeline: Any = model.pipeline(like.pipeline_task)
    batch = _image_prompt_batch(rows, like=like)

    def after_step(_pipeline: DiffusionPipeline, step: int, _timestep: object, _tensors: dict) -> dict:
        if batch is not None:
            batch.at_step(step + 1)
        on_step(step + 1)
        return {}

    generators = [torch.Generator().manual_seed(row.seed) for row in rows]
    latents = pipeline(
        prompt=[row.prompt for row in rows],
        negative_prompt=[row.negative_prompt for row in rows],
        num_inference_steps=like.steps,
        guidance_scale=like.guidance_scale,
        latents=_noise(pipeline, generators, size=like.canvas_size).to(model.dtype),
        generator=generators,
        cross_attention_kwargs=None if batch is None else {"image_prompt": batch},
        callback_on_step_end=after_step,
        output_type="latent",
        **_task_inputs(rows, like=like),
    ).images
    return [_decode(pipeline, latents[index : index + 1]) for index in range(len(rows))]


def _image_prompt_batch(rows: Sequence[Row], *, like: Plan) -> ImagePromptBatch | None:
    """Stack the rows' image prompts; None where no row has any, which is plain Stable Diffusion."""
    if not any(row.image_prompts for row in rows):
        return None
    return ImagePromptBatch.stack(
        [row.image_prompts for row in rows], guidance=like.guidance_scale > 1, steps=like.steps
    )


def _task_inputs(rows: Sequence[Row], *, like: Plan) -> dict[str, Any]:
    """Give the arguments that only this task's pipeline has."""
    width, height = like.canvas_size
    inputs: dict[str, Any] = {"width": width, "height": height}
    if like.pipeline_task == "inpaint":
        # Strength 1 starts from pure noise: what was there before shall not shine through.
        inputs |= {"image": [row.image for row in rows], "mask_image": [row.mask for row in rows], "strength": 1.0}
    if like.pipeline_task == "pose":
        control_scale = like.request.control_scale
        inputs |= {"image": [row.pose for row in rows], "controlnet_conditioning_scale": control_scale}
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


def _decode(pipeline: DiffusionPipeline, latents: torch.Tensor) -> Image.Image:
    """Turn the latents (1, channels, height, width) of one picture into it.

    Raises:
        UserError: there are infinities or NaN in them, which would give a black picture.
    """
    _check_finite(latents, "while denoising")
    pixels = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor, return_dict=False)[0]
    _check_finite(pixels, "while decoding")
    return pipeline.image_processor.postprocess(pixels, output_type="pil")[0]


def _check_finite(values: torch.Tensor, when: str) -> None:
    if not torch.isfinite(values).all():
        raise UserError(
            f"The model's numbers ran out of range {when} ({str(values.dtype).removeprefix('torch.')} on "
            f"{values.device.type}), so there is no picture; please lower the guidance or the scale."
        )
