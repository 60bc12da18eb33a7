"""The files of what was made. They are the truth; the index only spares looking into each of them every time."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from PIL import Image

from ipa_app.imaging.result_files import FILE_SUFFIXES, file_suffix, is_whole_file, write_result

logger = logging.getLogger(__name__)

# A number that says what the table looks like: an index of another one is made anew.
_VERSION = 1
_TABLE = """
CREATE TABLE pictures (
    path TEXT PRIMARY KEY,
    mtime_ns INTEGER NOT NULL,
    size INTEGER NOT NULL,
    is_picture INTEGER  -- NULL until somebody has looked into the file
) WITHOUT ROWID;
CREATE INDEX by_time ON pictures (mtime_ns DESC, path DESC);
"""

_Stamp = tuple[int, int]


class Pictures:
    """A folder of result files, by day. Files may come and go by anybody's hand. Its methods may be called anywhere."""

    def __init__(self, folder: Path, *, index: Path) -> None:
        """Open the folder, which is made where it is missing.

        Args:
            folder: of the files.
            index: a file of SQLite.

        Raises:
            OSError: the folder cannot be made.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._index = _opened(index)

    def save(
        self, image: Image.Image, *, name: str, made: float, settings: Mapping[str, Any], inputs: Mapping[str, str]
    ) -> Path:
        """Write a picture with its settings, as `write_result` does, and return the file.

        Args:
            image: the result.
            name: of the file, without an ending.
            made: when it was asked for, in seconds since 1970; with the name it says which file it is.
            settings: as for `write_result`.
            inputs: as for `write_result`.

        Raises:
            OSError: there is no room for it, or the folder cannot be written to.
        """
        local = time.localtime(made)
        output_format = settings["output_format"]
        file = f"{time.strftime('%H%M%S', local)}-{name}{file_suffix(output_format)}"
        path = self.folder / time.strftime("%Y-%m-%d", local) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        write_result(image, path, settings, inputs=inputs, output_format=output_format)
        return path

    def newest(self, count: int) -> list[Path]:
        """Return the latest files that are pictures, newest first.

        Only files that are new, or have changed, are looked into, and of these only those that could be among them.

        Args:
            count: the most.
        """
        with self._lock:
            try:
                return self._newest(count)
            except sqlite3.Error as error:
                # It may be on a full disk, or not be a table any more.
                logger.warning("The index of the library is made anew, in memory: %s", error)
                self._index.close()
                self._index = _empty(":memory:")
                return self._newest(count)

    def close(self) -> None:
        """Close the index."""
        with self._lock:
            self._index.close()

    def _newest(self, count: int) -> list[Path]:
        with self._index:
            self._scan()
        found: list[Path] = []
        rows = self._index.execute("SELECT path, is_picture FROM pictures ORDER BY mtime_ns DESC, path DESC")
        looked_at: dict[str, bool] = {}
        for name, known in rows:
            if len(found) == count:
                break
            path = self.folder / name
            if known is None:
                known = looked_at[name] = _is_picture(path)
            if known:
                found.append(path)
        with self._index:
            self._index.executemany(
                "UPDATE pictures SET is_picture = ? WHERE path = ?", [(each, name) for name, each in looked_at.items()]
            )
        return found

    def _scan(self) -> None:
        """Bring the index to what lies in the folder."""
        there = dict(_files_in(self.folder))
        known = {
            path: (mtime_ns, size)
            for path, mtime_ns, size in self._index.execute("SELECT path, mtime_ns, size FROM pictures")
        }
        gone = [(path,) for path in known.keys() - there.keys()]
        news = [(path, *stamp) for path, stamp in there.items() if known.get(path) != stamp]
        self._index.executemany("DELETE FROM pictures WHERE path = ?", gone)
        self._index.executemany("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, NULL)", news)


def _is_picture(path: Path) -> bool:
    if is_whole_file(path):
        return True
    if path.exists():
        logger.warning("%s is left out of the library: it is damaged, or no picture.", path)
    return False


def _files_in(folder: Path, beneath: str = "") -> Iterator[tuple[str, _Stamp]]:
    """Yield every file below a folder that may be a result, by its place there, with when it was changed and its size.

    Links are not followed.
    """
    for entry in _entries(folder):
        with suppress(OSError):  # it has gone meanwhile
            if entry.is_dir(follow_symlinks=False):
                yield from _files_in(Path(entry.path), f"{beneath}{entry.name}/")
            elif entry.is_file(follow_symlinks=False) and entry.name.lower().endswith(FILE_SUFFIXES):
                stat = entry.stat(follow_symlinks=False)
                yield f"{beneath}{entry.name}", (stat.st_mtime_ns, stat.st_size)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            # What is no text cannot be a row's, nor a page's.
            return [entry for entry in entries if _is_text(entry.name)]
    except OSError:
        return []


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _opened(path: Path) -> sqlite3.Connection:
    """Open an index, one that cannot be read anew, and in memory where there is no room for it."""
    try:
        with _closed_on_error(_connected(path)) as index:
            if index.execute("PRAGMA user_version").fetchone() == (_VERSION,):
                index.execute("SELECT path, mtime_ns, size, is_picture FROM pictures LIMIT 1").fetchall()
                return index
            index.close()
    except sqlite3.Error as error:
        logger.warning("The index of the library cannot be read, and is made anew: %s", error)
    try:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        return _empty(path)
    except (sqlite3.Error, OSError) as error:
        logger.warning("The index of the library cannot be written, and is made in memory: %s", error)
        return _empty(":memory:")


def _connected(path: Path | str) -> sqlite3.Connection:
    # Whoever uses it holds a lock.
    return sqlite3.connect(path, check_same_thread=False)


def _empty(path: Path | str) -> sqlite3.Connection:
    with _closed_on_error(_connected(path)) as index:
        index.execute("PRAGMA journal_mode = WAL")
        index.executescript(_TABLE)
        index.execute(f"PRAGMA user_version = {_VERSION}")
    return index


@contextmanager
def _closed_on_error(index: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    try:
        yield index
    except BaseException:
        index.close()
        raise
