"""Reading the data file, opening its pictures, and the order in which examples are seen."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count as count_from
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ipa_app.errors import UserError
from ipa_app.imaging.cropping import square_for_clip
from ipa_app.imaging.opening import open_image

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Example:
    """One entry of the data file: a picture to learn to draw, its text and the picture shown as the prompt."""

    image: Path
    text: str
    reference: Path


@dataclass(frozen=True, kw_only=True)
class OpenedExample:
    """An example with its pictures read.

    Attributes:
        pixel_values: (3, size, size) in [-1, 1], short side resized and centre cropped.
        reference: the prompt picture as it is; the base model's image processor crops it.
        time_ids: what SDXL is told of the target, in pixels: height and width it had, top and left of the crop in
            the resized picture, height and width it has.
    """

    pixel_values: Tensor
    text: str
    reference: Image.Image
    time_ids: tuple[int, ...]


def read_examples(data: Path, root: Path) -> list[Example]:
    """Read a JSON list of ``{"image_file", "text", "reference_file"}``; the last may be left out.

    Args:
        data: the JSON file.
        root: folder the file names start from.

    Raises:
        UserError: the file is not such a list.
    """
    try:
        entries = json.loads(data.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"The data file {data} cannot be read: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise UserError(f'The data file {data} must hold a list of {{"image_file": …, "text": …}}, at least one.')
    return [_read_entry(entry, number, root) for number, entry in enumerate(entries)]


def _read_entry(entry: object, number: int, root: Path) -> Example:
    if not isinstance(entry, dict):
        raise UserError(f'Entry {number} of the data file must look like {{"image_file": …, "text": …}}.')
    image = _string(entry, "image_file", number)
    reference = _string(entry, "reference_file", number) if "reference_file" in entry else image
    return Example(image=root / image, text=_string(entry, "text", number), reference=root / reference)


def _string(entry: Mapping[str, object], name: str, number: int) -> str:
    value = entry.get(name)
    if not isinstance(value, str):
        raise UserError(f'Entry {number} of the data file needs "{name}", a string; it has {value!r}.')
    return value


def split_heldout(examples: Sequence[Example], *, count: int, seed: int) -> tuple[list[Example], list[Example]]:
    """Set aside examples to measure on: at most ``count``, and never more than a tenth of a small set.

    Pictures that a held-out example uses are kept out of training altogether, as targets and as references.

    Returns:
        What to train on, and what is held out.
    """
    count = min(count, len(examples) // 10)
    chosen = set(random.Random(seed).sample(range(len(examples)), count))
    heldout = [examples[index] for index in sorted(chosen)]
    seen = {path for example in heldout for path in (example.image, example.reference)}
    train = [example for example in examples if not seen & {example.image, example.reference}]
    return (train, heldout) if train else (list(examples), [])


def open_example(example: Example, size: int) -> OpenedExample:
    """Open both pictures of an example.

    Args:
        example: what to open.
        size: side of the target in pixels.

    Raises:
        UserError: a picture is missing or cannot be used.
    """
    target = open_image(example.image)
    reference = target if example.reference == example.image else open_image(example.reference)
    square = square_for_clip(target, mode="crop").resize((size, size), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.asarray(square, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1
    top, left = (round((side - min(target.size)) / 2 * size / min(target.size)) for side in reversed(target.size))
    return OpenedExample(
        pixel_values=pixels,
        text=example.text,
        reference=reference,
        time_ids=(target.height, target.width, top, left, size, size),
    )


class ExampleReader:
    """Opens examples; one with a bad picture is named once in the log, counted, and never ends the run.

    Attributes:
        skipped: the bad examples met so far.
    """

    def __init__(self, examples: Sequence[Example], *, size: int) -> None:
        """Read nothing yet.

        Args:
            examples: what is opened, by position.
            size: side of the targets in pixels.
        """
        self._examples = examples
        self._size = size
        self.skipped: set[int] = set()

    def __len__(self) -> int:
        """Number of examples, good and bad."""
        return len(self._examples)

    def open(self, index: int) -> OpenedExample | None:
        """The example at this position, or None when a picture of it is bad."""
        if index in self.skipped:
            return None
        try:
            return open_example(self._examples[index], self._size)
        except (UserError, OSError) as error:
            self.skipped.add(index)
            example = self._examples[index]
            logger.warning("skipped %s (%d so far): %s", example.image, len(self.skipped), error)
            return None

    def open_or_next(self, index: int) -> OpenedExample:
        """The example at this position, or the next good one in its place.

        Raises:
            UserError: not one example is good.
        """
        for offset in range(len(self)):
            opened = self.open((index + offset) % len(self))
            if opened is not None:
                return opened
        raise UserError("Not one picture of the data can be opened; look at the names in the log above.")


def batch_indices(
    count: int, batch_size: int, *, seed: int, start: int = 0, process: int = 0, processes: int = 1
) -> Iterator[list[int]]:
    """Positions of the examples of each batch, for ever: every example once, in a new order each time round.

    Which examples batch n holds follows from the arguments alone, so a resumed run goes on where it stopped.

    Args:
        count: number of examples.
        batch_size: per process.
        seed: of the order.
        start: number of the first batch.
        process: this process, of ``processes`` that share the data.
        processes: how many there are.
    """
    epoch, order = -1, np.empty(0, dtype=np.int64)
    for batch in count_from(start):
        first = (batch * processes + process) * batch_size
        indices = []
        for position in range(first, first + batch_size):
            if position // count != epoch:
                epoch = position // count
                order = np.random.default_rng([seed, epoch]).permutation(count)
            indices.append(int(order[position % count]))
        yield indices
