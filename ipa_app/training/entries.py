"""The contents of a data set in any layout: entries, those that had to be left out, and notes for the user."""

from __future__ import annotations

import difflib
import json
import logging
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ipa_app.errors import UserError

logger = logging.getLogger(__name__)

IMAGE_KEYS = ("image_file", "file_name", "image")
TEXT_KEYS = ("text", "caption", "prompt")
REFERENCE_KEYS = ("reference_file", "reference_file_name", "reference")
KNOWN_KEYS = (*IMAGE_KEYS, *TEXT_KEYS, *REFERENCE_KEYS)
"""The names of the reference implementation, of Hugging Face, and what people write instead."""

ALIKE = 0.8
"""Least similarity, in [0, 1], of a key to a known one for it to count as a typo; see `difflib`."""
MOST_TOLD = 20
"""Number of skipped entries that are reported one by one; further ones are only counted."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A target picture, as named in the data.

    Attributes:
        image: file name, relative to the folder the data's names start from.
        text: caption; empty if there is none.
        reference: file name of the picture used as the prompt; None for the target itself.
        repeats: how often it counts per epoch.
    """

    image: str
    text: str
    reference: str | None = None
    repeats: int = 1

    @property
    def name(self) -> str:
        """The entry's name in messages."""
        return self.image if self.reference in (None, self.image) else f"{self.image} with {self.reference}"


class BadEntryError(ValueError):
    """An entry cannot be used; the message says why, as the end of a sentence."""


class Skipped:
    """Collects what is left out, with reasons; each is reported once, and a long list only in part."""

    def __init__(self) -> None:
        """Start with nothing left out."""
        self._reasons: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, name: str, reason: str) -> None:
        """Record that `name` is left out; recording it again changes nothing."""
        with self._lock:  # pictures are opened by several threads
            known = name in self._reasons
            self._reasons.setdefault(name, reason)
        if not known and len(self._reasons) <= MOST_TOLD:
            logger.warning("skipped %s: %s", name, reason)

    @property
    def reasons(self) -> Mapping[str, str]:
        """The reason for each name."""
        return self._reasons

    def __len__(self) -> int:
        """Return how many are left out."""
        return len(self._reasons)

    def __contains__(self, name: str) -> bool:
        """Whether this name is left out."""
        return name in self._reasons

    @property
    def first(self) -> str:
        """The first name that was left out and why; empty if nothing was."""
        return next((f"{name}: {reason}" for name, reason in self._reasons.items()), "")

    def summary(self, total: int) -> str:
        """Return a sentence on how many of `total` pictures are left out, with the most frequent reasons."""
        reasons = Counter(self._reasons.values()).most_common(3)
        most = "; ".join(f"{count} x {reason}" for reason, count in reasons)
        return f"Left out: {len(self)} of {total} pictures ({most})."


@dataclass(kw_only=True)
class Listing:
    """The contents of a data file or folder.

    Attributes:
        source: the file or folder.
        entries: usable ones, in the order of the data.
        skipped: unusable ones.
        unused_keys: keys of entries that are ignored.
        notes: what else the user should know.
        within: suffix for the names of skipped entries, if other data has the same names.
    """

    source: Path
    entries: list[Entry] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)
    unused_keys: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    within: str = ""

    def add(self, fields: object, *, place: str, prefix: str = "") -> None:
        """Add an entry, or skip it if it is bad.

        Args:
            fields: what the data has for it: a mapping if all is well, or the reason why there is none.
            place: its place in the data, for messages.
            prefix: prepended to relative file names.
        """
        try:
            self.entries.append(self._entry(fields, prefix))
        except BadEntryError as error:
            self.skip(place, str(error))

    def skip(self, place: str, reason: str) -> None:
        """Skip the entry at this place."""
        self.skipped.add(place + self.within, reason)

    def include(self, other: Listing) -> None:
        """Merge another listing, which shares this one's `skipped`."""
        self.entries += other.entries
        self.unused_keys |= other.unused_keys
        self.notes += other.notes

    def check(self) -> None:
        """Check that something is left to train on.

        Raises:
            UserError: nothing is left.
        """
        if self.entries:
            return
        if not len(self.skipped):
            raise UserError.plain(f"{self.source} lists no pictures.")
        raise UserError.plain(f"Nothing in {self.source} can be used; the first problem is {self.skipped.first}.")

    def _entry(self, fields: object, prefix: str) -> Entry:
        if isinstance(fields, BadEntryError):
            raise fields
        if not isinstance(fields, Mapping):
            raise BadEntryError('it must look like {"image_file": ..., "text": ...}')
        named = {str(key).strip().lower(): value for key, value in fields.items()}
        _check_spelling(named)
        # None means the same as an empty cell of a table.
        named = {key: value for key, value in named.items() if value is not None or key not in REFERENCE_KEYS}
        has_reference = any(key in named for key in REFERENCE_KEYS)
        image, text = _string(named, IMAGE_KEYS), _string(named, TEXT_KEYS)
        reference = _string(named, REFERENCE_KEYS) if has_reference else ""
        if not image.strip():
            raise BadEntryError("it names no picture")
        used = {_given(named, keys) for keys in (IMAGE_KEYS, TEXT_KEYS, REFERENCE_KEYS)}
        self.unused_keys |= named.keys() - used
        return Entry(image=_below(prefix, image), text=text, reference=_below(prefix, reference) or None)


def decode(content: bytes) -> tuple[str, bool]:
    """Decode text written by any program: UTF-8 or UTF-16, with or without a byte order mark, else Windows-1252.

    Returns:
        The text, and whether it was Unicode. Windows-1252 is a guess: it decodes any bytes.
    """
    try:
        return content.decode(json.detect_encoding(content)), True
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace"), False


def _check_spelling(named: Mapping[str, object]) -> None:
    """Reject a key that looks like a typo of a missing one; beside "image", "image_w" is no typo."""
    for keys in (IMAGE_KEYS, TEXT_KEYS, REFERENCE_KEYS):
        for key in named if _given(named, keys) is None else ():
            if key not in KNOWN_KEYS and (slip := difflib.get_close_matches(key, keys, n=1, cutoff=ALIKE)):
                raise BadEntryError(f'it has "{key}"; is that "{slip[0]}"?')


def _below(prefix: str, name: str) -> str:
    return prefix + name if name and not Path(name).is_absolute() else name


def _given(named: Mapping[str, object], keys: tuple[str, ...]) -> str | None:
    return next((key for key in keys if key in named), None)


def _string(named: Mapping[str, object], keys: tuple[str, ...]) -> str:
    key = _given(named, keys)
    if key is None:
        raise BadEntryError(f'it has no "{keys[0]}"')
    value = named[key]
    if not isinstance(value, str):
        raise BadEntryError(f'its "{key}" must be a string, not {value!r}')
    return value
