"""What is known of the files of the library, in SQLite, so that not each of them is looked into every time.

All of it is made anew from the files where it is missing or damaged, and in memory where it cannot be written.
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

# A number that says what the tables look like: an index of others is made anew.
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
# Another process may be writing a whole folder's.
_PATIENCE_S = 30.0
# What is pasted may be a whole text, and SQLite takes a thousand conditions at most.
_MOST_LETTERS, _MOST_WORDS = 200, 20
_NEWEST_FIRST = "ORDER BY mtime_ns DESC, name DESC"

Result = TypeVar("Result")


@dataclass(frozen=True)
class Stamp:
    """What is to be seen of a file from outside.

    Attributes:
        mtime_ns: when it was last changed.
        size: in bytes.
        is_favourite: whether it is somebody's favourite.
    """

    mtime_ns: int
    size: int
    is_favourite: bool = False


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What was found in a file.

    Attributes:
        is_picture: whether it is one, with nothing missing.
        task: that it was made by; "" where none is noted.
        model: that it was made with, as `task`.
        adapter: that it was made with, as `task`.
        caption: what was asked for in words.
        words: all that a search is to find it by, in small letters.
    """

    is_picture: bool
    task: str = ""
    model: str = ""
    adapter: str = ""
    caption: str = ""
    words: str = ""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is looked for: pictures of which all of this is true. "" stands for any.

    Attributes:
        words: that are in what was asked for or in the file's name, as a whole or as parts of others; of a long text
            what it begins with.
        task: that made it.
        model: that drew it.
        adapter: that was used.
        favourites: whether it is a favourite; False for all.
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
        name: its place in the folder.
        caption: what was asked for in words; None where nobody has looked into the file.
        is_favourite: whether it is a favourite.
    """

    name: str
    caption: str | None
    is_favourite: bool


class PictureIndex:
    """A file of SQLite that may be thrown away at any time. Its methods may be called anywhere."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._tables = _opened(path)

    def update(self, there: Mapping[str, Stamp]) -> None:
        """Bring it to what lies in the folder."""

        def bring(tables: sqlite3.Connection) -> None:
            rows = tables.execute("SELECT name, mtime_ns, size, is_favourite FROM pictures")
            known = {name: Stamp(mtime_ns, size, bool(is_favourite)) for name, mtime_ns, size, is_favourite in rows}
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
        """Return names of files that nobody has looked into, the newest first, and so many at most."""
        query = f"SELECT name FROM pictures WHERE is_picture IS NULL {_NEWEST_FIRST} LIMIT ?"
        return [name for (name,) in self._use(lambda tables: tables.execute(query, (count,)).fetchall())]

    def unread_count(self) -> int:
        """Return how many files nobody has looked into."""
        query = "SELECT COUNT(*) FROM pictures WHERE is_picture IS NULL"
        return self._use(lambda tables: tables.execute(query).fetchone()[0])

    def note(self, found: Mapping[str, Contents]) -> None:
        """Keep what was found in files."""
        columns = ", ".join(f"{each.name} = ?" for each in fields(Contents))
        rows = [(*astuple(each), name) for name, each in found.items()]
        self._use(lambda tables: tables.executemany(f"UPDATE pictures SET {columns} WHERE name = ?", rows))

    def found(self, search: Search, *, offset: int, count: int) -> tuple[list[Entry], int]:
        """Return pictures that are looked for, the newest first, and how many there are in all.

        What nobody has looked into is among all that there is, and not among what has certain words, or a task.

        Args:
            search: what is looked for.
            offset: how many to pass over.
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
        """Return all that there is of "task", "model" or "adapter", in order."""
        query = f"SELECT DISTINCT {column} FROM pictures WHERE is_picture AND {column} != '' ORDER BY {column}"
        return [value for (value,) in self._use(lambda tables: tables.execute(query).fetchall())]

    def thumbnail(self, name: str) -> bytes | None:
        """Return a picture, small, as JPEG; None where none has been kept."""
        query = "SELECT jpeg FROM thumbnails WHERE name = ?"
        row = self._use(lambda tables: tables.execute(query, (name,)).fetchone())
        return row[0] if row else None

    def keep_thumbnail(self, name: str, jpeg: bytes) -> None:
        """Keep a picture, small, until its file changes or goes."""
        # Not where the file has gone meanwhile.
        query = "INSERT OR REPLACE INTO thumbnails SELECT name, ? FROM pictures WHERE name = ?"
        self._use(lambda tables: tables.execute(query, (jpeg, name)))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._tables.close()

    def _use(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Read or change it, whole or not at all; in memory from then on where it cannot be used any more.

        Raises:
            sqlite3.Error: what is asked for is no question to it.
        """
        with self._lock:
            try:
                with self._tables:
                    return work(self._tables)
            # Of what was asked, and no matter of the tables.
            except (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError):
                raise
            except sqlite3.Error as error:
                # It may be on a full disk, or not be tables any more.
                logger.warning("The index of the library is made anew, in memory: %s", error)
                self._tables.close()
                self._tables = _empty(":memory:")
                with self._tables:
                    return work(self._tables)


def in_small_letters(*texts: str) -> str:
    """Return texts as they are searched for, and in."""
    return "\n".join(texts).casefold()


def _condition(search: Search) -> tuple[str, list[str]]:
    exact = {name: getattr(search, name) for name in ("task", "model", "adapter") if getattr(search, name)}
    words = in_small_letters(search.words[:_MOST_LETTERS]).split()[:_MOST_WORDS]
    terms = ["is_picture IS NOT 0", *(f"{name} = ?" for name in exact), *(["INSTR(words, ?) > 0"] * len(words))]
    if search.favourites:
        terms.append("is_favourite")
    return " AND ".join(terms), [*exact.values(), *words]


def _place(stamp: Stamp | None) -> tuple[int, int] | None:
    return None if stamp is None else (stamp.mtime_ns, stamp.size)


def _opened(path: Path) -> sqlite3.Connection:
    """Open an index, one that cannot be read anew, and in memory where there is no room for it."""
    try:
        with _closed_on_error(_connected(path)) as tables:
            if tables.execute("PRAGMA user_version").fetchone() == (_VERSION,):
                tables.execute("SELECT words FROM pictures, thumbnails LIMIT 1").fetchall()
                return tables
            tables.close()
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
