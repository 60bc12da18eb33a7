"""The SQLite index of the library's files, which saves reading all of them every time.

It is rebuilt from the files if it is missing or damaged, and kept in memory if it cannot be written.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TypeVar

logger = logging.getLogger(__name__)

# The version of the tables' layout: an index with another version is rebuilt.
_VERSION = 2
_TABLES = """
CREATE TABLE pictures (
    name TEXT PRIMARY KEY,
    mtime_ns INTEGER NOT NULL,
    size INTEGER NOT NULL,
    is_favourite INTEGER NOT NULL,
    is_picture INTEGER,  -- NULL until somebody has looked into the file, as is all that follows
    task TEXT, model TEXT, adapter TEXT, caption TEXT, words TEXT
) WITHOUT ROWID;
CREATE INDEX by_time ON pictures (mtime_ns DESC, name DESC);
CREATE TABLE thumbnails (name TEXT PRIMARY KEY, jpeg BLOB NOT NULL);
"""
# Another process may be indexing a whole folder.
_PATIENCE_S = 30.0
# A whole text may be pasted, and SQLite takes a thousand conditions at most.
_MOST_LETTERS, _MOST_WORDS = 200, 20
_NEWEST_FIRST = "ORDER BY mtime_ns DESC, name DESC"

Result = TypeVar("Result")


@dataclass(frozen=True)
class Stamp:
    """What is known of a file without reading it.

    Attributes:
        mtime_ns: when it was last modified, in nanoseconds.
        size: in bytes.
        is_favourite: whether it is marked as a favourite.
    """

    mtime_ns: int
    size: int
    is_favourite: bool = False


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What was read from a file.

    Attributes:
        is_picture: whether it is a complete picture.
        task: the task that made it; "" if none is noted.
        model: the model that drew it; "" if none is noted.
        adapter: the adapter that was used; "" if none is noted.
        caption: the prompt.
        words: the text that searches look in, case-folded.
    """

    is_picture: bool
    task: str = ""
    model: str = ""
    adapter: str = ""
    caption: str = ""
    words: str = ""


@dataclass(frozen=True, kw_only=True)
class Search:
    """The conditions of a search, all of which must hold. "" stands for any.

    Attributes:
        words: words in the prompts or the file's name, also as parts of other words; a long text is cut off.
        task: the task that made the picture.
        model: the model that drew it.
        adapter: the adapter that was used.
        favourites: True for favourites only, False for all.
    """

    words: str = ""
    task: str = ""
    model: str = ""
    adapter: str = ""
    favourites: bool = False


@dataclass(frozen=True)
class Entry:
    """A picture that was found.

    Attributes:
        name: its path within the folder.
        caption: the prompt; None if the file has not been read yet.
        is_favourite: whether it is a favourite.
    """

    name: str
    caption: str | None
    is_favourite: bool


class PictureIndex:
    """The index, in an SQLite file that may be deleted at any time. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._tables = _opened(path)

    def update(self, there: Mapping[str, Stamp], *, unlisted: tuple[str, ...] = ()) -> None:
        """Update the index to the files in the folder.

        Args:
            there: their stamps, by name.
            unlisted: what the names of files begin with that may be in the folder as well.
        """

        def bring(tables: sqlite3.Connection) -> None:
            rows = tables.execute("SELECT name, mtime_ns, size, is_favourite FROM pictures")
            known = {
                name: Stamp(mtime_ns, size, bool(is_favourite))
                for name, mtime_ns, size, is_favourite in rows
                if name in there or not name.startswith(unlisted)
            }
            liked = {name for name, each in there.items() if each.is_favourite}
            was_liked = {name for name, each in known.items() if each.is_favourite}
            tables.executemany(
                "UPDATE pictures SET is_favourite = ? WHERE name = ?",
                [(name in liked, name) for name in liked ^ was_liked],
            )
            news = [(name, each) for name, each in there.items() if _place(known.get(name)) != _place(each)]
            gone = [(name,) for name in (*known.keys() - there.keys(), *(name for name, _ in news))]
            for table in ("pictures", "thumbnails"):
                tables.executemany(f"DELETE FROM {table} WHERE name = ?", gone)
            tables.executemany(
                "INSERT OR REPLACE INTO pictures (name, mtime_ns, size, is_favourite) VALUES (?, ?, ?, ?)",
                [(name, *astuple(each)) for name, each in news],
            )

        self._use(bring)

    def unread(self, count: int) -> list[str]:
        """Return the names of up to `count` files that have not been read yet, newest first."""
        query = f"SELECT name FROM pictures WHERE is_picture IS NULL {_NEWEST_FIRST} LIMIT ?"
        return [name for (name,) in self._use(lambda tables: tables.execute(query, (count,)).fetchall())]

    def unread_count(self) -> int:
        """Return how many files have not been read yet."""
        query = "SELECT COUNT(*) FROM pictures WHERE is_picture IS NULL"
        return self._use(lambda tables: tables.execute(query).fetchone()[0])

    def note(self, found: Mapping[str, Contents]) -> None:
        """Store what was read from files."""
        columns = ", ".join(f"{each.name} = ?" for each in fields(Contents))
        rows = [(*astuple(each), name) for name, each in found.items()]
        self._use(lambda tables: tables.executemany(f"UPDATE pictures SET {columns} WHERE name = ?", rows))

    def found(self, search: Search, *, offset: int, count: int) -> tuple[list[Entry], int]:
        """Return the pictures that match a search, newest first, and their total number.

        Files that have not been read yet match no search for words, a task, a model or an adapter, but all others.

        Args:
            search: the search.
            offset: how many matches to skip.
            count: how many to return at most.
        """
        where, values = _condition(search)

        def look(tables: sqlite3.Connection) -> tuple[list[Entry], int]:
            (total,) = tables.execute(f"SELECT COUNT(*) FROM pictures WHERE {where}", values).fetchone()
            page = f"SELECT name, caption, is_favourite FROM pictures WHERE {where} {_NEWEST_FIRST} LIMIT ? OFFSET ?"
            rows = tables.execute(page, (*values, count, offset)).fetchall()
            return [Entry(name, caption, bool(is_favourite)) for name, caption, is_favourite in rows], total

        return self._use(look)

    def choices(self, column: str) -> list[str]:
        """Return all values of "task", "model" or "adapter", sorted."""
        query = f"SELECT DISTINCT {column} FROM pictures WHERE is_picture AND {column} != '' ORDER BY {column}"
        return [value for (value,) in self._use(lambda tables: tables.execute(query).fetchall())]

    def thumbnail(self, name: str) -> bytes | None:
        """Return a picture's thumbnail as JPEG; None if none is stored."""
        query = "SELECT jpeg FROM thumbnails WHERE name = ?"
        row = self._use(lambda tables: tables.execute(query, (name,)).fetchone())
        return row[0] if row else None

    def keep_thumbnail(self, name: str, jpeg: bytes) -> None:
        """Store a picture's thumbnail until its file changes or is removed."""
        # Nothing is stored if the file has been removed meanwhile.
        query = "INSERT OR REPLACE INTO thumbnails SELECT name, ? FROM pictures WHERE name = ?"
        self._use(lambda tables: tables.execute(query, (jpeg, name)))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._tables.close()

    def _use(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run a transaction; if the index has become unusable, replace it by one in memory, and run it there.

        Raises:
            sqlite3.Error: the query itself is wrong.
        """
        with self._lock:
            try:
                with self._tables:
                    return work(self._tables)
            # Errors of the query, not of the tables.
            except (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError):
                raise
            except sqlite3.Error as error:
                # The disk may be full, or the file damaged.
                logger.warning("The index of the library is rebuilt, in memory: %s", error)
                self._tables.close()
                self._tables = _empty(":memory:")
                with self._tables:
                    return work(self._tables)


def in_small_letters(*texts: str) -> str:
    """Return texts joined and case-folded, the form in which they are searched."""
    return "\n".join(texts).casefold()


def storable(text: str) -> str:
    """Return an untrusted text in a form that SQLite can store; half an emoji, which is no Unicode, becomes "?"."""
    return text.encode("utf-8", "replace").decode()


def _condition(search: Search) -> tuple[str, list[str]]:
    sought = {name: getattr(search, name) for name in ("task", "model", "adapter")}
    exact = {name: storable(each) if isinstance(each, str) else each for name, each in sought.items() if each}
    words = in_small_letters(storable(search.words[:_MOST_LETTERS])).split()[:_MOST_WORDS]
    terms = ["is_picture IS NOT 0", *(f"{name} = ?" for name in exact), *(["INSTR(words, ?) > 0"] * len(words))]
    if search.favourites:
        terms.append("is_favourite")
    return " AND ".join(terms), [*exact.values(), *words]


def _place(stamp: Stamp | None) -> tuple[int, int] | None:
    return None if stamp is None else (stamp.mtime_ns, stamp.size)


def _opened(path: Path) -> sqlite3.Connection:
    """Open an index; rebuild it if it cannot be read, and in memory if it cannot be written."""
    try:
        with _closed_on_error(_connected(path)) as tables:
            if tables.execute("PRAGMA user_version").fetchone() == (_VERSION,):
                tables.execute("SELECT words FROM pictures, thumbnails LIMIT 1").fetchall()
                return tables
            tables.close()
    except sqlite3.Error as error:
        logger.warning("The index of the library cannot be read, and is rebuilt: %s", error)
    try:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        return _empty(path)
    except (sqlite3.Error, OSError) as error:
        logger.warning("The index of the library cannot be written, and is kept in memory: %s", error)
        return _empty(":memory:")


def _connected(path: Path | str) -> sqlite3.Connection:
    # Used by several threads, but only with the lock held.
    return sqlite3.connect(path, check_same_thread=False, timeout=_PATIENCE_S)


def _empty(path: Path | str) -> sqlite3.Connection:
    with _closed_on_error(_connected(path)) as tables:
        tables.execute("PRAGMA journal_mode = WAL")
        tables.executescript(_TABLES)
        tables.execute(f"PRAGMA user_version = {_VERSION}")
    return tables


@contextmanager
def _closed_on_error(tables: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    try:
        yield tables
    except BaseException:
        tables.close()
        raise
