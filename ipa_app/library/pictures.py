"""The files of what was made. They are the truth; the index only spares looking into each of them every time."""

from __future__ import annotations

import io
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from ipa_app.errors import UserError
from ipa_app.imaging.opening import read_image
from ipa_app.imaging.other_programs import read_other
from ipa_app.imaging.result_files import FILE_SUFFIXES, file_suffix, is_whole_file, read_settings, write_result
from ipa_app.imaging.transparency import on_white
from ipa_app.library.deleted import is_deletion, new_deletion, remove_for_good
from ipa_app.library.index import Contents, Entry, PictureIndex, Search, Stamp, in_small_letters

logger = logging.getLogger(__name__)

FAVOURITE = ".favourite"
"""An empty file beside a picture, of its name and this, says that it is a favourite."""

_THUMBNAIL = 192
_THUMBNAIL_QUALITY = 80
_READ_AT_ONCE = 50


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some of the pictures that were looked for.

    Attributes:
        entries: they, newest first.
        total: how many there are in all.
        unread: files that nobody has looked into: of what is looked for, there may be more among them.
    """

    entries: Sequence[Entry]
    total: int
    unread: int


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """What was deleted at once, so that it can be brought back.

    Attributes:
        id: names it.
        count: of the files.
    """

    id: str
    count: int


class Pictures:
    """A folder of result files, by day. Files may come and go by anybody's hand. Its methods may be called anywhere.

    A picture's name is its place in the folder. Names may be anybody's making: no one leads out of the folder.
    """

    def __init__(self, folder: Path, *, index: Path, deleted: Path, hold: Callable[[], None] = lambda: None) -> None:
        """Open the folder, which is made where it is missing; what was deleted long ago is removed.

        Args:
            folder: of the files.
            index: a file of SQLite.
            deleted: where files go that are deleted; on the same disk.
            hold: called before a picture is written; raises an OSError where that may not be.

        Raises:
            OSError: the folder cannot be made.
        """
        self._hold = hold
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._deleted = deleted
        self._index = PictureIndex(index)
        remove_for_good(deleted)

    def save(
        self, image: Image.Image, *, name: str, made: float, settings: Mapping[str, Any], inputs: Mapping[str, str]
    ) -> Path:
        """Write a picture with its settings, as `write_result` does, and return the file; it outlives a power failure.

        Args:
            image: the result.
            name: of the file, without an ending.
            made: when it was asked for, in seconds since 1970; with the name it says which file it is.
            settings: as for `write_result`.
            inputs: as for `write_result`.

        Raises:
            OSError: there is no room for it, or the folder cannot be written to.
        """
        self._hold()
        local = time.localtime(made)
        output_format = settings["output_format"]
        file = f"{time.strftime('%H%M%S', local)}-{name}{file_suffix(output_format)}"
        path = self.folder / time.strftime("%Y-%m-%d", local) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        write_result(image, path, settings, inputs=inputs, output_format=output_format)
        for each in (path, path.parent, self.folder):
            _bring_to_disk(each)
        return path

    def newest(self, count: int) -> list[Path]:
        """Return the latest files that are pictures, newest first, and so many at most."""
        return [self.folder / each.name for each in self.page(Search(), offset=0, count=count).entries]

    def page(self, search: Search, *, offset: int, count: int, reading_s: float = 0.0) -> Page:
        """Return pictures that are looked for, the newest first.

        Files that nobody has looked into yet are looked into, newest first, where they are to be returned, and as many
        others as there is time for: only then they are found by their words, task, model or adapter.

        Args:
            search: what is looked for.
            offset: how many to pass over.
            count: how many to return at most.
            reading_s: seconds for looking into others.
        """
        self._index.update(dict(_files_in(self.folder)))
        until = time.monotonic() + reading_s
        while time.monotonic() < until and (names := self._index.unread(_READ_AT_ONCE)):
            self._read(names, until=until)
        while True:
            entries, total = self._index.found(search, offset=offset, count=count)
            unread = [each.name for each in entries if each.caption is None]
            if not unread:
                return Page(entries=entries, total=total, unread=self._index.unread_count())
            self._read(unread)

    def choices(self, what: str) -> list[str]:
        """Return every "task", "model" or "adapter" that pictures were made with, of those that were looked into."""
        return self._index.choices(what)

    def thumbnail(self, name: str) -> bytes | None:
        """Return a picture, small, as JPEG; None where it has gone or cannot be opened."""
        kept = self._index.thumbnail(name)
        if kept is not None:
            return kept
        path = self.file(name)
        if path is None:
            return None
        try:
            image = on_white(read_image(path, min_side=1).image)
        except UserError as error:
            logger.warning("%s is left out of the library: %s", path, error)
            self._index.note({name: Contents(is_picture=False)})
            return None
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
        file = io.BytesIO()
        image.save(file, format="JPEG", quality=_THUMBNAIL_QUALITY)
        self._index.keep_thumbnail(name, file.getvalue())
        return file.getvalue()

    def file(self, name: str) -> Path | None:
        """Return the file of a picture; None where there is none of that name in the folder itself."""
        try:
            root = os.path.realpath(self.folder)
            path = os.path.join(root, *name.split("/"))  # noqa: PTH118 - pathlib would pass over what is odd in a name
            is_there = path.startswith(root + os.sep) and os.path.realpath(path) == path and Path(path).is_file()
        except (ValueError, OSError):  # a name that none can have
            return None
        return Path(path) if is_there and path.lower().endswith(FILE_SUFFIXES) else None

    def set_favourite(self, name: str, *, is_favourite: bool) -> None:
        """Make a picture a favourite, or not; one that has gone is left alone.

        Raises:
            OSError: the folder cannot be written to.
        """
        if path := self.file(name):
            mark = _mark(path)
            if is_favourite:
                mark.touch()
            else:
                mark.unlink(missing_ok=True)

    def is_favourite(self, name: str) -> bool:
        """Whether a picture is there and a favourite."""
        path = self.file(name)
        return path is not None and _mark(path).exists()

    def delete(self, names: Iterable[str]) -> Deletion:
        """Put files where they can be brought back from for some time; what has gone already is no error.

        Raises:
            OSError: the folder cannot be written to; what was deleted of it until then is there again.
        """
        deletion = Deletion(id=new_deletion(), count=0)
        try:
            for path in filter(None, map(self.file, names)):
                target = self._deleted / deletion.id / path.relative_to(os.path.realpath(self.folder))
                if _moved(path, target):
                    deletion = replace(deletion, count=deletion.count + 1)
        except OSError:
            self.restore(deletion.id)
            raise
        return deletion

    def restore(self, deletion_id: str) -> int:
        """Bring back what was deleted at once, beside what has taken its name meanwhile; return how many files.

        Raises:
            OSError: the folder cannot be written to.
        """
        if not is_deletion(deletion_id):
            return 0
        folder, count = self._deleted / deletion_id, 0
        for name, _ in list(_files_in(folder)):
            count += _moved(folder / name, _free(self.folder / name))
        shutil.rmtree(folder, ignore_errors=True)
        return count

    def close(self) -> None:
        """Close the index."""
        self._index.close()

    def _read(self, names: Sequence[str], *, until: float = float("inf")) -> None:
        found: dict[str, Contents] = {}
        for name in names:
            found[name] = _contents(self.folder / name, name)
            if time.monotonic() > until:
                break
        self._index.note(found)


def _contents(path: Path, name: str) -> Contents:
    """Look into a file."""
    if not is_whole_file(path):
        if path.exists():
            logger.warning("%s is left out of the library: it is damaged, or no picture.", path)
        return Contents(is_picture=False)
    settings = read_settings(path)
    if settings is None:
        other = read_other(path)
        settings = {"prompt": other.prompt, "negative_prompt": other.negative_prompt} if other else {}
    noted = {key: _text(settings.get(key)) for key in ("task", "model", "adapter", "prompt", "negative_prompt")}
    return Contents(
        is_picture=True,
        task=noted["task"],
        model=noted["model"],
        adapter=noted["adapter"] if settings.get("references") else "",
        caption=noted["prompt"],
        words=in_small_letters(noted["prompt"], noted["negative_prompt"], name),
    )


def _text(value: object) -> str:
    """Return a text that anybody may have written into a file, as SQLite can hold it."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _bring_to_disk(path: Path) -> None:
    """Wait until a file, or what a folder says of its files, is on the disk and not only on its way there."""
    if path.is_dir() and os.name != "posix":
        return  # elsewhere folders cannot be opened, and need not be
    opened = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _mark(path: Path) -> Path:
    return path.with_name(path.name + FAVOURITE)


def _moved(path: Path, target: Path) -> bool:
    """Move a file and what says that it is a favourite; return whether it was there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    is_there = False
    # The mark goes first: a picture is never seen without it.
    for source, goal in ((_mark(path), _mark(target)), (path, target)):
        with suppress(FileNotFoundError):
            source.replace(goal)
            is_there = source == path
    return is_there


def _free(path: Path) -> Path:
    """Return a name that nothing has yet, the one that is given where it is free."""
    free, number = path, 1
    while free.exists():
        number += 1
        free = path.with_stem(f"{path.stem} ({number})")
    return free


def _files_in(folder: Path, beneath: str = "") -> Iterator[tuple[str, Stamp]]:
    """Yield every file below a folder that may be a result, by its place there, with what is to be seen of it.

    Links are not followed.
    """
    entries = _entries(folder)
    names = {entry.name for entry in entries}
    for entry in entries:
        with suppress(OSError):  # it has gone meanwhile
            if entry.is_dir(follow_symlinks=False):
                yield from _files_in(Path(entry.path), f"{beneath}{entry.name}/")
            elif entry.is_file(follow_symlinks=False) and entry.name.lower().endswith(FILE_SUFFIXES):
                stat = entry.stat(follow_symlinks=False)
                is_favourite = entry.name + FAVOURITE in names
                yield f"{beneath}{entry.name}", Stamp(stat.st_mtime_ns, stat.st_size, is_favourite)


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
