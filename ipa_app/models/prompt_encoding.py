"""Encoding prompts for the UNet: every word counts, with its weight, however few tokens the text encoder takes.

A text encoder reads a fixed number of tokens at once, 77 in Stable Diffusion. A longer prompt is read in chunks, each
with its own begin and end tokens, and the embeddings of all chunks are concatenated. Chunks do not split words.

A token of weight `w` is moved `w` times as far from the embedding of an empty prompt at its position:
`empty + w * (states - empty)`. Source: ComfyUI comfy/sd1_clip.py `ClipTokenWeightEncoder`. AUTOMATIC1111's rule, which
multiplies by `w` and then restores the mean of the whole prompt, changes all other words as well: with the bundled
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
"""Most chunks of a prompt; more than the longest text has in any language that text encoders know."""


class Chunk(NamedTuple):
    """Tokens that a text encoder reads at once, without the begin and end tokens, and the weight of each."""

    ids: list[int]
    weights: list[float]


class TokenizedPrompt(NamedTuple):
    """A prompt as one text encoder reads it: one chunk or more, and the words at its end for which there is no room."""

    chunks: list[Chunk]
    unread: str


class _Word(NamedTuple):
    ids: list[int]
    weight: float
    span: int
    start: int  # in its span, in characters


def tokenize(text: str, tokenizer: Any) -> TokenizedPrompt:
    """Tokenize a prompt for one text encoder.

    Args:
        text: with weights, as typed.
        tokenizer: CLIP's.
    """
    room = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
    spans, chunks = weighted_spans(text), [Chunk([], [])]
    for word in _words(spans, tokenizer):
        # Only a word that is too long for any chunk is split.
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
    """Return the number of chunks in the embeddings of a picture's prompts.

    Both sides of guidance need embeddings of equal length. The shorter ones are repeated, which does not change
    attention, as every token occurs equally often. The number is thus a common multiple of the sides' own numbers.

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
    """Return a pipeline's arguments for the prompts of a batch.

    Args:
        family: of the model.
        pipeline: with its text encoders and tokenizers.
        prompts: one per picture.
        negative_prompts: one per picture; None without guidance.
        device: on which the text encoders run; the pipeline would search all of its modules to find it.

    Returns:
        By diffusers' names, the embeddings of every token (B, C * L, D), and pooled embeddings (B, P) if the UNet takes
        them: of the first chunk, without weights.
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
    """Return the embeddings of every token of texts, (C * L, D) for each text; see `prompt_inputs`."""
    return _encode(family, pipeline, texts, device=device).states


class _Encoded(NamedTuple):
    """The embeddings of several prompts: (C * L, D) for each, and the pooled ones (B, P)."""

    states: list[Tensor]
    pooled: Tensor | None


def _without_empty(encoded: _Encoded, texts: Sequence[str]) -> _Encoded:
    """Replace the embeddings of prompts without words by zeros."""
    is_empty = [not without_weights(text).strip() for text in texts]
    states = [torch.zeros_like(each) if empty else each for each, empty in zip(encoded.states, is_empty, strict=True)]
    pooled = encoded.pooled
    if pooled is not None:
        pooled = pooled.masked_fill(torch.tensor(is_empty, device=pooled.device)[:, None], 0)
    return _Encoded(states, pooled)


def _encode(family: Family, pipeline: Any, texts: Sequence[str], *, device: torch.device) -> _Encoded:
    """Encode prompts with a model's text encoders."""
    tokenizers = [getattr(pipeline, name) for name in family.tokenizers]
    encoders = [getattr(pipeline, name) for name in family.text_encoders]
    prompts = [_paired([tokenize(text, each).chunks for each in tokenizers]) for text in texts]
    rows = [chunks for prompt in prompts for chunks in prompt]

    def encode(rows: Sequence[Sequence[Chunk]]) -> tuple[Tensor, Tensor | None]:
        read = [[_input_ids(chunk, each) for chunk, each in zip(row, tokenizers, strict=True)] for row in rows]
        ids, mask = torch.tensor(read, device=device).unbind(2)
        return family.encode_text(encoders, ids, mask)

    states, pooled = encode(rows)
    weights = _weights(rows, states, encoders)
    if weights is not None:
        empty, _ = encode([[Chunk([], [])] * len(tokenizers)])
        # Tokens without a weight stay bit-identical.
        states = torch.where(weights == 1, states, empty + (states - empty) * weights)
    counts = [len(prompt) for prompt in prompts]
    if pooled is not None:
        pooled = pooled[[sum(counts[:number]) for number in range(len(counts))]]
    return _Encoded([part.flatten(0, 1) for part in states.split(counts)], pooled)


def _paired(prompts: Sequence[list[Chunk]]) -> list[list[Chunk]]:
    """Pair the chunks of several encoders; an encoder with fewer chunks reads empty prompts for the rest."""
    length = max(map(len, prompts))
    padded = [[*chunks, *[Chunk([], [])] * (length - len(chunks))] for chunks in prompts]
    return [list(row) for row in zip(*padded, strict=True)]


def _input_ids(chunk: Chunk, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return a chunk's token ids, with padding, and their attention mask."""
    ids = [tokenizer.bos_token_id, *chunk.ids, tokenizer.eos_token_id]
    padding = tokenizer.model_max_length - len(ids)
    return ids + [tokenizer.pad_token_id] * padding, [1] * len(ids) + [0] * padding


def _weights(rows: Sequence[Sequence[Chunk]], states: Tensor, encoders: Sequence[Any]) -> Tensor | None:
    """Return the weight of every element of the embeddings, (N, L, D); None if all are 1."""
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
