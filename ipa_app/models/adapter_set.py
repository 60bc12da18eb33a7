"""The adapters that belong to no model: named when the program is started, or uploaded by visitors.

Everybody may use those that IPA_ADAPTERS names. An uploaded adapter is private to its visitor. No PyTorch in here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import threading
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from ipa_app.adapter.kinds import FILE_NAMES, USUAL_NAMES
from ipa_app.adapter.layout import AdapterLayout, read_layout
from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.adapters import AdapterBase, adapter_base, adapter_files, described, file_stamp, untaken
from ipa_app.models.entry import SECRET_MARK, AdapterEntry, ModelEntry
from ipa_app.models.listed import listed, named_path
from ipa_app.models.units import size_text

logger = logging.getLogger(__name__)

ADAPTERS_VARIABLE = "IPA_ADAPTERS"
MOST_ADDED = 64
LARGEST_ADDED = 2 * 10**9
"""Most bytes of an uploaded adapter: twice the size of the largest published one."""
LARGEST_ADDED_ON_SPACE = 128 * 10**6
"""The same on a Space, where any visitor could fill the disk: enough for those published for Stable Diffusion 1.5."""

_NAME = re.compile(r"[\w.-]+")
_LONGEST_NAME = 60


def largest_added() -> int:
    """Return how many bytes an uploaded adapter may have."""
    return LARGEST_ADDED_ON_SPACE if "SPACE_ID" in os.environ else LARGEST_ADDED


class AdapterSet:
    """The adapters that belong to no model, for any models they fit. All methods may be called from any thread."""

    def __init__(self, named: str = "") -> None:
        """Read the value of IPA_ADAPTERS; its files may come, change and go while the program runs.

        Args:
            named: files and folders, separated as in PATH or by semicolons, each optionally as name=path.
        """
        self._named = tuple(listed(named))
        self._added: dict[str, AdapterEntry] = {}
        self._layouts: dict[Path, tuple[tuple[int, int], AdapterLayout | str]] = {}
        self._bases: dict[str, AdapterBase] = {}
        self._lock = threading.Lock()

    def offered(self, entry: ModelEntry) -> ModelEntry:
        """Return a model with those adapters of this set that fit it, beside its own."""
        with self._lock:
            self._forget([key for key, each in self._added.items() if not each.file.is_file()])
            if not (self._named or self._added) or not self._base(entry).layers:
                return entry
            adapters, left_out = dict(entry.adapters), list(entry.left_out)
            for name, path in self._named_files(left_out):
                try:
                    layout = self._fitting(path, entry)
                    if name in adapters or name in USUAL_NAMES:
                        raise UserError("adapters.name_taken", name=name, file=path.name, variable=ADAPTERS_VARIABLE)
                    adapters[name] = described(name, layout, adapters)
                except UserError as error:
                    left_out.append(error.message)
            for key, added in self._added.items():
                with contextlib.suppress(UserError):
                    self._fitting(added.file, entry)
                    adapters[key] = added
            return replace(entry, adapters=MappingProxyType(adapters), left_out=tuple(left_out))

    def add(self, file: Path, *, entry: ModelEntry, own: Collection[str] = ()) -> str:
        """Add an uploaded file, which is not trusted: only its header is read.

        Args:
            file: the uploaded file.
            entry: the model it is meant for.
            own: the keys of the adapters that the same visitor has uploaded before.

        Returns:
            The key by which this visitor, and nobody else, can request it.

        Raises:
            UserError: it is too large, not an adapter, or does not fit the model.
        """
        size, most = file.stat().st_size, largest_added()
        if size > most:
            raise UserError(
                "adapters.too_large",
                file=file.name,
                size=size_text(size),
                most=size_text(most),
                variable=ADAPTERS_VARIABLE,
            )
        layout = read_layout(file)
        name = "-".join(_NAME.findall(file.stem)).strip(".-")[:_LONGEST_NAME] or "adapter"
        with self._lock:
            self._base(entry).check(layout)
            mine = (self._added[key].name for key in own if key in self._added)
            name = untaken(name, {*USUAL_NAMES, *entry.listed_adapters, *mine})
            key = f"{name}{SECRET_MARK}{secrets.token_urlsafe(16)}"
            self._added[key] = AdapterEntry(name=name, title=name, file=file, kind=layout.kind, is_private=True)
            self._layouts[file] = file_stamp(file), layout
            # A visitor's own adapters are evicted before those of others.
            mine_first = [*(each for each in own if each in self._added), *self._added]
            surplus = mine_first[: max(0, len(self._added) - MOST_ADDED)]
        self.remove(surplus)
        return key

    def adopt(self, adapter: AdapterEntry, *, sha256: str) -> str:
        """Add an adapter that was checked in the process to which it was uploaded.

        Args:
            adapter: its file belongs to this set from now on.
            sha256: of its file.

        Returns:
            The key by which it is requested here. Its name in the other process may belong to another adapter here.
        """
        key = f"{adapter.name[:_LONGEST_NAME]}{SECRET_MARK}{sha256}"
        with self._lock:
            self._added.pop(key, None)
            self._added[key] = replace(adapter, is_private=True)
            oldest = list(self._added)[:-MOST_ADDED]
        self.remove(oldest)
        return key

    def remove(self, keys: Collection[str]) -> None:
        """Remove uploaded adapters together with their files."""
        with self._lock:
            for file in self._forget(keys):
                file.unlink(missing_ok=True)

    def _forget(self, keys: Collection[str]) -> set[Path]:
        """Forget some added adapters; return the files no longer used: two uploads of the same file share it."""
        gone = {self._added.pop(key).file for key in keys if key in self._added}
        gone -= {each.file for each in self._added.values()}
        for file in gone:
            self._layouts.pop(file, None)
        return gone

    def _named_files(self, left_out: list[Message]) -> Iterator[tuple[str, Path]]:
        """Yield the named files that exist now, with their names; add messages on missing ones to `left_out`."""
        for text in self._named:
            name, path = named_path(text)
            try:
                files = adapter_files(path) if path.is_dir() else [path] if path.is_file() else []
                trouble = Message("adapters.trouble.holds_none" if path.is_dir() else "adapters.trouble.not_there")
            except OSError:
                files, trouble = [], Message("adapters.trouble.unreadable")
            if not files:
                left_out.append(Message("adapters.named", variable=ADAPTERS_VARIABLE, path=path.name, trouble=trouble))
            yield from _called(files, name, folder=path)

    def _fitting(self, path: Path, entry: ModelEntry) -> AdapterLayout:
        """Return a file's layout from its header, which is read again if the file has changed.

        Raises:
            UserError: it cannot be used with this model.
        """
        stamp = file_stamp(path)
        known = self._layouts.get(path)
        if known is None or known[0] != stamp:
            try:
                known = stamp, read_layout(path)
            except UserError as error:
                logger.warning("An adapter is left out: %s", error)
                known = stamp, error.message
            self._layouts[path] = known
        if isinstance(known[1], str):
            raise UserError(known[1])
        self._base(entry).check(known[1])
        return known[1]

    def _base(self, entry: ModelEntry) -> AdapterBase:
        """Return what an adapter has to fit; cached, as a model's files on this machine do not change."""
        base = self._bases.get(entry.name) or adapter_base(entry)
        if base.layers:
            self._bases[entry.name] = base
        return base


def _called(files: list[Path], name: str, *, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a folder, or a single file, with their names: the given name, or else their own."""
    alike = [file for file in files if name or (file != folder and file.name in FILE_NAMES.values())]
    for file in files:
        shared = (name or folder.name) if file in alike else ""
        yield "-".join([shared, file.stem] if shared and len(alike) > 1 else [shared or file.stem]), file
