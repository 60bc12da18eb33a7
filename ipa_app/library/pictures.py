"""The files of results. They are the source of truth; the index only saves reading all of them every time."""

from __future__ import annotations

import io
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from ipa_app.errors import UserError
from ipa_app.imaging.opening import read_image
from ipa_app.imaging.other_programs import read_other
from ipa_app.imaging.result_files import FILE_SUFFIXES, file_suffix, is_whole_file, read_settings, write_result
from ipa_app.imaging.transparency import on_white
from ipa_app.library.deleted import is_deletion, new_deletion, remove_for_good
from ipa_app.library.index import Contents, Entry, PictureIndex, Search, Stamp, in_small_letters, storable
from ipa_app.messages import Message

logger = logging.getLogger(__name__)

FAVOURITE = ".favourite"
"""Suffix of the empty file beside a picture that marks it as a favourite."""

_THUMBNAIL = 192
_THUMBNAIL_QUALITY = 80
_READ_AT_ONCE = 50


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of the matches of a search.

    Attributes:
        entries: the pictures, newest first.
        total: the number of all matches.
        unread: the number of files that have not been read yet, among which there may be more matches.
        is_listed: whether the folder could be listed; if not, the pictures are those that were known before.
    """

    entries: Sequence[Entry]
    total: int
    unread: int
    is_listed: bool = True

    @property
    def notes(self) -> list[Message]:
        """Return why there may be more matches."""
        reading = [Message("library.reading", count=self.unread)] if self.unread else []
        return [*reading, *([] if self.is_listed else [Message("library.not_listed")])]


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """One deletion, which can be undone.

    Attributes:
        id: names the deletion.
        count: the number of files.
    """

    id: str
    count: int


class Pictures:
    """A folder of result files, by day, to which others may add files or remove them. Thread-safe.

    A picture's name is its path within the folder. Names are untrusted: none leads out of the folder.
    """

    def __init__(self, folder: Path, *, index: Path, deleted: Path, hold: Callable[[], None] = lambda: None) -> None:
        """Open the folder, which is created if it is missing, and remove old deletions.

        Args:
            folder: the folder of the files.
            index: the SQLite file of the index.
            deleted: the folder for deleted files; on the same disk.
            hold: called before a picture is written; raises an OSError if it must not be.

        Raises:
            OSError: the folder cannot be created.
        """
        self._hold = hold
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._deleted = deleted
        self._index = PictureIndex(index)
        self._unlisted: set[str] = set()
        remove_for_good(deleted)

    def save(
        self, image: Image.Image, *, name: str, made: float, settings: Mapping[str, Any], inputs: Mapping[str, str]
    ) -> Path:
        """Write a picture with its settings, as `write_result` does, sync it to the disk, and return the file.

        Args:
            image: the result.
            name: the file's name, without time and suffix.
            made: when it was requested, in seconds since 1970; together with the name it determines the path.
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
        """Return the files of up to `count` of the latest pictures, newest first."""
        return [self.folder / each.name for each in self.page(Search(), offset=0, count=count).entries]

    def page(self, search: Search, *, offset: int, count: int, reading_s: float = 0.0) -> Page:
        """Return the pictures that match a search, newest first.

        Unread files are read first, newest first, as many as time allows, and then those that are to be returned: only
        read files match words, a task, a model or an adapter. What cannot be listed is taken to be there as before.

        Args:
            search: the search.
            offset: how many matches to skip.
            count: how many to return at most.
            reading_s: seconds for reading files that need not be returned.
        """
        is_listed = self._update_index()
        until = time.monotonic() + reading_s
        while time.monotonic() < until and (names := self._index.unread(_READ_AT_ONCE)):
            self._read(names, until=until)
        tried: set[str] = set()
        while True:
            entries, total = self._index.found(search, offset=offset, count=count)
            unread = [each.name for each in entries if each.caption is None and each.name not in tried]
            if not unread:
                return Page(entries=entries, total=total, unread=self._index.unread_count(), is_listed=is_listed)
            self._read(unread)
            tried.update(unread)

    def choices(self, what: str) -> list[str]:
        """Return every "task", "model" or "adapter" of the pictures that have been read."""
        return self._index.choices(what)

    def thumbnail(self, name: str) -> bytes | None:
        """Return a picture's thumbnail as JPEG; None if the picture is gone or cannot be opened."""
        kept = self._index.thumbnail(name)
        if kept is not None:
            return kept
        path = self.file(name)
        if path is None:
            return None
        try:
            image = on_white(read_image(path.read_bytes(), min_side=1).image)
        except OSError:  # perhaps only now, so nothing is noted
            return None
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
        """Return the file of a picture; None if there is none of that name within the folder."""
        try:
            root = os.path.realpath(self.folder)
            path = os.path.join(root, *name.split("/"))  # noqa: PTH118 - pathlib would normalise odd names
            is_there = path.startswith(root + os.sep) and os.path.realpath(path) == path and Path(path).is_file()
        except (ValueError, OSError):  # an impossible name
            return None
        return Path(path) if is_there and path.lower().endswith(FILE_SUFFIXES) else None

    def set_favourite(self, name: str, *, is_favourite: bool) -> None:
        """Mark or unmark a picture as a favourite; one that is gone is ignored.

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
        """Whether a picture exists and is a favourite."""
        path = self.file(name)
        return path is not None and _mark(path).exists()

    def delete(self, names: Iterable[str]) -> Deletion:
        """Move files to the deleted ones, from where they can be restored for some time; missing files are ignored.

        Raises:
            OSError: the folder cannot be written to; files that were already moved are restored.
        """
        root, folder = Path(os.path.realpath(self.folder)), self._deleted / (deletion_id := new_deletion())
        moved: list[Path] = []
        try:
            for path in filter(None, map(self.file, names)):
                moved.append(path)
                if not _moved(path, folder / path.relative_to(root)):
                    moved.pop()
        except OSError:
            for path in moved:
                _moved(folder / path.relative_to(root), _free(path))
            _remove_empty(folder)
            raise
        return Deletion(id=deletion_id, count=len(moved))

    def restore(self, deletion_id: str) -> int:
        """Restore a deletion, and return the number of files. A file whose name is taken gets a new name.

        Raises:
            OSError: the deletion cannot be read, or the folder cannot be written to; it can be tried again.
        """
        if not is_deletion(deletion_id):
            return 0
        folder, count = self._deleted / deletion_id, 0
        listing = _listed(folder)
        for error in listing.errors.values():
            raise error
        for name in listing.files:
            count += _moved(folder / name, _free(self.folder / name))
        _remove_empty(folder)
        return count

    def close(self) -> None:
        """Close the index."""
        self._index.close()

    def _update_index(self) -> bool:
        """Update the index to the files in the folder; return whether all of it could be listed."""
        listing = _listed(self.folder)
        for name in listing.errors.keys() - self._unlisted:
            logger.warning("%s cannot be listed: %s", self.folder / name, listing.errors[name].strerror)
        self._unlisted = set(listing.errors)
        self._index.update(listing.files, unlisted=tuple(listing.errors))
        return not listing.errors

    def _read(self, names: Sequence[str], *, until: float = float("inf")) -> None:
        found: dict[str, Contents] = {}
        for name in names:
            if _can_be_opened(self.folder / name):
                found[name] = _contents(self.folder / name, name)
            if time.monotonic() > until:
                break
        self._index.note(found)


def _can_be_opened(path: Path) -> bool:
    """Whether a file can be opened now; True if that would not change later."""
    try:
        path.open("rb").close()
    except (FileNotFoundError, PermissionError):
        return True
    except OSError as error:  # such as too many open files
        logger.warning("%s cannot be opened now: %s", path, error.strerror)
        return False
    return True


def _contents(path: Path, name: str) -> Contents:
    """Read a file."""
    if not is_whole_file(path):
        if path.exists():
            logger.warning("%s is left out of the library: it is damaged, or not a picture.", path)
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
    """Return an untrusted text from a file as `storable` does; "" for anything else."""
    return storable(value) if isinstance(value, str) else ""


def _bring_to_disk(path: Path) -> None:
    """Sync a file, or a folder's list of its files, to the disk."""
    if path.is_dir() and os.name != "posix":
        return  # elsewhere folders cannot be opened, and need no sync
    opened = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _mark(path: Path) -> Path:
    return path.with_name(path.name + FAVOURITE)


def _moved(path: Path, target: Path) -> bool:
    """Move a file and its favourite mark; return whether the file existed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    is_there = False
    # The mark goes first: a picture is never seen without it.
    for source, goal in ((_mark(path), _mark(target)), (path, target)):
        with suppress(FileNotFoundError):
            source.replace(goal)
            is_there = source == path
    return is_there


def _free(path: Path) -> Path:
    """Return a path that is not taken: the given one if possible."""
    free, number = path, 1
    while free.exists():
        number += 1
        free = path.with_stem(f"{path.stem} ({number})")
    return free


@dataclass(frozen=True)
class _Listing:
    """The files below a folder that may be results.

    Attributes:
        files: the stamp of each, by its path within the folder.
        errors: what could not be looked at and may still be there, by the same paths; those of folders end in a slash.
    """

    files: dict[str, Stamp] = field(default_factory=dict)
    errors: dict[str, OSError] = field(default_factory=dict)


def _listed(folder: Path) -> _Listing:
    """List the files below a folder; links are not followed."""
    listing = _Listing()
    _list_into(listing, folder, "")
    return listing


def _list_into(listing: _Listing, folder: Path, beneath: str) -> None:
    try:
        with os.scandir(folder) as found:
            # A name that is not valid Unicode can be in neither the index nor the page.
            entries = [entry for entry in found if _is_text(entry.name)]
    except FileNotFoundError:
        return  # removed meanwhile
    except OSError as error:
        listing.errors[beneath] = error
        return
    names = {entry.name for entry in entries}
    for entry in entries:
        name = f"{beneath}{entry.name}"
        try:
            if entry.is_dir(follow_symlinks=False):
                _list_into(listing, Path(entry.path), f"{name}/")
            elif entry.is_file(follow_symlinks=False) and name.lower().endswith(FILE_SUFFIXES):
                stat = entry.stat(follow_symlinks=False)
                listing.files[name] = Stamp(stat.st_mtime_ns, stat.st_size, entry.name + FAVOURITE in names)
        except FileNotFoundError:  # removed meanwhile
            continue
        except OSError as error:
            listing.errors[name] = error


def _remove_empty(folder: Path) -> None:
    """Remove a folder and those in it that are empty, but no file."""
    for each, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):
            Path(each).rmdir()


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
