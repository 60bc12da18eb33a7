"""Which adapters a model can draw with: found, named and described by the headers of their files. No PyTorch in here.

A model brings those in its folder. Others lie beside them in an `AdapterSet`: those that IPA_ADAPTERS names, which
everybody may use, and those that visitors bring, which nobody else is told of.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import secrets
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ipa_app.adapter.fitting import check_base, check_encoder
from ipa_app.adapter.header import read_header
from ipa_app.adapter.kinds import KINDS, USUAL_NAMES, VisionWidths
from ipa_app.adapter.layers import AttentionLayer, layers_in
from ipa_app.adapter.layout import AdapterLayout, read_layout
from ipa_app.errors import UserError
from ipa_app.models.amounts import size_text
from ipa_app.models.entry import SECRET_MARK, AdapterEntry, ModelEntry
from ipa_app.models.folder import read_json
from ipa_app.models.weights import find_weights

logger = logging.getLogger(__name__)

ADAPTERS_VARIABLE = "IPA_ADAPTERS"
ENDINGS = (".safetensors", ".bin")
MOST_ADDED = 64
LARGEST_ADDED = 2 * 10**9
"""Bytes of an adapter that a visitor brings: twice what the largest published one has."""
LARGEST_ADDED_ON_SPACE = 128 * 10**6
"""The same where any visitor could fill the disk: enough for those published for Stable Diffusion 1.5."""

_PUBLISHED = re.compile(r"ip[-_](?:adapter|plus)")
_VARIANTS = {
    "full-face": "Full face",
    "plus-face": "Face (fine-grained)",
    "light_v11": "Light (version 1.1)",
    "light": "Light",
    "composition": "Composition",
}
"""Published adapters for something special, by what is in the names of their files."""
_NAME = re.compile(r"[\w.-]+")
_LONGEST_NAME = 60


class TowerWidths(NamedTuple):
    """What an adapter must know of a vision tower; as long as transformers takes them for where nothing is said."""

    hidden_size: int = 768
    projection_dim: int = 512


@dataclass(frozen=True, kw_only=True)
class AdapterBase:
    """What an adapter has to fit.

    Attributes:
        layers: the text cross-attention layers; none where the model cannot be read, and then everything fits.
        tower: the vision tower, None where the model has none.
    """

    layers: tuple[AttentionLayer, ...]
    tower: VisionWidths | None

    def check(self, adapter: AdapterLayout) -> None:
        """Make sure that an adapter fits.

        Raises:
            UserError: it does not, and what it was made for.
        """
        if not self.layers:
            return
        check_base(adapter, self.layers)
        if self.tower is None:
            raise UserError(
                f"{adapter.path.name} needs an image encoder, and this model has none that can be read: please put the "
                "one that the adapter was trained with into the model's folder, as image_encoder."
            )
        check_encoder(adapter, self.tower)


def adapter_base(entry: ModelEntry) -> AdapterBase:
    """Tell from a model's files, of which none is loaded, what an adapter has to fit."""
    paths = (entry.location,)
    if not entry.location.is_file():
        weights = find_weights(entry.location / "unet", prefer_half=True)
        paths = weights.paths if weights else ()
    try:
        layers = layers_in({name: tensor for path in paths for name, tensor in read_header(path).items()})
        config = read_json(entry.image_encoder / "config.json") if entry.image_encoder else {}
    except UserError:  # which is said when the model is loaded
        return AdapterBase(layers=(), tower=None)
    # A whole CLIP describes its vision tower in a part of its own.
    own = config.get("vision_config")
    told = own if isinstance(own, dict) else config
    widths = {name: told[name] for name in TowerWidths._fields if name in told}
    return AdapterBase(layers=layers, tower=TowerWidths(**widths) if config else None)


def with_own_adapters(entry: ModelEntry) -> ModelEntry:
    """Give a model the adapters that lie in its folder.

    Those that fit are called like their files, the plainest of a kind "base" or "fine". Those that do not are left
    out, and it is said why; the model works without them.
    """
    folder = entry.location.with_suffix("") if entry.location.is_file() else entry.location
    fitting: dict[str, AdapterLayout] = {}
    left_out = []
    base = adapter_base(entry)
    for path in adapter_files(folder / "adapters"):
        try:
            layout = read_layout(path)
            base.check(layout)
        except UserError as error:
            logger.warning("%s: an adapter is left out: %s", entry.name, error)
            left_out.append(str(error))
        else:
            fitting[path.stem] = layout
    usual = _usual_files(fitting)
    adapters = {KINDS[kind].usual: usual_adapter(kind, fitting[name].path) for kind, name in usual.items()}
    for name, layout in fitting.items():
        if name not in usual.values():
            adapters[name] = _described(name, layout, adapters)
    return replace(entry, adapters=MappingProxyType(adapters), left_out=tuple(left_out))


def usual_adapter(kind: str, file: Path) -> AdapterEntry:
    """Describe a model's usual adapter of a kind, which is "base" or "fine" to requests."""
    known = KINDS[kind]
    return AdapterEntry(name=known.usual, title=known.title, about=known.about, file=file, kind=kind)


def adapter_files(folder: Path) -> list[Path]:
    """List the files in a folder that could be adapters; of one in two formats the safetensors file."""
    by_ending = [[path for path in sorted(folder.glob(f"[!.]*{ending}")) if path.is_file()] for ending in ENDINGS]
    best = {path.stem: path for paths in reversed(by_ending) for path in paths}
    return [best[name] for name in sorted(best)]


def largest_added() -> int:
    """Say how many bytes an adapter may have that a visitor brings."""
    return LARGEST_ADDED_ON_SPACE if "SPACE_ID" in os.environ else LARGEST_ADDED


class AdapterSet:
    """The adapters that no model brings, for whichever models they fit. All methods may be called from any thread."""

    def __init__(self, named: str = "") -> None:
        """Take in what IPA_ADAPTERS says; its files may come, change and go while the program runs.

        Args:
            named: files and folders, separated as in PATH, each perhaps as name=path.
        """
        self._named = tuple(filter(None, named.split(os.pathsep)))
        self._added: dict[str, AdapterEntry] = {}
        self._layouts: dict[Path, tuple[tuple[int, int], AdapterLayout | str]] = {}
        self._bases: dict[str, AdapterBase] = {}
        self._lock = threading.Lock()

    def offered(self, entry: ModelEntry) -> ModelEntry:
        """Give a model, beside its own adapters, those of this set that fit it."""
        with self._lock:
            self._forget([key for key, each in self._added.items() if not each.file.is_file()])
            if not (self._named or self._added) or not self._base(entry).layers:
                return entry
            adapters, left_out = dict(entry.adapters), list(entry.left_out)
            for name, path in self._named_files(left_out):
                try:
                    layout = self._fitting(path, entry)
                    if name in adapters or name in USUAL_NAMES:
                        raise UserError(
                            f"There is an adapter {name} already: please give {path.name} another name, as in "
                            f"{ADAPTERS_VARIABLE}=other={path}."
                        )
                    adapters[name] = _described(name, layout, adapters)
                except UserError as error:
                    left_out.append(str(error))
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
                f"{file.name} has {size_text(size)}, and an adapter that is added here may have {size_text(most)}: "
                f"please name it in {ADAPTERS_VARIABLE} where the program is started."
            )
        layout = check_adapter(file)
        name = "-".join(_NAME.findall(file.stem)).strip(".-")[:_LONGEST_NAME] or "adapter"
        with self._lock:
            self._base(entry).check(layout)
            mine = (self._added[key].name for key in own if key in self._added)
            name = _untaken(name, {*USUAL_NAMES, *entry.listed_adapters, *mine})
            key = f"{name}{SECRET_MARK}{secrets.token_urlsafe(16)}"
            self._added[key] = AdapterEntry(name=name, title=name, file=file, kind=layout.kind, is_private=True)
            self._layouts[file] = file_stamp(file), layout
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

    def _named_files(self, left_out: list[str]) -> Iterator[tuple[str, Path]]:
        """List the files there are now of those named, each with its name; of what is named in vain it is said."""
        for text in self._named:
            name, path = _name_and_path(text)
            files = adapter_files(path) if path.is_dir() else [path] if path.is_file() else []
            if not files:
                what = "holds no .safetensors or .bin file" if path.is_dir() else "is not there"
                left_out.append(f"{ADAPTERS_VARIABLE} names {path}, which {what}.")
            for file in files:
                yield "-".join([name, file.stem] if name and len(files) > 1 else [name or file.stem]), file

    def _fitting(self, path: Path, entry: ModelEntry) -> AdapterLayout:
        """Tell what a file is, from its header, which is read again where it has changed.

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
                known = stamp, str(error)
            self._layouts[path] = known
        if isinstance(known[1], str):
            raise UserError(known[1])
        self._base(entry).check(known[1])
        return known[1]

    def _base(self, entry: ModelEntry) -> AdapterBase:
        """Tell what has to be fitted; what a model on this computer is made of does not change."""
        base = self._bases.get(entry.name) or adapter_base(entry)
        if base.layers:
            self._bases[entry.name] = base
        return base


def file_stamp(path: Path) -> tuple[int, int]:
    """Size and time of change of an adapter file, by which it is seen that it has changed.

    Raises:
        UserError: it is not there any more.
    """
    try:
        status = path.stat()
    except OSError:
        raise UserError(f"There is no adapter file {path}.") from None
    return status.st_size, status.st_mtime_ns


def _usual_files(fitting: Mapping[str, AdapterLayout]) -> dict[str, str]:
    """Choose the plainest adapter of every kind that has a usual one: kinds to the names of files."""
    chosen = {}
    for kind in KINDS.values():
        plain = [name for name, each in fitting.items() if each.kind == kind.name and _variant(name) is None]
        if kind.usual and plain:
            # A published file before one that somebody has called in a way of their own.
            chosen[kind.name] = min(plain, key=lambda name: (_PUBLISHED.match(name) is None, name))
    return chosen


def _described(name: str, layout: AdapterLayout, others: Mapping[str, AdapterEntry]) -> AdapterEntry:
    """Describe an adapter that is called like its file."""
    titles = {each.title for each in others.values()}
    title = _variant(name) or name
    return AdapterEntry(name=name, title=name if title in titles else title, file=layout.path, kind=layout.kind)


def _variant(name: str) -> str | None:
    """Say what a published adapter is for, where it is for something special."""
    if not _PUBLISHED.match(name):
        return None
    return next((title for word, title in _VARIANTS.items() if word in name), None)


def _untaken(name: str, taken: Collection[str]) -> str:
    """Number a name where there is another like it."""
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if each not in taken)


def _name_and_path(text: str) -> tuple[str, Path]:
    """Read what IPA_ADAPTERS names: a path, or name=path."""
    name, separator, path = text.partition("=")
    if not separator or not _NAME.fullmatch(name) or Path(text).exists():
        name, path = "", text
    return name, Path(path).expanduser().resolve()
