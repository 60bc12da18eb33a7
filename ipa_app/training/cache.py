"""A cache of tensor rows by key, on disk in files that are written atomically."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ipa_app.adapter.files import write_tensors
from ipa_app.errors import UserError
from ipa_app.training.saving import WRITE_ERRORS, why_unwritable

FLUSH_SECONDS = 120.0
FLUSH_BYTES = 256 * 2**20
"""Rows are flushed to disk after this time or at this size."""
_OURS = re.compile(r"encoded-[0-9a-f]{16}(\.safetensors)?")
_UNFINISHED = re.compile(r"encoded-[0-9a-f]{16}\.\d+\.unfinished")


class RowCache:
    """Caches rows by key, each of one picture or one text. Several processes may add to one folder."""

    def __init__(self, folder: Path | None) -> None:
        """Load the rows that are on disk.

        Args:
            folder: where rows are kept; None keeps them in memory only.
        """
        self._folder = folder
        self._files: dict[Path, list[str]] = {}
        self._rows: dict[str, tuple[Mapping[str, Tensor], int]] = {}
        self._waiting: list[tuple[list[str], Mapping[str, Tensor]]] = []
        self._last_flush = time.monotonic()
        self.refresh()

    def __contains__(self, key: str) -> bool:
        """Whether there is a row with this key."""
        return key in self._rows

    def refresh(self) -> None:
        """Load what other processes have written; a damaged file counts as missing."""
        for file in sorted(self._folder.glob("*.safetensors")) if self._folder is not None else ():
            if file not in self._files:
                try:
                    with safe_open(file, framework="pt") as content:
                        keys = content.metadata()["keys"].split()
                    tensors = load_file(file)
                except (SafetensorError, OSError, KeyError, TypeError):
                    continue
                self._files[file] = keys
                self._rows |= {key: (tensors, row) for row, key in enumerate(keys)}

    def add(self, keys: Sequence[str], tensors: Mapping[str, Tensor]) -> None:
        """Add rows, one per key, and write them now or later; see `flush`.

        Args:
            keys: of the rows.
            tensors: by name, each with as many rows as there are keys.
        """
        held = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        self._rows |= {key: (held, row) for row, key in enumerate(keys)}
        if self._folder is None:
            return
        self._waiting.append((list(keys), held))
        size = sum(tensor.nbytes for _, part in self._waiting for tensor in part.values())
        if size >= FLUSH_BYTES or time.monotonic() - self._last_flush >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write rows that are not on disk yet; from then on they are read from the file, without a second copy.

        Raises:
            UserError: they cannot be written; what is on disk stays.
        """
        self._last_flush = time.monotonic()
        if self._folder is None or not self._waiting:
            return
        keys = [key for part, _ in self._waiting for key in part]
        names = self._waiting[0][1]
        whole = {name: torch.cat([part[name] for _, part in self._waiting]) for name in names}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_tensors(whole, self._folder / f"{keys[0]}.safetensors", metadata={"keys": " ".join(keys)})
        except WRITE_ERRORS as error:
            output = self._folder.parent.parent
            why = why_unwritable(error, output, needed=sum(tensor.nbytes for tensor in whole.values()))
            raise UserError.plain(
                f"The encoded pictures cannot be kept in {output} ({why}); fix this and run the same command "
                "again, or keep none with --cache-gb 0."
            ) from error
        self._waiting = []
        self.refresh()

    def rows(self, keys: Sequence[str]) -> dict[str, Tensor]:
        """Return the rows of these keys by tensor name, each (len(keys), ...)."""
        found = [self._rows[key] for key in keys]
        return {name: torch.stack([tensors[name][row] for tensors, row in found]) for name in found[0][0]}

    def forget_others(self, keys: set[str]) -> None:
        """Delete files that hold no row of these keys, and unfinished ones."""
        unfinished = list(self._folder.glob("*.part")) if self._folder is not None else []
        for file in [*unfinished, *(file for file, held in self._files.items() if keys.isdisjoint(held))]:
            file.unlink(missing_ok=True)


def remove_old(output: Path, keep: str) -> int:
    """Delete encoded examples left in an output folder by earlier settings.

    Args:
        output: the folder; only what is named like a cache is touched in it.
        keep: name of the cache in use.

    Returns:
        Bytes freed.
    """
    freed = 0
    for path in sorted(output.glob("encoded-*")):
        ours = _OURS.fullmatch(path.name) or _UNFINISHED.fullmatch(path.name)
        if ours is None or path.name == keep or path.is_symlink():
            continue
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        freed += sum(file.stat().st_size for file in files)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return freed
