"""Batches from examples: encoded once and cached where that fits, opened on demand otherwise."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor

from ipa_app.training.cache import RowCache
from ipa_app.training.data import Example, ExampleReader, OpenedExample
from ipa_app.training.encoding import FrozenEncoder
from ipa_app.training.examples import TrainingBatch
from ipa_app.training.stopping import Stop, Stopped

ENCODE_ROWS = 4
"""Pictures encoded at a time; few, so that a request to stop takes effect soon."""
ENCODE_TEXTS = 16
PICTURE_ROWS = ("latents", "latents_std", "features", "time_ids")


@dataclass(frozen=True, kw_only=True)
class EncodedSize:
    """Bytes of an encoded example: of its pictures, and of its text."""

    picture: int
    text: int


@dataclass(frozen=True, kw_only=True)
class Caches:
    """Encoded examples: pictures by `picture_key`, texts by `text_key`."""

    pictures: RowCache
    texts: RowCache

    @classmethod
    def open(cls, folder: Path | None) -> Caches:
        """Open the caches in a folder, or create new ones in memory."""
        return cls(
            pictures=RowCache(folder and folder / "pictures"),
            texts=RowCache(folder and folder / "texts"),
        )

    def refresh(self) -> None:
        """Load what other processes have encoded."""
        self.pictures.refresh()
        self.texts.refresh()

    def flush(self) -> None:
        """Write whatever is not on disk yet."""
        self.pictures.flush()
        self.texts.flush()


class EncodedExamples:
    """Examples as the frozen base model sees them. Pictures are never augmented, so this is exact.

    Each example has a row of latents (C, h, w), their standard deviations, features, text states (L, D) and, for SDXL,
    time ids (6,) and a pooled text embedding (P,).
    """

    def __init__(self, examples: Sequence[Example], caches: Caches) -> None:
        """Keep those of the examples that are in the caches; the others could not be opened.

        Args:
            examples: good and bad.
            caches: contain the good ones.
        """
        self._caches = caches
        keys = [picture_key(example) for example in examples]
        self.good = [number for number, key in enumerate(keys) if key in caches.pictures]
        self._pictures = [keys[number] for number in self.good]
        self._texts = [text_key(examples[number].entry.text) for number in self.good]

    def __len__(self) -> int:
        """Return the number of good examples."""
        return len(self.good)

    def batch(self, rows: Sequence[int]) -> TrainingBatch:
        """Return the examples at these positions among the good ones."""
        pictures = self._caches.pictures.rows([self._pictures[row] for row in rows])
        texts = self._caches.texts.rows([self._texts[row] for row in rows])
        return TrainingBatch(**pictures, **texts)


def encode_missing(
    examples: Sequence[Example],
    reader: ExampleReader,
    encoder: FrozenEncoder,
    caches: Caches,
    *,
    workers: int = 1,
    share: tuple[int, int] = (0, 1),
    stop: Stop,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Encode this process's share of what is not in the caches yet; skip bad examples.

    Examples are grouped by their positions alone, so results stay bit-identical after interruptions.

    Args:
        examples: those that `reader` opens.
        reader: records the bad ones.
        encoder: of the frozen base model.
        caches: receive the encoded ones.
        workers: threads that open pictures.
        share: index of this process, and number of processes that share the work.
        stop: polled; true ends the work.
        progress: called after each group with the number of pictures encoded and of those that could not be.

    Raises:
        Stopped: `stop` returned true; finished work is written.
    """
    number_of: dict[str, int] = {}
    for number, example in enumerate(examples):
        number_of.setdefault(picture_key(example), number)
    kept, left_out = sum(key in caches.pictures for key in number_of), 0
    groups = _missing(list(number_of), caches.pictures, rows=ENCODE_ROWS, share=share)
    for good, bad in _encoded_groups(groups, lambda key: reader.open(number_of[key]), encoder, caches, workers):
        kept, left_out = kept + good * share[1], left_out + bad
        _end_if_asked(stop, caches)
        if progress is not None:
            progress(min(kept, len(number_of)), left_out)
    _encode_texts([example.entry.text for example in examples], encoder, caches, share=share, stop=stop)
    caches.flush()


def _encoded_groups(
    groups: Sequence[list[str]],
    open_one: Callable[[str], OpenedExample | None],
    encoder: FrozenEncoder,
    caches: Caches,
    workers: int,
) -> Iterator[tuple[int, int]]:
    """Encode the pictures group by group, yielding the numbers of good and bad ones in each group."""
    with ThreadPoolExecutor(workers) as pool:
        for keys, opened in _opened_ahead(groups, open_one, pool):
            good = {key: example for key, example in zip(keys, opened, strict=True) if example is not None}
            if good:
                caches.pictures.add(list(good), _encode_pictures(list(good.values()), encoder))
            yield len(good), len(keys) - len(good)


def _encode_texts(
    texts: Sequence[str], encoder: FrozenEncoder, caches: Caches, *, share: tuple[int, int], stop: Stop
) -> None:
    text_of = {text_key(text): text for text in texts}
    for keys in _missing(list(text_of), caches.texts, rows=ENCODE_TEXTS, share=share):
        states, pooled = encoder.text_states(encoder.input_ids([text_of[key] for key in keys]))
        caches.texts.add(keys, {"text_states": states} | ({} if pooled is None else {"pooled_text": pooled}))
        _end_if_asked(stop, caches)


def _missing(keys: Sequence[str], cache: RowCache, *, rows: int, share: tuple[int, int]) -> list[list[str]]:
    """Group all keys and return this process's share of the groups, without keys already in the cache."""
    groups = (keys[first : first + rows] for first in range(0, len(keys), rows))
    missing = ([key for key in group if key not in cache] for group in groups)
    return [group for group in missing if group][share[0] :: share[1]]


def _encode_pictures(opened: Sequence[OpenedExample], encoder: FrozenEncoder) -> dict[str, Tensor]:
    """Encode the pictures alone; the empty text's states stand in, so that no text is encoded along with each."""
    empty, count = encoder.empty_text, len(opened)
    batch = replace(
        raw_batch(opened, encoder),
        input_ids=None,
        text_states=empty.states.expand(count, -1, -1),
        pooled_text=None if empty.pooled is None else empty.pooled.expand(count, -1),
    )
    rows = encoder.encode(batch)
    return {name: getattr(rows, name) for name in PICTURE_ROWS if getattr(rows, name) is not None}


def _opened_ahead(
    groups: Sequence[list[str]], open_one: Callable[[str], OpenedExample | None], pool: ThreadPoolExecutor
) -> Iterator[tuple[list[str], list[OpenedExample | None]]]:
    """Open each group's pictures while the previous group is processed."""
    ahead = [pool.submit(open_one, key) for key in groups[0]] if groups else []
    for group, following in zip_longest(groups, groups[1:], fillvalue=[]):
        current, ahead = ahead, [pool.submit(open_one, key) for key in following]
        yield group, [future.result() for future in current]


def _end_if_asked(stop: Stop, caches: Caches) -> None:
    if stop():
        caches.flush()
        raise Stopped


def encoded_size(reader: ExampleReader, encoder: FrozenEncoder) -> EncodedSize:
    """Return the size of an encoded example, measured on the first good one.

    Raises:
        UserError: none can be opened.
    """
    rows = encoder.encode(raw_batch([reader.open_or_next(0)], encoder))
    return EncodedSize(
        picture=sum(_bytes(getattr(rows, name)) for name in PICTURE_ROWS),
        text=_bytes(rows.text_states) + _bytes(rows.pooled_text),
    )


def picture_key(example: Example) -> str:
    """Return a key that is unique to the example's files and changes whenever one of them does."""
    files = (example.image, example.reference)
    return _hash([(str(file), _stamp(file)) for file in files])


def text_key(text: str) -> str:
    """Return a key for a text."""
    return _hash(text)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return size and modification time of a file; None if it no longer exists."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def raw_batch(opened: Sequence[OpenedExample], encoder: FrozenEncoder) -> TrainingBatch:
    """Build a batch of opened examples, for the loop to encode."""
    return TrainingBatch(
        pixel_values=torch.stack([example.pixel_values for example in opened]),
        input_ids=encoder.input_ids([example.text for example in opened]),
        time_ids=torch.tensor([example.time_ids for example in opened]),
        clip_pixels=encoder.clip_pixels([example.reference for example in opened]),
    )


def opened_batches(
    indices: Iterator[list[int]], reader: ExampleReader, encoder: FrozenEncoder, *, workers: int
) -> Iterator[TrainingBatch]:
    """Yield batches that are opened while the previous one is trained on, for data too large to keep encoded.

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


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _bytes(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.element_size() * tensor.nelement()
