"""Find, split and open the examples of a run, and decide the order in which they are seen."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import count as count_from
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ipa_app.errors import UserError
from ipa_app.imaging.cropping import square_for_clip
from ipa_app.imaging.opening import open_image
from ipa_app.training.config import DataConfig
from ipa_app.training.copies import FileUsers, content_digest
from ipa_app.training.entries import Entry, Listing, Skipped
from ipa_app.training.folders import add_folder
from ipa_app.training.lookup import FileFinder
from ipa_app.training.tables import add_table

SMALLEST_SPLIT = 10
"""Fewest pictures a set is split at; of a small set, at most one in this many is held out."""
HELD_OUT = " (held out)"
LOOKED_INTO = 64
"""Number of examples whose files are read to distinguish data sets with the same names and texts."""
LARGEST_LOSS = 0.25
"""Largest share of a set that training may lose to held-out examples and to those that share files with them."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """An entry of the data, with its files located.

    Attributes:
        entry: as listed in the data.
        image: resolved path of the target picture; where it should be, if it is missing.
        reference: resolved path of the picture used as the prompt; where it should be, if it is missing.
        missing: why the example cannot be used if one of its files is missing; else empty.
        within: suffix that distinguishes it from an example of the same name in other data; else empty.
    """

    entry: Entry
    image: Path
    reference: Path
    missing: str = ""
    within: str = ""

    @property
    def name(self) -> str:
        """The example's name in messages; no two pairs of files share one."""
        return self.entry.name + self.within

    @property
    def files(self) -> set[Path]:
        """The files of the example."""
        return {self.image, self.reference}


@dataclass(frozen=True, kw_only=True)
class Examples:
    """The training and held-out examples of a run, before any picture is opened.

    Attributes:
        train: examples to train on.
        heldout: examples to evaluate on.
        listed: number of pictures in the data, unusable ones included.
        skipped: what is left out; grows when files turn out not to be pictures.
        notes: sentences on what the user should know about the data.
        digest: identifies the data; differs for any other data.
    """

    train: Sequence[Example]
    heldout: Sequence[Example]
    listed: int
    skipped: Skipped
    notes: Sequence[str]
    digest: str

    def looked_into(self) -> dict[str, str]:
        """Return content digests of a few examples' files by name; the same few wherever the data lies."""
        named = {example.name: example for example in (*self.train, *self.heldout)}
        few = sorted(named, key=lambda name: hashlib.sha256(name.encode(errors="surrogatepass")).digest())[:LOOKED_INTO]
        digests = {name: content_digest((named[name].image, named[name].reference)) for name in few}
        return {name: digest for name, digest in digests.items() if digest is not None}


@dataclass(frozen=True, kw_only=True)
class OpenedExample:
    """An example with its pictures read.

    Attributes:
        pixel_values: (3, size, size) in [-1, 1], short side resized and centre cropped.
        reference: the prompt picture, unchanged; the base model's image processor crops it.
        time_ids: SDXL's size conditions for the target, in pixels: original height and width, top and left of the crop
            in the resized picture, target height and width.
    """

    pixel_values: Tensor
    text: str
    reference: Image.Image
    time_ids: tuple[int, ...]


def read_examples(data: DataConfig, *, seed: int) -> Examples:
    """Read the data's entries, locate their files and hold some examples out.

    Bad entries are reported and counted; they do not end the run.

    Args:
        data: where the data is.
        seed: decides which examples are held out when no held-out data is named.

    Raises:
        UserError: the data cannot be read, or nothing in it can be used.
    """
    listing = read_listing(data.data)
    listing.check()
    train, heldout = _find(listing.entries, data.data_root or _folder_of(data.data)), list[Example]()
    if data.heldout_data is not None:
        heldout = _read_heldout(data, data.heldout_data, listing)
    listed, total = len({example.name for example in [*train, *heldout]}) + len(listing.skipped), len(train)
    if data.heldout_data is None:
        train, heldout = split_heldout(train, count=data.split_off, seed=seed)
        listing.notes += _notes_of_split(train, heldout, total=total, count=data.split_off)
    train, heldout = (_are_there(part, listing.skipped) for part in (train, heldout))
    if not train:
        raise UserError.plain(
            f"None of the pictures listed in {data.data} could be found; the first is {listing.skipped.first}."
        )
    return Examples(
        train=train,
        heldout=heldout,
        listed=listed,
        skipped=listing.skipped,
        notes=[*listing.notes, *_notes(listing, train, heldout)],
        digest=hashlib.sha256(json.dumps([astuple(entry) for entry in listing.entries]).encode()).hexdigest()[:16],
    )


def _read_heldout(data: DataConfig, named: Path, listing: Listing) -> list[Example]:
    """Read the held-out data and merge it into the listing; use all of it unless the configuration sets a number."""
    within = "" if _folder_of(named).resolve() == _folder_of(data.data).resolve() else HELD_OUT
    more = read_listing(named, skipped=listing.skipped, within=within)
    listing.include(more)
    root = data.data_root or _folder_of(named)
    return _find(more.entries, root, within="" if data.data_root else within)[: data.heldout]


def read_listing(data: Path, *, skipped: Skipped | None = None, within: str = "") -> Listing:
    """Read a data file (see `add_table`) or a folder of pictures (see `add_folder`).

    Args:
        data: the file or folder.
        skipped: collects what cannot be used.
        within: suffix appended to the names collected there.

    Raises:
        UserError: there is no such file or folder, or it cannot be read.
    """
    listing = Listing(source=data, skipped=Skipped() if skipped is None else skipped, within=within)
    if data.is_dir():
        add_folder(listing, data)
    elif data.is_file():
        add_table(listing, data)
    else:
        raise UserError.plain(f"There is no data file or folder {data}.")
    return listing


def _folder_of(data: Path) -> Path:
    return data if data.is_dir() else data.parent


def _find(entries: Sequence[Entry], root: Path, *, within: str = "") -> list[Example]:
    finder = FileFinder(root)
    return [_found(entry, root, finder, within) for entry in entries]


def _found(entry: Entry, root: Path, finder: FileFinder, within: str) -> Example:
    image = finder.find(entry.image)
    reference = image if entry.reference is None else finder.find(entry.reference)
    missing, where = "", root if root.name else root.resolve()
    if image is None:
        missing = f"there is no such file in {where}"
    elif reference is None:
        missing = f"its reference {entry.reference} is not in {where}"
    return Example(
        entry=entry,
        image=image or root / entry.image,
        reference=reference or root / (entry.reference or entry.image),
        missing=missing,
        within=within,
    )


def _are_there(examples: Sequence[Example], skipped: Skipped) -> list[Example]:
    for example in examples:
        if example.missing:
            skipped.add(example.name, example.missing)
    return [example for example in examples if not example.missing]


def _notes(listing: Listing, train: Sequence[Example], heldout: Sequence[Example]) -> Iterator[str]:
    if listing.unused_keys:
        keys = ", ".join(f'"{key}"' for key in sorted(listing.unused_keys)[:10])
        yield f"The data also has {keys}, which training does not use."
    users = FileUsers([example.files for example in [*train, *heldout]])
    files = set().union(*(example.files for example in heldout))
    if shared := sum(min(users.of(file)) < len(train) for file in files):
        yield f"Pictures used both for training and for measuring: {shared}; the held-out loss will look too good."


def _notes_of_split(train: Sequence[Example], heldout: Sequence[Example], *, total: int, count: int) -> Iterator[str]:
    if lost := total - len(train) - len(heldout):
        yield f"Pictures that are left out of training because they share files with those held out: {lost}."
    if count and total >= SMALLEST_SPLIT and not heldout:
        yield "No picture can be held out, because too many share their files with others."


def split_heldout(examples: Sequence[Example], *, count: int, seed: int) -> tuple[list[Example], list[Example]]:
    """Set aside examples to evaluate on: at most `count`, and never more than a tenth of a small set.

    Pictures that a held-out example uses are kept out of training altogether, as targets and as references, and so are
    copies of them under other names. Examples that lose all their files this way are held out next; an example that
    would cost training too many others is not held out.

    Returns:
        The training examples, and the held-out ones.
    """
    count = min(count, len(examples) // SMALLEST_SPLIT)
    if not count:
        return list(examples), []
    most = math.ceil(LARGEST_LOSS * len(examples))
    users = FileUsers([example.files for example in examples])
    generator = random.Random(seed)
    order = [generator.sample(range(len(examples)), size) for size in (count, len(examples))]
    heldout, gone = dict[int, None](), set[int]()
    for index in (*order[0], *order[1]):
        if len(heldout) >= count:
            break
        sharing = [users.of(file) for file in examples[index].files]
        if max(map(len, sharing)) > most:  # before joining: a picture shared by all has that many users
            continue
        group = set().union(*sharing)
        if len(gone) + len(group - gone) > most:
            continue
        gone |= group
        files = {file for each in group for file in examples[each].files}
        unseen = {file for file in files if users.of(file) <= gone}
        heldout |= dict.fromkeys(each for each in sorted(group) if examples[each].files <= unseen)
    train = [example for index, example in enumerate(examples) if index not in gone]
    return train, [examples[index] for index in sorted([*heldout][:count])]


def open_example(example: Example, size: int) -> OpenedExample:
    """Open both pictures of an example.

    Args:
        example: the example to open.
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
        text=example.entry.text,
        reference=reference,
        time_ids=(target.height, target.width, top, left, size, size),
    )


class ExampleReader:
    """Opens examples. One with a bad picture is reported once and counted; it never ends the run."""

    def __init__(self, examples: Sequence[Example], *, size: int, skipped: Skipped) -> None:
        """Create a reader; nothing is read yet.

        Args:
            examples: opened by position.
            size: side of the targets in pixels.
            skipped: collects bad examples.
        """
        self._examples = examples
        self._size = size
        self._skipped = skipped

    def __len__(self) -> int:
        """Return the number of examples, good and bad."""
        return len(self._examples)

    def open(self, index: int) -> OpenedExample | None:
        """Return the example at this position, or None if one of its pictures is bad."""
        name = self._examples[index].name
        if name in self._skipped:
            return None
        try:
            return open_example(self._examples[index], self._size)
        except (UserError, OSError) as error:
            self._skipped.add(name, str(error).rstrip("."))
            return None

    def open_or_next(self, index: int) -> OpenedExample:
        """Return the example at this position, or the next good one in its place.

        Raises:
            UserError: no example is good.
        """
        for offset in range(len(self)):
            opened = self.open((index + offset) % len(self))
            if opened is not None:
                return opened
        raise UserError.plain(f"None of the pictures in the data can be opened; the first is {self._skipped.first}.")


def batch_indices(
    count: int, batch_size: int, *, seed: int, start: int = 0, process: int = 0, processes: int = 1
) -> Iterator[list[int]]:
    """Yield the positions of each batch's examples, endlessly: every example once per epoch, in a new order each time.

    The examples of batch n follow from the arguments alone, so a resumed run continues where it stopped.

    Args:
        count: number of examples.
        batch_size: per process.
        seed: of the order.
        start: number of the first batch.
        process: index of this process among the `processes` that share the data.
        processes: number of processes.
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
