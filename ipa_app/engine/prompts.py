"""What a batch's pipeline is told in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ipa_app.engine.rows import Row


def text_inputs(pipeline: Any, rows: Sequence[Row], *, guidance: bool) -> dict[str, Any]:
    """Give the arguments by which a pipeline takes the prompts of all rows.

    SDXL takes "no negative prompt" as zeros where the model says so, and an empty text as a text. Its pipelines decide
    that for a whole batch; here every row has what it would have alone.

    Args:
        pipeline: of either family.
        rows: one per picture.
        guidance: whether the call is guided, and so needs the negative side.
    """
    prompts, negatives = [row.prompt for row in rows], [row.negative_prompt for row in rows]
    if not hasattr(pipeline, "text_encoder_2"):
        return {"prompt": prompts, "negative_prompt": negatives}
    embeds, negative_embeds, pooled, negative_pooled = pipeline.encode_prompt(
        prompt=prompts, negative_prompt=negatives, do_classifier_free_guidance=guidance
    )
    if guidance and pipeline.config.force_zeros_for_empty_prompt:
        empty = torch.tensor([not text.strip() for text in negatives], device=negative_embeds.device)
        negative_embeds = negative_embeds.masked_fill(empty[:, None, None], 0)
        negative_pooled = negative_pooled.masked_fill(empty[:, None], 0)
    return {
        "prompt_embeds": embeds,
        "negative_prompt_embeds": negative_embeds,
        "pooled_prompt_embeds": pooled,
        "negative_pooled_prompt_embeds": negative_pooled,
    }
