"""A model's own adapters: found, named and described from the headers of their files. No PyTorch in here."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ipa_app.adapter.fitting import check_base, check_encoder
from ipa_app.adapter.header import Header
from ipa_app.adapter.kinds import KINDS, VisionWidths
from ipa_app.adapter.layers import AttentionLayer, layers_in
from ipa_app.adapter.layout import AdapterLayout, read_layout
from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.entry import AdapterEntry, ModelEntry
from ipa_app.models.folder import read_json
from ipa_app.models.weights import find_weights, read_header

logger = logging.getLogger(__name__)

ENDINGS = (".safetensors", ".sft", ".bin")

_PUBLISHED = re.compile(r"ip[-_](?:adapter|plus)")
_VARIANTS = {
    "full-face": Message("adapter.title.full_face"),
    "plus-face": Message("adapter.title.plus_face"),
    "light_v11": Message("adapter.title.light_v11"),
    "light": Message("adapter.title.light"),
    "composition": Message("adapter.title.composition"),
}
"""Published adapters with a special purpose, by a part of their file names."""


class TowerWidths(NamedTuple):
    """What an adapter must know of an image encoder. The defaults are those of transformers."""

    hidden_size: int = 768
    projection_dim: int = 512


@dataclass(frozen=True, kw_only=True)
class AdapterBase:
    """What an adapter has to fit.

    Attributes:
        layers: the text cross-attention layers; none if the model cannot be read, and then every adapter fits.
        tower: the image encoder; None if the model has none.
    """

    layers: tuple[AttentionLayer, ...]
    tower: VisionWidths | None

    def check(self, adapter: AdapterLayout) -> None:
        """Check that an adapter fits.

        Raises:
            UserError: it does not; the message says what it was made for.
        """
        if not self.layers:
            return
        check_base(adapter, self.layers)
        if self.tower is None:
            raise UserError("adapter.no_encoder", file=adapter.path.name)
        check_encoder(adapter, self.tower)


def adapter_base(entry: ModelEntry, *, unet: Header | None = None) -> AdapterBase:
    """Return what an adapter of a model has to fit, without loading any of the model's files.

    Args:
        entry: of the model.
        unet: the header of its UNet's weights, if it was read already.
    """
    file = entry.location
    try:
        if unet is None:
            unet = read_header(file, pickles=False) if file.is_file() else _part_header(file / "unet")
        return AdapterBase(layers=layers_in(unet), tower=_tower_widths(entry.image_encoder))
    except UserError:  # reported when the model is loaded
        return AdapterBase(layers=(), tower=None)


def _tower_widths(folder: Path | None) -> TowerWidths | None:
    """Return the widths of an image encoder's outputs from its folder; None if there is no encoder."""
    config = read_json(folder / "config.json") if folder else {}
    if folder is None or not config:
        return None
    projection = _part_header(folder).get("visual_projection.weight")
    if projection is not None and len(projection.shape) == 2:
        return TowerWidths(projection_dim=projection.shape[0], hidden_size=projection.shape[1])
    # Without the weights, go by the configuration: a whole CLIP describes its image encoder in a part of its own.
    own = config.get("vision_config")
    told = own if isinstance(own, dict) else config
    return TowerWidths(**{name: told[name] for name in TowerWidths._fields if name in told})


def _part_header(folder: Path) -> Header:
    """Read the header of a part's weight files; empty if there are none."""
    weights = find_weights(folder, prefer_half=True)
    return weights.header if weights else {}


def with_own_adapters(entry: ModelEntry, *, unet: Header | None = None) -> ModelEntry:
    """Return a model with the adapters in its folder.

    Those that fit are named after their files, and the plainest of a kind "base" or "fine". Those that do not fit are
    left out with a message on why; the model works without them.

    Args:
        entry: of the model.
        unet: see `adapter_base`.
    """
    folder = entry.location.with_suffix("") if entry.location.is_file() else entry.location
    files = adapter_files(folder / "adapters")
    if not files:
        return entry
    fitting: dict[str, AdapterLayout] = {}
    left_out = []
    base = adapter_base(entry, unet=unet)
    for path in files:
        try:
            layout = read_layout(path)
            base.check(layout)
        except UserError as error:
            logger.warning("%s: an adapter is left out: %s", entry.name, error)
            left_out.append(error.message)
        else:
            fitting[path.stem] = layout
    usual = _usual_files(fitting)
    adapters = {KINDS[kind].usual: usual_adapter(kind, fitting[name].path) for kind, name in usual.items()}
    for file, layout in fitting.items():
        if file not in usual.values():
            name = untaken(file, adapters)
            adapters[name] = described(name, layout, adapters)
    return replace(entry, adapters=MappingProxyType(adapters), left_out=tuple(left_out))


def usual_adapter(kind: str, file: Path) -> AdapterEntry:
    """Describe a model's usual adapter of a kind, which requests call "base" or "fine"."""
    known = KINDS[kind]
    return AdapterEntry(name=known.usual, title=known.title, about=known.about, file=file, kind=kind)


def adapter_files(folder: Path) -> list[Path]:
    """List the files in a folder that could be adapters; if one is there in several formats, the first whole one."""
    files = [path for path in sorted(folder.glob("[!.]*")) if path.suffix.lower() in ENDINGS and path.is_file()]
    formats: dict[str, list[Path]] = {}
    for path in sorted(files, key=lambda path: ENDINGS.index(path.suffix.lower())):
        formats.setdefault(path.stem, []).append(path)
    return [_best(formats[name]) for name in sorted(formats)]


def _best(formats: list[Path]) -> Path:
    """Return the first file that is a whole adapter, or else the first; a single one is not opened."""
    return formats[0] if len(formats) == 1 else next(filter(_is_whole, formats), formats[0])


def _is_whole(path: Path) -> bool:
    try:
        read_layout(path)
    except UserError as error:
        logger.info("%s; there is another format of it", error)
        return False
    return True


def file_stamp(path: Path) -> tuple[int, int]:
    """Return the size and modification time of an adapter file, which show whether it has changed.

    Raises:
        UserError: the file is gone.
    """
    try:
        status = path.stat()
    except OSError:
        raise UserError("adapter.no_file", path=path) from None
    return status.st_size, status.st_mtime_ns


def _usual_files(fitting: Mapping[str, AdapterLayout]) -> dict[str, str]:
    """Choose the plainest adapter of every kind that has a usual one; return file names by kind."""
    chosen = {}
    for kind in KINDS.values():
        plain = [name for name, each in fitting.items() if each.kind == kind.name and _variant(name) is None]
        if kind.usual and plain:
            # Prefer a published file name to one that somebody has chosen.
            chosen[kind.name] = min(plain, key=lambda name: (_PUBLISHED.match(name) is None, name))
    return chosen


def described(name: str, layout: AdapterLayout, others: Mapping[str, AdapterEntry]) -> AdapterEntry:
    """Describe an adapter that is named after its file."""
    titles = {each.title for each in others.values()}
    title = _variant(name) or name
    return AdapterEntry(name=name, title=name if title in titles else title, file=layout.path, kind=layout.kind)


def _variant(name: str) -> str | None:
    """Return the title of a published adapter with a special purpose; None for any other."""
    if not _PUBLISHED.match(name):
        return None
    return next((title for word, title in _VARIANTS.items() if word in name), None)


def untaken(name: str, taken: Collection[str]) -> str:
    """Return a name that is not taken, with a number added if necessary."""
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if each not in taken)
