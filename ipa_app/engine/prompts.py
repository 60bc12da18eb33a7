"""What a batch's pipeline is told in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ipa_app.engine.plan import Plan
from ipa_app.engine.rows import Row
from ipa_app.engine.wording import readable

_SHOWN_CHARACTERS = 300


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


def prompt_notes(plan: Plan, pipeline: Any) -> list[str]:
    """Say which words of a request were not used: text encoders read so many tokens, and not what comes after them.

    Args:
        plan: of the request.
        pipeline: of its model, of either family.
    """
    request, title = plan.request, plan.entry.title
    notes = _unread_notes("The prompt", request.prompt, title=title, pipeline=pipeline)
    if request.negative_prompt and plan.guidance_scale > 1:
        notes += _unread_notes("The negative prompt", request.negative_prompt, title=title, pipeline=pipeline)
    elif request.negative_prompt.strip():
        notes.append("Without guidance the negative prompt has no effect: please set the guidance above 1.")
    return notes


def _unread_notes(name: str, text: str, *, title: str, pipeline: Any) -> list[str]:
    tokenizers = [pipeline.tokenizer, *filter(None, [getattr(pipeline, "tokenizer_2", None)])]
    least, *more = sorted({unread(readable(text), tokenizer) for tokenizer in tokenizers}, key=len)
    notes = []
    if least:
        notes.append(f"{name} is longer than {title} can read; these words are not used: “{_shown(least)}”.")
    if more:
        notes.append(f"{name} is longer than one text encoder of {title} can read; it misses: “{_shown(more[0])}”.")
    return notes


def unread(text: str, tokenizer: Any) -> str:
    """Find what of a text a tokenizer cuts off at its end, from the beginning of the word; empty where it is nothing.

    Args:
        text: a prompt.
        tokenizer: CLIP's.
    """
    most = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
    places = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    if len(places) <= most:
        return ""
    start = places[most][0]
    while 0 < start < len(text) and text[start - 1].isalnum() and text[start].isalnum():
        start -= 1
    return text[start:].strip(" ,.;:")


def _shown(words: str) -> str:
    """Shorten a long text in its middle."""
    words = " ".join(words.split())
    if len(words) <= _SHOWN_CHARACTERS:
        return words
    first, last = words[: _SHOWN_CHARACTERS // 2], words[-_SHOWN_CHARACTERS // 2 :]
    return f"{first.rsplit(' ', 1)[0]} … {last.split(' ', 1)[-1]}"
