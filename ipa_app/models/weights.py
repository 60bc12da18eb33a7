"""Finding the files with a part's weights, and reading their headers; nothing is loaded."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ipa_app.adapter.header import (
    DamagedError,
    TensorInfo,
    header_of,
    is_safetensors,
    no_plain_weights,
    read_beginning,
    read_pickled,
    read_safetensors,
)
from ipa_app.errors import UserError

logger = logging.getLogger(__name__)

# Pieces of one file have their number before the variant (older libraries) or after it.
_PIECE = r"(?:-(?P<piece{0}>\d+)-of-(?P<pieces{0}>\d+))?"
_WEIGHT_FILE = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)"
    rf"{_PIECE.format(1)}(?:\.(?P<variant>[\w-]+?))?{_PIECE.format(2)}\.(?P<kind>safetensors|bin)"
)
# In order of preference; other variants come after these, and the one not meant for drawing comes last.
_FOR_HALF = ("fp16", "bf16", None, "fp32", "ema")
_FOR_SINGLE = (None, "fp32", "ema", "fp16", "bf16")
_LAST = ("non_ema", "non-ema")
# No header of a real file comes near this, even with pictures in its metadata; a larger one is something else.
_LARGEST_HEADER = 100 * 2**20

_PLAIN = ("F64", "F32", "F16", "BF16")
# Endings of tensor names that a quantised file has beside, or instead of, the usual ones.
_QUANTISED_KEYS = {
    "quant_state.bitsandbytes__nf4": "NF4",
    "quant_state.bitsandbytes__fp4": "FP4",
    "scaled_fp8": "fp8",
    "scale_weight": "fp8",
    "weight_scale": "fp8",
    "qweight": "int4",
    "SCB": "int8",
}
_QUANTISED_DTYPES = {"F8": "fp8", "I8": "int8", "U8": "uint8", "I4": "int4", "U4": "int4", "F4": "fp4", "F6": "fp6"}
# Counters and positions, which are integers in every file.
_COUNTERS = ("position_ids", "num_batches_tracked", "num_updates", "global_step", "decay")


class Header(Mapping[str, TensorInfo]):
    """The tensors of a weights file by name, and its metadata."""

    def __init__(self, tensors: Mapping[str, TensorInfo], *, notes: Mapping[str, str] | None = None) -> None:
        """Hold what was read.

        Args:
            tensors: by name.
            notes: metadata such as `modelspec.title`; only safetensors files have any.
        """
        self._tensors = tensors
        self.notes: Mapping[str, str] = notes or {}

    def __getitem__(self, name: str) -> TensorInfo:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def has(self, *prefixes: str) -> bool:
        """Whether any tensor's name begins with one of these."""
        return any(name.startswith(prefixes) for name in self._tensors)

    def numel(self, belongs: Callable[[str], bool] = lambda _: True) -> int:
        """Count the elements of the tensors whose names satisfy `belongs`."""
        return sum(tensor.numel for name, tensor in self._tensors.items() if belongs(name))

    @property
    def quantisation(self) -> str | None:
        """The format in which the weights are quantised, such as "fp8"; None for plain floating-point numbers."""
        for name in self._tensors:
            for mark, kind in _QUANTISED_KEYS.items():
                if name.endswith(mark):
                    return kind
        for name, tensor in self._tensors.items():
            if tensor.dtype in _PLAIN or not tensor.numel or name.endswith(_COUNTERS):
                continue
            kind = next((kind for dtype, kind in _QUANTISED_DTYPES.items() if tensor.dtype.startswith(dtype)), None)
            if kind or name.endswith((".weight", ".bias")):
                return kind or tensor.dtype.lower()
        return None


@dataclass(frozen=True, kw_only=True)
class WeightFiles:
    """The files to read a part from.

    Attributes:
        paths: one, or all pieces of one.
        variant: from_pretrained()'s name for this choice, such as "fp16"; None for the plain files.
        is_safetensors: whether they are safetensors; otherwise they are PyTorch files, read as plain weights only.
        missing: number of the first piece that is missing; 0 if none is.
    """

    paths: tuple[Path, ...]
    variant: str | None
    is_safetensors: bool
    missing: int = 0

    @cached_property
    def headers(self) -> Mapping[Path, Header]:
        """The tensors of each piece, read once.

        Raises:
            UserError: one cannot be read.
        """
        return {path: read_header(path) for path in self.paths}

    @cached_property
    def header(self) -> Header:
        """The tensors of all pieces."""
        return Header({name: tensor for piece in self.headers.values() for name, tensor in piece.items()})

    @property
    def numel(self) -> int:
        """Number of elements in them."""
        return self.header.numel()

    @property
    def options(self) -> dict[str, object]:
        """Arguments of from_pretrained() for reading these files and no others."""
        return {"variant": self.variant, "use_safetensors": self.is_safetensors}


def find_weights(folder: Path, *, prefer_half: bool) -> WeightFiles | None:
    """Choose a part's weight files: complete ones first, then safetensors, then by precision.

    Args:
        folder: of one part, such as `unet`.
        prefer_half: whether to take half-precision files if there are both; otherwise the plain ones.

    Returns:
        The files; None if the folder has no weights.
    """
    found: dict[tuple[bool, str | None, int], dict[int, Path]] = {}
    for path in sorted(folder.glob("*")):
        if match := _WEIGHT_FILE.fullmatch(path.name):
            pieces = int(match["pieces1"] or match["pieces2"] or 1)
            choice = (match["kind"] == "safetensors", match["variant"], pieces)
            found.setdefault(choice, {})[int(match["piece1"] or match["piece2"] or 1)] = path
    if not found:
        return None
    choices = [
        WeightFiles(
            paths=tuple(paths.values()),
            variant=variant,
            is_safetensors=kind,
            missing=min(set(range(1, pieces + 1)) - set(paths), default=0),
        )
        for (kind, variant, pieces), paths in found.items()
    ]
    order = _FOR_HALF if prefer_half else _FOR_SINGLE
    return min(choices, key=lambda each: (each.missing > 0, not each.is_safetensors, _rank(each.variant, order)))


def _rank(variant: str | None, order: tuple[str | None, ...]) -> tuple[int, str]:
    if variant in order:
        return order.index(variant), ""
    return len(order) + (variant in _LAST), str(variant)


def read_header(path: Path, *, pickles: bool = True) -> Header:
    """Read the header of a weights file; the kind of file is recognised by its content.

    Args:
        path: of the file.
        pickles: whether it may be a PyTorch file, which is read as plain weights only.

    Raises:
        UserError: it is damaged, not a file of plain weights, or only a Git LFS pointer to one.
    """
    try:
        beginning = read_beginning(path, called=_where(path))
    except OSError as error:
        raise UserError("file.unreadable", path=_where(path), error=error.strerror) from error
    if beginning.startswith(b"GGUF"):
        raise quantised(_where(path), "GGUF")
    if beginning.startswith((b"PK\x03\x04", b"\x80")) and not is_safetensors(beginning):
        if not pickles:
            raise UserError("file.pytorch", file=_where(path))
        return Header(header_of(load_pickled(path, device="meta")))
    try:
        tensors, notes = read_safetensors(path, most_bytes=_LARGEST_HEADER)
    except (OSError, DamagedError):
        raise UserError("file.damaged", file=path.name, folder=path.parent.name) from None
    return Header(tensors, notes=notes)


def quantised(place: str, kind: str) -> UserError:
    """Return the error for weights in a quantised format, which is not supported here.

    Args:
        place: the file or part.
        kind: the format, such as "fp8".
    """
    return UserError("file.quantised", name=place, format=kind)


def load_pickled(path: Path, *, device: str = "cpu") -> dict[str, Any]:
    """Load the tensors of a PyTorch file as plain weights, unwrapped from any "state_dict" around them.

    Args:
        path: of the file.
        device: where to load them; "meta" reads names and sizes alone.

    Raises:
        UserError: it is damaged or holds more than weights.
    """
    import torch  # not at the top: the catalogue reads headers before the page is up, and never PyTorch files

    try:
        content = read_pickled(path, device=device)
    except Exception as error:  # noqa: BLE001 - a garbled file may raise anything at all
        logger.info("%s: %s", path, error)
        raise no_plain_weights(_where(path)) from error
    while isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content.pop("state_dict")  # removed, so that the loop ends if a dict holds itself
    if not isinstance(content, dict):
        content = {}
    return {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}


def _where(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
