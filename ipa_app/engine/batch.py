"""Batches: what is specific to one picture of a batch, and how many pictures go into one."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

    from ipa_app.adapter import ImagePrompt, RegionalPrompt
    from ipa_app.engine.plan import Plan
    from ipa_app.models.loaded import LoadedModel

EXACT_BATCH_LIMIT = 1
"""Libraries choose their kernels by batch size, and different kernels round differently: on a CPU, rows of a batch of
2 to 8 differed from the same rows alone by 2e-6 in the UNet and 1e-5 in the decoder, in single precision. For a picture
to be the same bytes alone or beside others, it must be drawn alone."""
EVERY_STEP = range(sys.maxsize)
USUAL_BATCH_LIMIT = 8
SMALL_UNET = 50_000_000
"""Largest number of UNet weights with which pictures share a batch on a CPU, too. With the bundled model's 7 million
that is faster (`python -m bench.speed`); where one picture takes minutes, the first should not wait for the last."""


@dataclass(frozen=True, kw_only=True)
class BatchItem:
    """One picture of a batch.

    Attributes:
        prompt: what to draw.
        negative_prompt: what not to draw.
        seed: of its noise.
        guided: the steps that have guidance, if the batch has any.
        chunks: number of chunks in its prompt embeddings; the same in the whole batch.
        image_prompts: pictures used as a prompt, with their scales; none for plain Stable Diffusion.
        regional_prompts: words that replace the prompt in parts of the picture.
        image: the picture to change or to start from, at the size that is drawn.
        mask: mode "L" of the same size, white where that picture changes.
        control_image: the ControlNet's input, at the size that is drawn.
        is_draft: whether the model's small decoder, if it has one, is good enough.
    """

    prompt: str
    negative_prompt: str
    seed: int
    guided: range = EVERY_STEP
    chunks: int = 1
    image_prompts: tuple[ImagePrompt, ...] = ()
    regional_prompts: tuple[RegionalPrompt, ...] = ()
    image: Image.Image | None = None
    mask: Image.Image | None = None
    control_image: Image.Image | None = None
    is_draft: bool = False


def usual_batch_limit(model: LoadedModel, *, exact: bool) -> int:
    """Return the best number of pictures per batch for a model.

    Args:
        model: that draws.
        exact: whether a picture must be the same bytes alone or beside others.
    """
    pipeline: Any = model.pipelines["text_to_image"]
    is_on_gpu = model.device.type != "cpu"
    shares = is_on_gpu or sum(weight.numel() for weight in pipeline.unet.parameters()) <= SMALL_UNET
    return USUAL_BATCH_LIMIT if shares and not exact else EXACT_BATCH_LIMIT


def fitting_batch(limit: int, plan: Plan) -> int:
    """Return how many pictures of a plan's size fit in a batch for `limit` of the model's own size; at least one."""
    width, height = plan.canvas_size
    return max(1, min(limit, limit * plan.entry.width * plan.entry.height // (width * height)))
