"""Files that are the same picture: one file by whatever name, and copies of it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

PART_BYTES = 4096
"""Read of files of equal size before all of them is: two pictures hardly ever agree there."""


class FileUsers:
    """Which of several things use a file or a copy of it, told by what files hold and not by their names.

    Only files of equal size are read, when one of them is asked for, and no more of them than tells them apart.
    """

    def __init__(self, files: Sequence[Iterable[Path]]) -> None:
        """Look at sizes alone.

        Args:
            files: of each thing; resolved.
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
        """Return the numbers of the things that use one of the files, or a copy of it."""
        if file not in self._found:
            for same in _same(self._alike[file]):
                self._found |= dict.fromkeys(same, set().union(*(self._users[each] for each in same)))
        return self._found[file]


def content_digest(files: Iterable[Path]) -> str | None:
    """Return a name for what files hold; None where one of them cannot be read."""
    digests = [_digest(file) for file in files]
    found = [digest for digest in digests if digest is not None]
    return hashlib.sha256(b"".join(found)).hexdigest()[:16] if len(found) == len(digests) else None


def _same(files: list[Path]) -> Iterator[list[Path]]:
    """Part files of equal size into those that hold the same."""
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
    """Bytes of a file; 0 where it has gone."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _digest_of_part(file: Path) -> bytes | None:
    """Of the middle: files of one program begin and end alike."""
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
