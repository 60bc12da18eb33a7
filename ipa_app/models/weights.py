"""Which files hold a part's weights, and how many numbers those are; nothing is loaded."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipa_app.errors import UserError

_WEIGHT_FILE = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)(?:\.(?P<variant>fp16))?(?:-\d+-of-\d+)?\.(?P<kind>safetensors|bin)"
)
# No header of a real file comes near this; more is a file of something else.
_LARGEST_HEADER = 100 * 2**20


@dataclass(frozen=True, kw_only=True)
class WeightFiles:
    """The files to read a part from.

    Attributes:
        paths: one, or all pieces of one.
        variant: what from_pretrained() calls this choice: "fp16", or None for the plain files.
        is_safetensors: otherwise they are PyTorch files, read as plain weights only.
    """

    paths: tuple[Path, ...]
    variant: str | None
    is_safetensors: bool

    @property
    def numbers(self) -> int:
        """How many numbers are in them."""
        if self.is_safetensors:
            return sum(numbers_in(tensor) for path in self.paths for tensor in read_header(path).values())
        return sum(path.stat().st_size for path in self.paths) // (2 if self.variant else 4)

    @property
    def options(self) -> dict[str, object]:
        """What from_pretrained() needs to be told to read these and no others."""
        return {"variant": self.variant, "use_safetensors": self.is_safetensors}


def find_weights(folder: Path, *, prefer_half: bool) -> WeightFiles | None:
    """Choose a part's weight files: safetensors before PyTorch files, then the precision.

    Args:
        folder: of one part, such as `unet`.
        prefer_half: take half-precision files where there are both; otherwise the plain ones.

    Returns:
        None when the folder has no weights.
    """
    found: dict[tuple[bool, str | None], list[Path]] = {}
    for path in sorted(folder.glob("*")):
        if match := _WEIGHT_FILE.fullmatch(path.name):
            found.setdefault((match["kind"] == "safetensors", match["variant"]), []).append(path)
    if not found:
        return None
    kind, variant = min(found, key=lambda choice: (not choice[0], (choice[1] is None) == prefer_half))
    return WeightFiles(paths=tuple(found[kind, variant]), variant=variant, is_safetensors=kind)


def read_header(path: Path) -> dict[str, dict[str, Any]]:
    """Read what a safetensors file says of its tensors: name to {"dtype", "shape", ...}.

    Raises:
        UserError: it is no such file.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if 0 < length <= _LARGEST_HEADER else b""
        header = json.loads(text) if len(text) == length else None
    except (OSError, ValueError):
        header = None
    if not isinstance(header, dict):
        raise UserError(f"{path.name} in {path.parent.name} is damaged or cut off; please fetch it again.")
    return {name: value for name, value in header.items() if name != "__metadata__"}


def numbers_in(tensor: Mapping[str, Any]) -> int:
    """Count the numbers of a tensor as `read_header` describes it."""
    return math.prod(tensor.get("shape", ()))
