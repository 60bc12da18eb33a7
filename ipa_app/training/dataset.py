"""A data file made ready for a run: batches, held-out batches and rows for the sample sheet."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from accelerate import Accelerator

from ipa_app.training.components import Components
from ipa_app.training.config import DataConfig, TrainConfig
from ipa_app.training.data import Example, ExampleReader, batch_indices, read_examples, split_heldout
from ipa_app.training.encoding import FrozenEncoder
from ipa_app.training.examples import TrainingBatch
from ipa_app.training.prepared import (
    EncodedExamples,
    cached_examples,
    encode_examples,
    encoded_bytes,
    opened_batches,
    stamp,
)
from ipa_app.training.sampling import Sample

logger = logging.getLogger(__name__)

SHEET_ROWS = 6
ENCODING_PARTS = (
    "vae",
    "text_encoder",
    "tokenizer",
    "text_encoder_2",
    "tokenizer_2",
    "image_encoder",
    "feature_extractor",
)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Examples to train on and to measure on.

    Attributes:
        size: side of the targets in pixels.
        encoder: of the frozen base model.
    """

    train: Sequence[Example]
    heldout: Sequence[Example]
    size: int
    encoder: FrozenEncoder
    data: DataConfig
    config: TrainConfig

    def batches(self, accelerator: Accelerator, *, start: int = 0) -> Iterator[TrainingBatch]:
        """Endless batches of this process; encoded beforehand where the cache allows.

        Args:
            accelerator: of the run.
            start: number of the first batch of the run that is wanted.

        Raises:
            UserError: not one example can be opened.
        """
        reader = ExampleReader(self.train, size=self.size)
        encoded = self._encoded(reader, accelerator)
        indices = batch_indices(
            len(self.train) if encoded is None else len(encoded),
            self.config.batch_size,
            seed=self.config.seed,
            start=start,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
        )
        if encoded is None:
            return opened_batches(indices, reader, self.encoder, workers=self.data.workers)
        return (encoded.batch(rows) for rows in indices)

    def heldout_batches(self) -> list[TrainingBatch]:
        """The held-out examples, encoded; bad ones are left out."""
        reader = ExampleReader(self.heldout, size=self.size)
        if all(reader.open(number) is None for number in range(len(reader))):
            return []
        encoded = encode_examples(self.heldout, reader, self.encoder)
        rows = range(len(encoded))
        return [
            encoded.batch(rows[first : first + self.config.batch_size]) for first in rows[:: self.config.batch_size]
        ]

    def samples(self) -> list[Sample]:
        """Rows of the sample sheet: held-out examples, or the first of a set too small to hold any out."""
        chosen = self.heldout or self.train
        reader = ExampleReader(chosen, size=self.size)
        opened = (reader.open(number) for number in range(len(chosen)))
        good = (example for example in opened if example is not None)
        return [Sample(reference=example.reference, text=example.text) for example in islice(good, SHEET_ROWS)]

    def needed_bytes(self) -> int:
        """Bytes of the training examples once encoded."""
        reader = ExampleReader(self.train, size=self.size)
        return encoded_bytes(reader, self.encoder, texts=len({example.text for example in self.train}))

    def fits_cache(self) -> bool:
        """Whether the encoded examples may be kept."""
        return self.needed_bytes() <= self.data.cache_gb * 1e9

    def _encoded(self, reader: ExampleReader, accelerator: Accelerator) -> EncodedExamples | None:
        if not self.fits_cache():
            logger.info("%.1f GB of encoded examples are more than --cache-gb allows", self.needed_bytes() / 1e9)
            return None
        with accelerator.main_process_first():
            encoded = cached_examples(
                self.train, reader, self.encoder, folder=self.config.output, identity=self._identity()
            )
        if len(encoded) < len(self.train):
            logger.warning("%d of %d examples skipped", len(self.train) - len(encoded), len(self.train))
        return encoded

    def _identity(self) -> list[object]:
        """What the encoding depends on besides the examples."""
        folders = [self.data.base / part for part in ENCODING_PARTS]
        folders.append(self.data.image_encoder or self.data.base / "image_encoder")
        files = [self.data.base, *(file for folder in folders for file in sorted(folder.glob("*")))]
        stamps = [(str(file), stamp(file)) for file in files]
        return [self.config.adapter, self.size, str(self.encoder.dtype), stamps]


def open_dataset(config: TrainConfig, data: DataConfig, base: Components) -> Dataset:
    """Read the data file and set examples aside.

    Args:
        config: of the run.
        data: where the data is.
        base: frozen, on the training device.

    Raises:
        UserError: a data file cannot be used.
    """
    root = data.data_root or data.data.parent
    examples = read_examples(data.data, root)
    if data.heldout_data is not None:
        train, heldout = examples, read_examples(data.heldout_data, root)[: data.heldout]
    else:
        train, heldout = split_heldout(examples, count=data.heldout, seed=config.seed)
    return Dataset(
        train=train,
        heldout=heldout,
        size=data.size or base.size,
        encoder=FrozenEncoder(base, kind=config.adapter),
        data=data,
        config=config,
    )
