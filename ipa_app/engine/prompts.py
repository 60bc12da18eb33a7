"""A plan's prompts as the text encoders read them, and which of their words are not used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ipa_app.engine.plan import Plan
from ipa_app.engine.references import words_of_region
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.wording import readable
from ipa_app.messages import Message
from ipa_app.models.prompt_encoding import chunk_count, tokenize
from ipa_app.options import options

_SHOWN_CHARACTERS = 300


class ReadPrompts(NamedTuple):
    """The text encoders' inputs.

    Attributes:
        prompt: what to draw.
        negative_prompt: what not to draw.
        chunks: number of chunks in the prompt embeddings of both.
    """

    prompt: str
    negative_prompt: str
    chunks: int


def read_prompts(plan: Plan, tokenizers: Sequence[Any]) -> ReadPrompts:
    """Return the prompts of a plan as they are read; see `prompt_notes`."""
    prompt, negative_prompt = _as_read(plan)
    guided = negative_prompt if plan.guidance_scale > 1 else None
    return ReadPrompts(prompt, negative_prompt, chunk_count(prompt, guided, tokenizers))


def read_region_prompts(plan: Plan) -> tuple[str, ...]:
    """Return the words of each reference's region as they are read; empty where it has none."""
    return tuple(plan.entry.in_own_words(readable(text)) for text in plan.region_prompts)


def prompt_notes(plan: Plan, tokenizers: Sequence[Any]) -> list[Message]:
    """Return messages on which words of a request were not used: those at the end of very long prompts.

    Args:
        plan: of the request.
        tokenizers: of its model, one per text encoder.
    """
    title, (prompt, negative_prompt) = plan.entry.title, _as_read(plan)
    declared = options(GenerateRequest)
    read = {declared["prompt"].called: prompt}
    if plan.guidance_scale > 1:
        read[declared["negative_prompt"].called] = negative_prompt
    read |= {words_of_region(number): text for number, text in enumerate(read_region_prompts(plan), start=1)}
    notes: list[Message] = []
    for called, text in read.items():
        notes += _unread_notes(called, text, title=title, tokenizers=tokenizers)
    if plan.guidance_scale > 1:
        return notes
    if plan.request.negative_prompt.strip() and plan.fast is None:
        notes.append(Message("prompt.negative_without_guidance"))
    return notes


def _as_read(plan: Plan) -> tuple[str, str]:
    """Return both prompts as given to the text encoders: in ordinary letters, and in words that the model knows."""
    prompt, negative_prompt = (plan.entry.in_own_words(readable(text)) for text in plan.prompts)
    return prompt, negative_prompt


def _unread_notes(prompt: Message, text: str, *, title: str, tokenizers: Sequence[Any]) -> list[Message]:
    least, *more = sorted({tokenize(text, tokenizer).unread for tokenizer in tokenizers}, key=len)
    notes = []
    if least:
        notes.append(Message("prompt.too_long", prompt=prompt, title=title, words=_shown(least)))
    if more:
        notes.append(Message("prompt.too_long_for_one_encoder", prompt=prompt, title=title, words=_shown(more[0])))
    return notes


def _shown(words: str) -> str:
    """Shorten a long text by leaving out its middle."""
    words = " ".join(words.split())
    if len(words) <= _SHOWN_CHARACTERS:
        return words
    first, last = words[: _SHOWN_CHARACTERS // 2], words[-_SHOWN_CHARACTERS // 2 :]
    return f"{first.rsplit(' ', 1)[0]} … {last.split(' ', 1)[-1]}"
