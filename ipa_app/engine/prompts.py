"""Which words of a prompt are not read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ipa_app.engine.plan import Plan
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.wording import readable
from ipa_app.messages import Message
from ipa_app.options import options

_SHOWN_CHARACTERS = 300


def prompt_notes(plan: Plan, tokenizers: Sequence[Any]) -> list[Message]:
    """Return which words of a request were not used: text encoders read so many tokens, and not what comes after them.

    Args:
        plan: of the request.
        tokenizers: of its model, one per text encoder.
    """
    request, title = plan.request, plan.entry.title
    notes = _unread_notes("prompt", request.prompt, title=title, tokenizers=tokenizers)
    if request.negative_prompt and plan.guidance_scale > 1:
        notes += _unread_notes("negative_prompt", request.negative_prompt, title=title, tokenizers=tokenizers)
    elif request.negative_prompt.strip():
        notes.append(Message("prompt.negative_without_guidance"))
    return notes


def _unread_notes(name: str, text: str, *, title: str, tokenizers: Sequence[Any]) -> list[Message]:
    prompt = options(GenerateRequest)[name].called
    least, *more = sorted({unread(readable(text), tokenizer) for tokenizer in tokenizers}, key=len)
    notes = []
    if least:
        notes.append(Message("prompt.too_long", prompt=prompt, title=title, words=_shown(least)))
    if more:
        notes.append(Message("prompt.too_long_for_one_encoder", prompt=prompt, title=title, words=_shown(more[0])))
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
