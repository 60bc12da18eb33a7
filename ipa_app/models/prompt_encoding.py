"""Prompts as a UNet is told them: every word counts, with its weight, however many tokens the text encoder takes.

A text encoder reads so many tokens at once, 77 in Stable Diffusion. A longer prompt is read in chunks, each between its
own marks of beginning and end, and the UNet is told what is said of all of them, one after the other. Words are not cut
between two chunks.

A token that counts `w` times as much is led `w` times as far away from what an empty prompt says at its place:
`empty + w * (states - empty)`. Source: ComfyUI comfy/sd1_clip.py `ClipTokenWeightEncoder`. AUTOMATIC1111's rule, which
multiplies by `w` and then brings the mean of the whole prompt back, changes all other words as well: with the bundled
model whole figures come apart at a weight of 3, where this rule still draws them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ipa_app.models.prompt_weights import Span, weighted_spans, without_weights

if TYPE_CHECKING:
    from torch import Tensor

    from ipa_app.models.families import Family

MOST_CHUNKS = 10
"""Of a prompt; more than its longest text comes to in any language that text encoders know."""


class Chunk(NamedTuple):
    """Tokens that a text encoder reads at once, without those of beginning and end, and the weight of each."""

    ids: list[int]
    weights: list[float]


class TokenizedPrompt(NamedTuple):
    """A prompt as one text encoder reads it: one chunk or more, and the words for which there are too many."""

    chunks: list[Chunk]
    unread: str


class _Word(NamedTuple):
    ids: list[int]
    weight: float
    span: int
    start: int  # in its span, in characters


def tokenize(text: str, tokenizer: Any) -> TokenizedPrompt:
    """Read a prompt for one text encoder.

    Args:
        text: with weights, as people write them.
        tokenizer: CLIP's.
    """
    room = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
    spans, chunks = weighted_spans(text), [Chunk([], [])]
    for word in _words(spans, tokenizer):
        # Only a word that no chunk has room for is cut.
        pieces = [word.ids[start : start + room] for start in range(0, len(word.ids), room)]
        for piece in pieces:
            if len(chunks[-1].ids) + len(piece) > room:
                if len(chunks) == MOST_CHUNKS:
                    rest = spans[word.span].text[word.start :], *(span.text for span in spans[word.span + 1 :])
                    return TokenizedPrompt(chunks, "".join(rest).strip(" ,.;:"))
                chunks.append(Chunk([], []))
            chunks[-1].ids.extend(piece)
            chunks[-1].weights.extend([word.weight] * len(piece))
    return TokenizedPrompt(chunks, "")


def _words(spans: Sequence[Span], tokenizer: Any) -> list[_Word]:
    words: list[_Word] = []
    for number, (text, weight) in enumerate(spans):
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        previous = None
        for index, place, (start, _) in zip(encoded.input_ids, encoded.word_ids(), encoded.offset_mapping, strict=True):
            if place != previous or not words:
                words.append(_Word([], weight, number, start))
            words[-1].ids.append(index)
            previous = place
    return words


def chunk_count(prompt: str, negative_prompt: str | None, tokenizers: Sequence[Any]) -> int:
    """Return of how many chunks what a UNet is told of a picture's prompts comes to be.

    A UNet is told as much on both sides of guidance. What is shorter is repeated, which changes nothing to attention:
    each token has its share as often. So both sides have a common multiple of their own numbers.

    Args:
        prompt: what to draw.
        negative_prompt: what not to draw; None without guidance.
        tokenizers: one per text encoder.
    """
    sides = [prompt] if negative_prompt is None else [prompt, negative_prompt]
    return math.lcm(*(max(len(tokenize(text, each).chunks) for each in tokenizers) for text in sides))


def prompt_inputs(
    family: Family,
    pipeline: Any,
    prompts: Sequence[str],
    negative_prompts: Sequence[str] | None,
    *,
    device: torch.device,
) -> dict[str, Tensor]:
    """Return the arguments by which a pipeline takes the prompts of a batch.

    Args:
        family: of the model.
        pipeline: with its text encoders and tokenizers.
        prompts: one per picture.
        negative_prompts: one per picture; None without guidance.
        device: on which the text encoders run. The pipeline would look through all of its modules to tell it.

    Returns:
        By diffusers' names, what is said of every token (B, C * L, D), and of whole prompts (B, P) where the UNet is
        told: of the first chunk, without weights.
    """
    sides = {"": _encode(family, pipeline, prompts, device=device)}
    if negative_prompts is not None:
        sides["negative_"] = _encode(family, pipeline, negative_prompts, device=device)
        if family.zeros_for_empty(pipeline):
            sides["negative_"] = _without_empty(sides["negative_"], negative_prompts)
    length = math.lcm(*(len(states) for encoded in sides.values() for states in encoded.states))
    inputs = {}
    for side, encoded in sides.items():
        repeated = [states.repeat(length // len(states), 1) for states in encoded.states]
        inputs[f"{side}prompt_embeds"] = torch.stack(repeated)
        if encoded.pooled is not None:
            inputs[f"{side}pooled_prompt_embeds"] = encoded.pooled
    return inputs


def token_states(family: Family, pipeline: Any, texts: Sequence[str], *, device: torch.device) -> list[Tensor]:
    """Return what a model's text encoders say of every token of texts, (C * L, D) of each; see `prompt_inputs`."""
    return _encode(family, pipeline, texts, device=device).states


class _Encoded(NamedTuple):
    """What text encoders say of several prompts: of each (C * L, D), and of the whole of each (B, P)."""

    states: list[Tensor]
    pooled: Tensor | None


def _without_empty(encoded: _Encoded, texts: Sequence[str]) -> _Encoded:
    """Put zeros in place of what is said of prompts without words."""
    is_empty = [not without_weights(text).strip() for text in texts]
    states = [torch.zeros_like(each) if empty else each for each, empty in zip(encoded.states, is_empty, strict=True)]
    pooled = encoded.pooled
    if pooled is not None:
        pooled = pooled.masked_fill(torch.tensor(is_empty, device=pooled.device)[:, None], 0)
    return _Encoded(states, pooled)


def _encode(family: Family, pipeline: Any, texts: Sequence[str], *, device: torch.device) -> _Encoded:
    """Return what a model's text encoders say of prompts."""
    tokenizers = [getattr(pipeline, name) for name in family.tokenizers]
    encoders = [getattr(pipeline, name) for name in family.text_encoders]
    prompts = [_paired([tokenize(text, each).chunks for each in tokenizers]) for text in texts]
    rows = [chunks for prompt in prompts for chunks in prompt]

    def encode(rows: Sequence[Sequence[Chunk]]) -> tuple[Tensor, Tensor | None]:
        ids = [[_input_ids(chunk, each) for chunk, each in zip(row, tokenizers, strict=True)] for row in rows]
        return family.encode_text(encoders, torch.tensor(ids, device=device))

    states, pooled = encode(rows)
    weights = _weights(rows, states, encoders)
    if weights is not None:
        empty, _ = encode([[Chunk([], [])] * len(tokenizers)])
        # What has no weight stays as it is, bit for bit.
        states = torch.where(weights == 1, states, empty + (states - empty) * weights)
    counts = [len(prompt) for prompt in prompts]
    if pooled is not None:
        pooled = pooled[[sum(counts[:number]) for number in range(len(counts))]]
    return _Encoded([part.flatten(0, 1) for part in states.split(counts)], pooled)


def _paired(prompts: Sequence[list[Chunk]]) -> list[list[Chunk]]:
    """Put the chunks of several encoders beside each other; one with fewer reads an empty prompt for the rest."""
    length = max(map(len, prompts))
    padded = [[*chunks, *[Chunk([], [])] * (length - len(chunks))] for chunks in prompts]
    return [list(row) for row in zip(*padded, strict=True)]


def _input_ids(chunk: Chunk, tokenizer: Any) -> list[int]:
    ids = [tokenizer.bos_token_id, *chunk.ids, tokenizer.eos_token_id]
    return ids + [tokenizer.pad_token_id] * (tokenizer.model_max_length - len(ids))


def _weights(rows: Sequence[Sequence[Chunk]], states: Tensor, encoders: Sequence[Any]) -> Tensor | None:
    """Return the weight of every number that the encoders say, (N, L, D); None where all are 1."""
    if all(weight == 1 for row in rows for chunk in row for weight in chunk.weights):
        return None
    weights = torch.ones_like(states)
    for number, row in enumerate(rows):
        begin = 0
        for chunk, encoder in zip(row, encoders, strict=True):
            end = begin + encoder.config.hidden_size
            weights[number, 1 : len(chunk.weights) + 1, begin:end] = weights.new_tensor(chunk.weights)[:, None]
            begin = end
    return weights
