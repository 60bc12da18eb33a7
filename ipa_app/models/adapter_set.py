"""The adapters that no model brings, beside those that do: named where the program is started, or brought by visitors.

Those that IPA_ADAPTERS names everybody may use. What a visitor brings nobody else is told of. No PyTorch in here until
somebody brings one.
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
"""Bytes of an adapter that a visitor brings: twice what the largest published one has."""
LARGEST_ADDED_ON_SPACE = 128 * 10**6
"""The same where any visitor could fill the disk: enough for those published for Stable Diffusion 1.5."""

_NAME = re.compile(r"[\w.-]+")
_LONGEST_NAME = 60


def largest_added() -> int:
    """Return how many bytes an adapter may have that a visitor brings."""
    return LARGEST_ADDED_ON_SPACE if "SPACE_ID" in os.environ else LARGEST_ADDED


class AdapterSet:
    """The adapters that no model brings, for whichever models they fit. All methods may be called from any thread."""

    def __init__(self, named: str = "") -> None:
        """Take in what IPA_ADAPTERS says; its files may come, change and go while the program runs.

        Args:
            named: files and folders, separated as in PATH or by semicolons, each perhaps as name=path.
        """
        self._named = tuple(listed(named))
        self._added: dict[str, AdapterEntry] = {}
        self._layouts: dict[Path, tuple[tuple[int, int], AdapterLayout | str]] = {}
        self._bases: dict[str, AdapterBase] = {}
        self._lock = threading.Lock()

    def offered(self, entry: ModelEntry) -> ModelEntry:
        """Return a model that has, beside its own adapters, those of this set that fit it."""
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
        """Take in a file that a visitor brings, whoever made it: only its header is read.

        Args:
            file: among what was uploaded.
            entry: the model it is meant for.
            own: the keys of what the same visitor has brought before.

        Returns:
            The key by which this visitor, and nobody else, can ask for it.

        Raises:
            UserError: it is too large, no adapter, or does not fit the model.
        """
        from ipa_app.adapter.files import check_adapter  # brings in PyTorch

        size, most = file.stat().st_size, largest_added()
        if size > most:
            raise UserError(
                "adapters.too_large",
                file=file.name,
                size=size_text(size),
                most=size_text(most),
                variable=ADAPTERS_VARIABLE,
            )
        layout = check_adapter(file)
        name = "-".join(_NAME.findall(file.stem)).strip(".-")[:_LONGEST_NAME] or "adapter"
        with self._lock:
            self._base(entry).check(layout)
            mine = (self._added[key].name for key in own if key in self._added)
            name = untaken(name, {*USUAL_NAMES, *entry.listed_adapters, *mine})
            key = f"{name}{SECRET_MARK}{secrets.token_urlsafe(16)}"
            self._added[key] = AdapterEntry(name=name, title=name, file=file, kind=layout.kind, is_private=True)
            self._layouts[file] = file_stamp(file), layout
            # Who has brought some gives up one of those before anybody else does.
            mine_first = [*(each for each in own if each in self._added), *self._added]
            surplus = mine_first[: max(0, len(self._added) - MOST_ADDED)]
        self.remove(surplus)
        return key

    def adopt(self, adapter: AdapterEntry, *, sha256: str) -> str:
        """Take in what was checked in the process where it was brought.

        Args:
            adapter: its file belongs to this set from now on.
            sha256: of its file.

        Returns:
            The key by which it is asked for here. What it is called there may be another adapter's name here.
        """
        key = f"{adapter.name[:_LONGEST_NAME]}{SECRET_MARK}{sha256}"
        with self._lock:
            self._added.pop(key, None)
            self._added[key] = replace(adapter, is_private=True)
            oldest = list(self._added)[:-MOST_ADDED]
        self.remove(oldest)
        return key

    def remove(self, keys: Collection[str]) -> None:
        """Let go of what visitors have brought, files and all."""
        with self._lock:
            for file in self._forget(keys):
                file.unlink(missing_ok=True)

    def _forget(self, keys: Collection[str]) -> set[Path]:
        """Forget some of what was added; give the files that nobody else has: one that is brought twice lies once."""
        gone = {self._added.pop(key).file for key in keys if key in self._added}
        gone -= {each.file for each in self._added.values()}
        for file in gone:
            self._layouts.pop(file, None)
        return gone

    def _named_files(self, left_out: list[Message]) -> Iterator[tuple[str, Path]]:
        """List the files there are now of those named, each with its name; of what is named in vain it is said."""
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
        """Return what a file is, from its header, which is read again where it has changed.

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
        """Return what has to be fitted; what a model on this computer is made of does not change."""
        base = self._bases.get(entry.name) or adapter_base(entry)
        if base.layers:
            self._bases[entry.name] = base
        return base


def _called(files: list[Path], name: str, *, folder: Path) -> Iterator[tuple[str, Path]]:
    """Name the files of a folder, or a file alone: by the name that was given, or else by their own."""
    alike = [file for file in files if name or (file != folder and file.name in FILE_NAMES.values())]
    for file in files:
        shared = (name or folder.name) if file in alike else ""
        yield "-".join([shared, file.stem] if shared and len(alike) > 1 else [shared or file.stem]), file
