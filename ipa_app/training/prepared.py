"""Batches from a data file: encoded once and kept where that fits, opened as they are needed where not."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ipa_app.training.data import Example, ExampleReader, OpenedExample
from ipa_app.training.encoding import FrozenEncoder
from ipa_app.training.examples import TextStates, TrainingBatch

logger = logging.getLogger(__name__)

ENCODE_ROWS = 16
"""Pictures encoded at a time; bounded, as VAE and vision tower need memory for each."""


@dataclass(frozen=True, kw_only=True)
class EncodedExamples:
    """Examples as the frozen base model sees them, in memory. Pictures are never augmented, so this is exact.

    Attributes:
        latents: (N, C, h, w) posterior mean, scaled.
        latents_std: (N, C, h, w).
        features: (N, clip_dim) or (N, S, hidden).
        text_states: (M, L, D), one per different text.
        text_rows: (N,) which of them belongs to each example.
        time_ids: (N, 6) for SDXL, else None.
        pooled_text: (M, P) one per different text for SDXL, else None.
    """

    latents: Tensor
    latents_std: Tensor
    features: Tensor
    text_states: Tensor
    text_rows: Tensor
    time_ids: Tensor | None = None
    pooled_text: Tensor | None = None

    def __len__(self) -> int:
        """Number of examples N."""
        return len(self.latents)

    def batch(self, indices: Sequence[int]) -> TrainingBatch:
        """The examples at these positions."""
        rows = torch.tensor(indices)
        return TrainingBatch(
            latents=self.latents[rows],
            latents_std=self.latents_std[rows],
            features=self.features[rows],
            text_states=self.text_states[self.text_rows[rows]],
            time_ids=None if self.time_ids is None else self.time_ids[rows],
            pooled_text=None if self.pooled_text is None else self.pooled_text[self.text_rows[rows]],
        )


def encoded_bytes(reader: ExampleReader, encoder: FrozenEncoder, *, texts: int) -> int:
    """Bytes that all examples take once encoded, judged by the first good one.

    Args:
        reader: the examples.
        encoder: of the frozen base model.
        texts: number of different texts.
    """
    example = encoder.encode(raw_batch([reader.open_or_next(0)], encoder))
    per_picture = 2 * _bytes(example.latents) + _bytes(example.features)
    per_text = _bytes(example.text_states) + (0 if example.pooled_text is None else _bytes(example.pooled_text))
    return per_picture * len(reader) + per_text * texts


def encode_examples(examples: Sequence[Example], reader: ExampleReader, encoder: FrozenEncoder) -> EncodedExamples:
    """Encode every good example; the bad ones are left out.

    Args:
        examples: what the reader opens.
        reader: opens and counts them.
        encoder: of the frozen base model.
    """
    parts: dict[str, Tensor] = {}
    good: list[int] = []
    for first in range(0, len(examples), ENCODE_ROWS):
        numbers = range(first, min(first + ENCODE_ROWS, len(examples)))
        opened = {number: example for number in numbers if (example := reader.open(number)) is not None}
        if opened:
            rows = encoder.encode(raw_batch(list(opened.values()), encoder))
            values = {name: getattr(rows, name) for name in ("latents", "latents_std", "features", "time_ids")}
            given = {name: value for name, value in values.items() if value is not None}
            _store(parts, given, at=len(good), total=len(examples))
            good.extend(opened)
        logger.info("encoded %d of %d examples", numbers[-1] + 1, len(examples))
    reader.open_or_next(0)  # raises when nothing was good
    texts = [examples[index].text for index in good]
    row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    words = _encode_texts(list(row_of), encoder)
    return EncodedExamples(
        **{name: tensor[: len(good)] for name, tensor in parts.items()},
        text_states=words.states,
        pooled_text=words.pooled,
        text_rows=torch.tensor([row_of[text] for text in texts]),
    )


def _encode_texts(texts: Sequence[str], encoder: FrozenEncoder) -> TextStates:
    chunks = (texts[first : first + ENCODE_ROWS] for first in range(0, len(texts), ENCODE_ROWS))
    encoded = [encoder.text_states(encoder.input_ids(chunk)) for chunk in chunks]
    pooled = [words.pooled.cpu() for words in encoded if words.pooled is not None]
    return TextStates(torch.cat([words.states.cpu() for words in encoded]), torch.cat(pooled) if pooled else None)


def _store(parts: dict[str, Tensor], values: dict[str, Tensor], *, at: int, total: int) -> None:
    """Write rows into tensors allocated once, so that memory never holds everything twice."""
    for name, value in values.items():
        rows = value.cpu()
        if name not in parts:
            parts[name] = torch.empty(total, *rows.shape[1:], dtype=rows.dtype)
        parts[name][at : at + len(rows)] = rows


def cached_examples(
    examples: Sequence[Example], reader: ExampleReader, encoder: FrozenEncoder, *, folder: Path, identity: object
) -> EncodedExamples:
    """Encoded examples, read from the output folder where an earlier run left them.

    Args:
        examples: what the reader opens.
        reader: opens and counts them.
        encoder: of the frozen base model.
        folder: where the file is kept.
        identity: JSON-able; says which base model, kind and size the encoding belongs to.
    """
    file = folder / f"encoded-{fingerprint(examples, identity)}.safetensors"
    if file.is_file():
        logger.info("encoded examples read from %s", file)
        return EncodedExamples(**load_file(file))
    encoded = encode_examples(examples, reader, encoder)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(f".{os.getpid()}.unfinished")
    given = {name: tensor.contiguous() for name, tensor in vars(encoded).items() if tensor is not None}
    save_file(given, unfinished)
    unfinished.replace(file)
    return encoded


def fingerprint(examples: Sequence[Example], identity: object) -> str:
    """A name that changes whenever a file, a text or what encodes them does."""
    paths = {path for example in examples for path in (example.image, example.reference)}
    files = {str(path): stamp(path) for path in sorted(paths)}
    texts = [(str(example.image), example.text, str(example.reference)) for example in examples]
    return hashlib.sha256(json.dumps([texts, files, identity]).encode()).hexdigest()[:16]


def stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of a file, None when it is missing."""
    if not path.is_file():
        return None
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def raw_batch(opened: Sequence[OpenedExample], encoder: FrozenEncoder) -> TrainingBatch:
    """A batch of opened examples, for the loop to encode."""
    return TrainingBatch(
        pixel_values=torch.stack([example.pixel_values for example in opened]),
        input_ids=encoder.input_ids([example.text for example in opened]),
        time_ids=torch.tensor([example.time_ids for example in opened]),
        clip_pixels=encoder.clip_pixels([example.reference for example in opened]),
    )


def opened_batches(
    indices: Iterator[list[int]], reader: ExampleReader, encoder: FrozenEncoder, *, workers: int
) -> Iterator[TrainingBatch]:
    """Batches opened while the batch before is trained on, for data too large to keep encoded.

    Args:
        indices: positions of each batch's examples.
        reader: opens them; a bad one is replaced by the next good one.
        encoder: tokenizes and normalises.
        workers: threads that open pictures.
    """
    with ThreadPoolExecutor(workers) as pool:
        ahead = [pool.submit(reader.open_or_next, index) for index in next(indices)]
        for following in indices:
            current, ahead = ahead, [pool.submit(reader.open_or_next, index) for index in following]
            yield raw_batch([future.result() for future in current], encoder)


def _bytes(tensor: Tensor) -> int:
    return tensor.element_size() * tensor.nelement()
