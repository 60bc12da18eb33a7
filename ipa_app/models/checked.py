"""Which files of the cache have been read through and found whole, so that it is not done at every start."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path


class CheckedFiles:
    """Remembers files by name, size and time of change: one that has changed since counts as unknown."""

    def __init__(self, path: Path) -> None:
        """Read what was remembered; a file that cannot be read is an empty memory.

        Args:
            path: the JSON file it is kept in.
        """
        self._path = path
        self._known: dict[str, list[int]] = {}
        with contextlib.suppress(OSError, ValueError):
            content = json.loads(path.read_text(encoding="utf-8"))
            self._known = content if isinstance(content, dict) else {}

    def knows(self, file: Path) -> bool:
        """Whether a file was found whole and is as it was then."""
        return self._known.get(str(file)) == _stamp(file)

    def remember(self, file: Path) -> None:
        """Note that a file is whole."""
        self._known[str(file)] = _stamp(file)

    def forget(self, file: Path) -> None:
        """Let a file be read through the next time."""
        self._known.pop(str(file), None)

    def save(self) -> None:
        """Keep what is remembered. Where that cannot be written, files are read through once more, and that is all."""
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps(self._known, indent=0), encoding="utf-8")
            new.replace(self._path)


def _stamp(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]
