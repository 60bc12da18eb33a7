"""Find files that are the same picture: one file under several names, and copies of it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

PART_BYTES = 4096
"""Bytes compared first in files of equal size; different pictures hardly ever agree there."""


class FileUsers:
    """Finds which of several items use a file or a copy of it, by content, not by name.

    Only files of equal size are read, when one of them is asked for, and only as far as needed to distinguish them.
    """

    def __init__(self, files: Sequence[Iterable[Path]]) -> None:
        """Look at sizes only.

        Args:
            files: resolved paths, for each item.
        """
        self._users: dict[Path, set[int]] = defaultdict(set)
        for number, used in enumerate(files):
            for file in used:
                self._users[file].add(number)
        by_size: dict[int | Path, list[Path]] = defaultdict(list)
        for file in self._users:
            by_size[_size(file) or file].append(file)
        self._alike = {file: group for group in by_size.values() for file in group}
        self._found: dict[Path, AbstractSet[int]] = {}

    def of(self, file: Path) -> AbstractSet[int]:
        """Return the indices of the items that use this file or a copy of it."""
        if file not in self._found:
            for same in _same(self._alike[file]):
                self._found |= dict.fromkeys(same, set().union(*(self._users[each] for each in same)))
        return self._found[file]


def content_digest(files: Iterable[Path]) -> str | None:
    """Return a digest of the files' contents; None if one of them cannot be read."""
    digests = [_digest(file) for file in files]
    found = [digest for digest in digests if digest is not None]
    return hashlib.sha256(b"".join(found)).hexdigest()[:16] if len(found) == len(digests) else None


def _same(files: list[Path]) -> Iterator[list[Path]]:
    """Group files of equal size by content."""
    for alike in _parted(files, _digest_of_part):
        yield from _parted(alike, _digest)


def _parted(files: list[Path], digest: Callable[[Path], bytes | None]) -> Iterator[list[Path]]:
    if len(files) == 1:
        yield files
        return
    parts: dict[bytes | Path, list[Path]] = defaultdict(list)
    for file in files:
        parts[digest(file) or file].append(file)
    yield from parts.values()


def _size(file: Path) -> int:
    """Return the size of a file in bytes; 0 if it no longer exists."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _digest_of_part(file: Path) -> bytes | None:
    """Hash the middle of a file: files of one program begin and end alike."""
    try:
        with file.open("rb") as content:
            content.seek(max(0, (_size(file) - PART_BYTES) // 2))
            return hashlib.sha256(content.read(PART_BYTES)).digest()
    except OSError:
        return None


def _digest(file: Path) -> bytes | None:
    try:
        return hashlib.sha256(file.read_bytes()).digest()
    except OSError:
        return None
