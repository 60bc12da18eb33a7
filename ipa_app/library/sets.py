"""Files that people save under a name: sets of references. Their content is defined elsewhere."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ipa_app.errors import UserError
from ipa_app.imaging.result_files import whole_file
from ipa_app.library.deleted import new_deletion

MOST_FILES = 500

_LARGEST_FILE = 64 * 2**20

_Stamp = tuple[int, int, int]
"""Identifies a version of a file: its inode, its modification time in nanoseconds, its size in bytes."""


class NamedFiles:
    """A folder of JSON files, each of which contains its name. Others may add files or remove them. Thread-safe.

    Names never become paths: a file is called by the hash of its name.
    """

    def __init__(
        self,
        folder: Path,
        *,
        deleted: Path,
        name_in: Callable[[bytes], str | None],
        hold: Callable[[], None] = lambda: None,
    ) -> None:
        """Take a folder, which need not exist yet.

        Args:
            folder: the folder of the files.
            deleted: the folder for deleted files; on the same disk.
            name_in: returns the name in a file's content, None for a file of another kind.
            hold: called before a file is written; raises an OSError if it must not be.
        """
        self._hold = hold
        self._folder = folder
        self._deleted = deleted
        self._name_in = name_in
        self._known: dict[Path, tuple[_Stamp, str | None]] = {}
        self._changing = threading.Lock()

    def names(self) -> list[str]:
        """Return all names, sorted without regard to case."""
        return sorted(self._paths(), key=str.casefold)

    def save(self, name: str, content: str) -> bool:
        """Write a file; return whether it replaced a different one of the same name, which goes to the deleted files.

        Raises:
            UserError: there are too many files for a new one.
            OSError: there is no room for it, or the folder cannot be written to.
        """
        self._hold()
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._changing:
            return self._save(name, content)

    def _save(self, name: str, content: str) -> bool:
        paths = self._paths()
        if name not in paths and len(paths) >= MOST_FILES:
            raise UserError("set.too_many", most=MOST_FILES)
        path = paths.get(name) or self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:20]}.json"
        # Even a file that could not be read for the moment is not replaced without a copy.
        is_replaced = path.exists() and path.read_bytes() != content.encode()
        if is_replaced:
            # Copied, not moved, so that there is a set of this name at any time.
            shutil.copy2(path, self._deleted_as(path))
        with whole_file(path) as file:
            file.write(content.encode())
            file.flush()
            os.fsync(file.fileno())
        return is_replaced

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is none of this name any more."""
        path = self._paths().get(name)
        with suppress(OSError):
            return path.read_bytes() if path else None
        return None

    def delete(self, name: str) -> bool:
        """Move a file to the deleted ones, where it is kept for a while; return whether it existed.

        Raises:
            OSError: the folder cannot be written to.
        """
        with self._changing:
            path = self._paths().get(name)
            if path is None:
                return False
            path.replace(self._deleted_as(path))
            return True

    def _deleted_as(self, path: Path) -> Path:
        target = self._deleted / new_deletion() / path.name
        target.parent.mkdir(parents=True)
        return target

    def _paths(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        known: dict[Path, tuple[_Stamp, str | None]] = {}
        for path in sorted(self._folder.glob("[!.]*.json")):
            with suppress(OSError):
                status = path.stat()
                if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_FILE:
                    continue
                stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
                before = self._known.get(path)
                # Files contain their pictures and are large, so one is only read again after a change.
                named = before if before and before[0] == stamp else (stamp, self._name_in(path.read_bytes()))
                known[path] = named
                if named[1]:
                    found.setdefault(named[1], path)
        self._known = known
        return found
