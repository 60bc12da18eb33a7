"""A model's own ControlNets: found, told apart and described from the files in its folder. No PyTorch in here."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any, TypeVar

from ipa_app.adapter.fitting import base_name
from ipa_app.adapter.layers import layers_in
from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.adapters import untaken
from ipa_app.models.contents import UNET, contents_of
from ipa_app.models.entry import CONTROLNET_KINDS, ControlNetEntry, ModelEntry
from ipa_app.models.folder import read_json
from ipa_app.models.weights import Header, find_weights, quantised, read_header

logger = logging.getLogger(__name__)

T = TypeVar("T")

WRAPPER = "control_model."
"""Prefix of the names of a ControlNet's tensors in its authors' files."""
ENDINGS = {".safetensors", ".pth", ".pt", ".ckpt", ".bin"}
_CONFIG = "config.json"
_BETWEEN_WORDS = re.compile(r"[\W_]+|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, kw_only=True)
class ControlNetBase:
    """What a ControlNet has to fit, as far as known.

    Attributes:
        cross_attention_dim: width of the text tokens that the UNet takes; None if not known.
        block_out_channels: widths of its blocks; empty if not known.
    """

    cross_attention_dim: int | None = None
    block_out_channels: tuple[int, ...] = ()

    def check_folder(self, path: Path) -> None:
        """Check that a folder holds a ControlNet that may fit.

        Raises:
            UserError: it does not; the message says what it holds.
        """
        config = read_json(path / _CONFIG)
        if not config:
            raise UserError("controlnet.no_config", folder=path)
        sort = config.get("_class_name", "ControlNetModel")
        if sort != "ControlNetModel":
            raise UserError("controlnet.wrong_class", name=path.name, sort=str(sort)[:60])
        self.check_width(path.name, config.get("cross_attention_dim"))
        widths, own = config.get("block_out_channels", []), list(self.block_out_channels)
        if own and widths != own:
            given = _listed(widths) if isinstance(widths, list) else str(widths)[:60]
            raise UserError("controlnet.other_widths", name=path.name, given=given, wanted=_listed(own))

    def check_file(self, path: Path, header: Header) -> None:
        """Check from its header that a file is a ControlNet that may fit.

        Raises:
            UserError: it is not; the message says what it is.
        """
        header = Header(controlnet_part(header))
        part = contents_of(header).is_part
        if part != Message("content.controlnet") or header.has("lora_controlnet"):
            raise UserError("controlnet.not_one", file=path.name, content=part or Message("content.unknown"))
        if method := header.quantisation:
            raise quantised(path.name, method)
        shapes = (each.shape for key, each in header.items() if key.endswith("attn2.to_k.weight"))
        if width := next(shapes, ())[-1:]:
            self.check_width(path.name, width[0])

    def check_width(self, name: str, given: object) -> None:
        """Check that a ControlNet takes text tokens of the UNet's width.

        Raises:
            UserError: it does not; the message names both sides.
        """
        wanted = self.cross_attention_dim
        if wanted is not None and given != wanted:
            raise UserError(
                "controlnet.other_base",
                name=name,
                base=base_name(given),
                given=given,
                model=base_name(wanted),
                wanted=wanted,
            )


def controlnet_part(tensors: Mapping[str, T]) -> dict[str, T]:
    """Return those tensors of a file that belong to its ControlNet.

    Its authors' first ControlNets, such as control_sd15_canny.pth, are in a whole checkpoint with their base model.
    """
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(WRAPPER)}
    return own if own and any(name.startswith(UNET) for name in tensors) else dict(tensors)


def usual_controlnet(kind: str, path: Path) -> ControlNetEntry:
    """Describe a model's usual ControlNet of a kind, which has the name of the kind."""
    purpose = CONTROLNET_KINDS[kind].purpose
    return ControlNetEntry(name=kind, title=purpose[0].upper() + purpose[1:], kind=kind, path=path)


def with_own_controlnets(entry: ModelEntry, folder: Path, *, unet: Header | None = None) -> ModelEntry:
    """Return a model with the ControlNets in its folder.

    The first of a kind has the kind's name, and every other the name of its file or folder. Those that cannot be used
    are left out with a message on why; the model works without them.

    Args:
        entry: of the model.
        folder: of the model, or the one beside its file.
        unet: the header of a checkpoint file; None for a model in a folder.
    """
    found = _kinds(_candidates(folder))
    if not found:
        return entry
    base = _base_of(folder, unet)
    controlnets: dict[str, ControlNetEntry] = {}
    reasons: dict[Path, Message] = {}
    for path, kind in found.items():
        try:
            _check(path, base)
        except UserError as error:
            logger.warning("%s: a ControlNet is left out: %s", entry.name, error)
            reasons[path] = error.message
        else:
            described = _described(path, kind, taken=controlnets)
            controlnets[described.name] = described
    left_out: dict[str, Message] = {}
    for path, sentence in reasons.items():
        left_out[_described(path, found[path], taken={**controlnets, **left_out}).name] = sentence
    # In the order of their kinds, so that the most used one comes first.
    order = {kind: number for number, kind in enumerate(CONTROLNET_KINDS)}
    ordered = sorted(controlnets.values(), key=lambda each: order.get(each.kind, len(order)))
    return replace(
        entry,
        controlnets=MappingProxyType({each.name: each for each in ordered}),
        controlnets_left_out=MappingProxyType(left_out),
    )


def _candidates(folder: Path) -> list[Path]:
    """List the paths that should be ControlNets: in `controlnet` or beside it, and in `controlnets`."""
    one = folder / "controlnet"
    own = [one]
    if not (one / _CONFIG).is_file() or find_weights(one, prefer_half=False) is None:
        files = _files(one.glob("[!.]*")) or _files(folder.glob("*control*"))
        # A folder without weights is incomplete; it is kept so that this is reported.
        own = files or ([one] if (one / _CONFIG).is_file() else [])
    many = sorted((folder / "controlnets").glob("[!.]*"))
    return [*own, *(path for path in many if path.is_dir()), *_files(many)]


def _files(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in ENDINGS and path.is_file())


def _kinds(paths: list[Path]) -> dict[Path, str]:
    """Return the kind of each by its name, or else by the source that its configuration names.

    Within a folder, those with the usual names of their kind come first. A single one that no name identifies is taken
    to be for poses if no other is; weights do not show the kind. Otherwise its kind is empty.
    """
    names = {path: _telling_name(path) for path in paths}
    kinds = {path: _kind_named(name) for path, name in names.items()}
    unknown = [path for path, kind in kinds.items() if not kind and not _is_of_others(names[path])]
    if len(unknown) == 1 and "pose" not in kinds.values():
        kinds[unknown[0]] = "pose"
    elif unknown:
        logger.warning("It is unclear what these ControlNets are for: %s.", ", ".join(map(str, unknown)))
    places = list(dict.fromkeys(path.parent for path in paths))
    order = {path: (places.index(path.parent), _rank(names[path], kind)) for path, kind in kinds.items()}
    return {path: kinds[path] for path in sorted(kinds, key=lambda path: order[path])}


def _telling_name(path: Path) -> str:
    """Return a path's own name, in words, or that of its source if its own name identifies no kind."""
    own = _words(path.stem if path.is_file() else path.name)
    return own if _kind_named(own) or _is_of_others(own) else _words(_noted_name(path))


def _noted_name(path: Path) -> str:
    try:
        noted = read_json(path / _CONFIG).get("_name_or_path") if path.is_dir() else None
    except UserError:  # reported when the folder is checked
        return ""
    return PurePath(noted).name if isinstance(noted, str) else ""


def _words(name: str) -> str:
    """Return a name in lower case with _ between its words: "XLControlNet-OpenPose" is "xl_control_net_open_pose"."""
    return _BETWEEN_WORDS.sub("_", name).lower()


def _kind_named(words: str) -> str:
    kinds = CONTROLNET_KINDS.items()
    return next((kind for kind, known in kinds if _has(words, known.marks) and not _has(words, known.others)), "")


def _is_of_others(words: str) -> bool:
    return any(_has(words, known.others) for known in CONTROLNET_KINDS.values())


def _rank(words: str, kind: str) -> int:
    """Return the rank of a name among those of its kind, 0 for the most usual ones."""
    marks = CONTROLNET_KINDS[kind].marks if kind else ()
    return next((rank for rank, mark in enumerate(marks) if _has(words, (mark,))), len(marks))


def _has(words: str, marks: Iterable[str]) -> bool:
    """Whether a word begins with a mark, optionally after "xl" or "sdxl"."""
    return any(re.search(rf"(?<![a-z])(?:(?:sd)?xl)?(?:{mark})", words) for mark in marks)


def _base_of(folder: Path, unet: Header | None) -> ControlNetBase:
    """Return what a ControlNet of a model has to fit, without loading any of the model's files."""
    if unet is not None:
        layers = layers_in(unet)
        return ControlNetBase(cross_attention_dim=layers[0].cross_attention_dim if layers else None)
    config = read_json(folder / "unet" / _CONFIG)
    width, blocks = config.get("cross_attention_dim"), config.get("block_out_channels")
    return ControlNetBase(
        cross_attention_dim=width if isinstance(width, int) else None,
        block_out_channels=tuple(blocks) if isinstance(blocks, list) else (),
    )


def _check(path: Path, base: ControlNetBase) -> None:
    if path.is_file():
        base.check_file(path, read_header(path))
        return
    base.check_folder(path)
    if find_weights(path, prefer_half=False) is None:
        raise UserError("controlnet.no_weights", name=path.name, folder=path)


def _described(path: Path, kind: str, *, taken: Mapping[str, object]) -> ControlNetEntry:
    if kind and kind not in taken:
        return usual_controlnet(kind, path)
    called = path.stem if path.is_file() else path.name
    return ControlNetEntry(name=untaken(called, taken), title=called, kind=kind, path=path)


def _listed(widths: list[Any]) -> str:
    return ", ".join(str(width) for width in widths)
