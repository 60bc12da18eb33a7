"""Waiting requests: a JSON file for each, and their input pictures, each stored once, by the hash of its content."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from PIL import Image

from ipa_app.imaging.result_files import whole_file

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[0-9a-f]{32}")
# Seconds since 1970, later than any clock shows.
_LATEST = 2.0**33
_HASH = re.compile(r"[0-9a-f]{64}")
# The pictures are needed for minutes only, so they are compressed fast rather than well.
_COMPRESSION = 1


@dataclass(frozen=True, kw_only=True)
class WaitingRecord:
    """The record of a visitor's order.

    Attributes:
        id: names the order, 32 hexadecimal digits.
        asked: when it was submitted, in seconds since 1970.
        visitor: the visitor; None if the order counts as a visitor of its own.
        is_series: whether its parts are shown as one series.
        previews: whether its progress has previews.
        parts: its requests, as JSON.
        pictures: the names of the pictures that they need.
        begun: how often each part was begun without ending.
        refusal: why it is not drawn any more, as JSON; None while it is to be drawn.
    """

    id: str
    asked: float
    visitor: str | None
    is_series: bool
    previews: bool
    parts: tuple[Any, ...]
    pictures: tuple[str, ...]
    begun: tuple[int, ...]
    refusal: Any = field(default=None)


class WaitingRequests:
    """The folder of waiting requests. Thread-safe."""

    def __init__(self, folder: Path, *, hold: Callable[[], None] = lambda: None) -> None:
        """Open the folder, which is created if it is missing, and remove pictures that no request needs.

        Args:
            folder: of the files.
            hold: called before anything is written; raises an OSError if it must not be.

        Raises:
            OSError: it cannot be written to.
        """
        self._hold = hold
        self._folder, self._pictures = folder, folder / "pictures"
        self._pictures.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        records, is_all = self._read_all()
        self._needed = {record.id: record.pictures for record in records}
        for half in folder.rglob("*.part"):
            half.unlink(missing_ok=True)
        if is_all:
            self._remove_pictures(path.stem for path in self._pictures.glob("*.png"))

    def records(self) -> list[WaitingRecord]:
        """Return all records in the order of submission; a damaged file is left out, with a warning."""
        records, _ = self._read_all()
        return records

    def _read_all(self) -> tuple[list[WaitingRecord], bool]:
        """Return what `records` does, and whether all files could be opened; if not, there may be more records."""
        records, is_all = [], True
        # Unlike `glob`, this raises an error if the folder cannot be listed.
        for path in sorted(each for each in self._folder.iterdir() if each.suffix == ".json"):
            try:
                record = _read(path)
            except OSError as error:
                logger.warning("%s is left out: %s", path, error.strerror)
                is_all = False
            else:
                records += [record] if record else []
        return sorted(records, key=lambda each: (each.asked, each.id)), is_all

    def put(self, record: WaitingRecord, pictures: Mapping[str, Image.Image] | None = None) -> None:
        """Store a record, replacing an older one with the same id.

        Args:
            record: the record.
            pictures: the pictures that it needs and that may not be stored yet, by their names in the record.

        Raises:
            OSError: there is no room for it; nothing of a new record is kept then.
        """
        self._hold()
        # The folder may be gone, for instance with its disk.
        self._pictures.mkdir(parents=True, exist_ok=True)
        with self._lock:
            was = self._needed.get(record.id)
            self._needed[record.id] = record.pictures
            try:
                for name, image in (pictures or {}).items():
                    self._save(image, self._pictures / f"{name}.png")
                with whole_file(self._file(record.id)) as file:
                    file.write(json.dumps(asdict(record), allow_nan=False).encode())
            except BaseException:
                if was is None:
                    self._forget(record.id)
                raise
            self._remove_pictures(set(was or ()) - set(record.pictures))

    def remove(self, record_id: str) -> None:
        """Remove a record and the pictures that no other one needs; an unknown id is ignored."""
        with self._lock:
            if record_id in self._needed:
                self._forget(record_id)

    def picture(self, name: str) -> Image.Image:
        """Return a picture by its name in a record.

        Raises:
            OSError: it is missing or damaged.
        """
        if not _HASH.fullmatch(name):
            raise OSError("no name of a picture")
        with Image.open(self._pictures / f"{name}.png", formats=["PNG"]) as image:
            return image.copy()

    def _file(self, record_id: str) -> Path:
        return self._folder / f"{record_id}.json"

    def _forget(self, record_id: str) -> None:
        needed = self._needed.pop(record_id)
        self._file(record_id).unlink(missing_ok=True)
        self._remove_pictures(needed)

    def _remove_pictures(self, names: Iterable[str]) -> None:
        needed = {name for each in self._needed.values() for name in each}
        for name in set(names) - needed:
            (self._pictures / f"{name}.png").unlink(missing_ok=True)

    def _save(self, image: Image.Image, path: Path) -> None:
        if not path.exists():
            with whole_file(path) as file:
                image.save(file, format="PNG", compress_level=_COMPRESSION)


def _read(path: Path) -> WaitingRecord | None:
    content = path.read_bytes()
    try:
        data: dict[str, Any] = json.loads(content)
        data |= {name: tuple(data[name]) for name in ("parts", "pictures", "begun")}
        record = WaitingRecord(**{each.name: data[each.name] for each in fields(WaitingRecord)})
        if _is_whole(record) and path.stem == record.id:
            return record
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    logger.warning("%s is left out: it is damaged, or not a waiting request.", path)
    return None


def _is_whole(record: WaitingRecord) -> bool:
    is_counted = len(record.begun) == len(record.parts) and all(type(count) is int for count in record.begun)
    is_named = bool(_NAME.fullmatch(record.id)) and all(map(_HASH.fullmatch, record.pictures))
    is_owned = record.visitor is None or isinstance(record.visitor, str)
    is_told = isinstance(record.is_series, bool) and isinstance(record.previews, bool)
    return bool(is_named and is_owned and is_told and record.parts and is_counted and 0 < record.asked < _LATEST)
