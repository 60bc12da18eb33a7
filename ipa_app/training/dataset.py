"""Examples prepared for a run: batches, held-out batches and rows for the sample sheet."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import islice

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object

from ipa_app.errors import UserError
from ipa_app.models.units import size_text
from ipa_app.training.cache import remove_old
from ipa_app.training.components import Components
from ipa_app.training.config import DataConfig, TrainConfig
from ipa_app.training.data import Example, ExampleReader, Examples, batch_indices
from ipa_app.training.encoding import FrozenEncoder
from ipa_app.training.examples import TrainingBatch
from ipa_app.training.prepared import (
    Caches,
    EncodedExamples,
    EncodedSize,
    encode_missing,
    encoded_size,
    opened_batches,
    picture_key,
    text_key,
)
from ipa_app.training.sampling import Sample
from ipa_app.training.stopping import Stop, never

logger = logging.getLogger(__name__)

SHEET_ROWS = 6


class Dataset:
    """Training and held-out examples, and their encodings by the frozen base model.

    Attributes:
        examples: of the data.
        size: side of the targets in pixels.
        sample_side: side of the pictures on the sample sheet.
        encoder: of the frozen base model.
        config: of the run.
        data: how examples are read.
    """

    def __init__(self, config: TrainConfig, data: DataConfig, base: Components, examples: Examples) -> None:
        """Create a data set; nothing is encoded yet.

        Args:
            config: of the run.
            data: how examples are read.
            base: frozen, on the training device.
            examples: of the data.

        Raises:
            UserError: pictures of this size do not divide into whole latents.
        """
        self.examples = examples
        self.size = data.size or base.size
        if self.size % base.latent_factor:
            raise UserError.plain(
                f"size is {self.size}; the autoencoder of this model takes only multiples of {base.latent_factor}."
            )
        self.sample_side = base.size
        self.encoder = FrozenEncoder(base, kind=config.adapter)
        self.config = config
        self.data = data
        model = [base.fingerprint(), base.preparation(), base.configuration()]
        self._identity = [*model, config.adapter, self.size, str(self.encoder.dtype)]
        self._all = [*examples.train, *examples.heldout]
        self._reader = ExampleReader(self._all, size=self.size, skipped=examples.skipped)
        self._caches = Caches.open(None)

    @property
    def cache_name(self) -> str:
        """Name of the cache folder in the output folder; differs for every way of encoding."""
        return f"encoded-{hashlib.sha256(json.dumps(self._identity).encode()).hexdigest()[:16]}"

    @property
    def pictures(self) -> int:
        """Number of distinct pairs of picture and reference."""
        return len({picture_key(example) for example in self._all})

    def cut_texts(self) -> list[str]:
        """Return the names of examples whose texts are too long for the text encoders."""
        texts = {example.entry.text: example.name for example in self._all}
        cut = self.encoder.are_cut(list(texts))
        return [name for name, is_cut in zip(texts.values(), cut, strict=True) if is_cut]

    @cached_property
    def _encoded_size(self) -> EncodedSize:
        return encoded_size(self._reader, self.encoder)

    @cached_property
    def encoded_bytes(self) -> int:
        """Bytes of all examples when encoded."""
        return self._bytes_of(self._all)

    @property
    def is_kept(self) -> bool:
        """Whether the examples are encoded beforehand and cached."""
        return self.encoded_bytes <= self.data.cache_gb * 1e9

    def missing_bytes(self) -> int:
        """Bytes of the examples still to be encoded and cached."""
        if not self.is_kept:
            return 0
        caches = Caches.open(self.config.output / self.cache_name)
        return self._bytes_of(self._all, known=caches)

    def encode(
        self, accelerator: Accelerator, *, stop: Stop = never, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Encode the examples to be cached, or only the held-out ones if all would be too much.

        Args:
            accelerator: its processes share the work.
            stop: polled; true ends the work.
            progress: see `encode_missing`.

        Raises:
            Stopped: `stop` returned true.
            UserError: no training example can be opened.
        """
        if not self.is_kept:
            self._encode(self.examples.heldout, stop=stop)
            return
        if accelerator.is_main_process and (freed := remove_old(self.config.output, keep=self.cache_name)):
            logger.info("Removed %s of examples that were encoded with other settings.", size_text(freed))
        self._caches = Caches.open(self.config.output / self.cache_name)
        share = (accelerator.process_index, accelerator.num_processes)
        self._encode(self._all, stop=stop, progress=progress, share=share)
        if accelerator.num_processes > 1:
            self._take_from_others(stop=stop)
        if not len(EncodedExamples(self.examples.train, self._caches)):
            raise UserError.plain(
                f"None of the training pictures can be opened; the first is {self.examples.skipped.first}."
            )
        if accelerator.is_main_process:
            self._caches.pictures.forget_others({picture_key(example) for example in self._all})
            self._caches.texts.forget_others({text_key(example.entry.text) for example in self._all})

    def _take_from_others(self, *, stop: Stop) -> None:
        """Load what the other processes have encoded; encode here too what lies on a disk that is not shared."""
        for reasons in gather_object([dict(self.examples.skipped.reasons)]):  # waits for all of them
            for name, reason in reasons.items():
                self.examples.skipped.add(name, reason)
        self._caches.refresh()
        self._encode(self._all, stop=stop)

    def batches(self, accelerator: Accelerator, *, start: int = 0) -> Iterator[TrainingBatch]:
        """Yield this process's batches endlessly; call `encode` first.

        Args:
            accelerator: of the run.
            start: number of the first batch wanted, counted from the start of the run.
        """
        train = self.examples.train
        encoded = EncodedExamples(train, self._caches) if self.is_kept else None
        good = range(len(train)) if encoded is None else encoded.good
        # An epoch has every good example as often as it repeats: the first ends at ends[0], and so on.
        ends = np.cumsum([train[number].entry.repeats for number in good])
        indices = (
            np.searchsorted(ends, batch, side="right").tolist()
            for batch in batch_indices(
                int(ends[-1]),
                self.config.batch_size,
                seed=self.config.seed,
                start=start,
                process=accelerator.process_index,
                processes=accelerator.num_processes,
            )
        )
        if encoded is not None:
            return (encoded.batch(rows) for rows in indices)
        reader = ExampleReader(train, size=self.size, skipped=self.examples.skipped)
        return opened_batches(indices, reader, self.encoder, workers=self.data.workers)

    def heldout_batches(self) -> list[TrainingBatch]:
        """Return the held-out examples, encoded; bad ones are left out."""
        encoded = EncodedExamples(self.examples.heldout, self._caches)
        rows = range(len(encoded))
        size = self.config.batch_size
        return [encoded.batch(rows[first : first + size]) for first in rows[::size]]

    def samples(self) -> list[Sample]:
        """Return the rows of the sample sheet: held-out examples, or the first of a set too small to hold any out."""
        for chosen in (self.examples.heldout, self.examples.train):
            reader = ExampleReader(chosen, size=self.size, skipped=self.examples.skipped)
            opened = (reader.open(number) for number in range(len(chosen)))
            good = list(islice((example for example in opened if example is not None), SHEET_ROWS))
            if good:
                return [Sample(reference=example.reference, text=example.text) for example in good]
        return []

    def _encode(
        self,
        examples: Sequence[Example],
        *,
        stop: Stop,
        progress: Callable[[int, int], None] | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        encode_missing(
            examples,
            ExampleReader(examples, size=self.size, skipped=self.examples.skipped),
            self.encoder,
            self._caches,
            workers=self.data.workers,
            share=share,
            stop=stop,
            progress=progress,
        )

    def _bytes_of(self, examples: Sequence[Example], known: Caches | None = None) -> int:
        pictures = {picture_key(example) for example in examples}
        texts = {text_key(example.entry.text) for example in examples}
        if known is not None:
            pictures = {key for key in pictures if key not in known.pictures}
            texts = {key for key in texts if key not in known.texts}
        return len(pictures) * self._encoded_size.picture + len(texts) * self._encoded_size.text
