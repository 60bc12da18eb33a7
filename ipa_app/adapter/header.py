"""What a weight file says of its tensors, without reading them. No code in a file is ever run.

PyTorch is imported for its own files only, so that safetensors files can be told apart while a program starts.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from safetensors import SafetensorError, safe_open

from ipa_app.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


class TensorInfo(NamedTuple):
    """Shape and type of a tensor, the type in the words of its file ("F16", "float16")."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def is_floating(self) -> bool:
        """Whether it holds floating-point numbers."""
        return self.dtype.lower().startswith(("f", "bf"))


Header = Mapping[str, TensorInfo]
"""By the tensors' names; of nested ones the names are joined by dots."""

# No header of a real file comes near this; more is a file of something else, or made to fill memory.
_LARGEST_HEADER = 16 * 2**20

# All that torch.load lets through when a file is cut off, garbled or holds more than tensors.
_LOAD_ERRORS = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
)


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Read the names, shapes and types of a file's tensors.

    Args:
        path: a ``.safetensors`` or a PyTorch file, told by content.

    Raises:
        UserError: it is cut off, cannot be read or holds more than tensors.
    """
    with _explained(path):
        if _is_safetensors(path):
            with safe_open(path, framework="np") as file:
                parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
                return {name: TensorInfo(tuple(part.get_shape()), part.get_dtype()) for name, part in parts.items()}
        return header_of(_load_pickle(path))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a file's tensors; those of a PyTorch file stay on the disk until they are used.

    Args:
        path: as for :func:`read_header`.

    Raises:
        UserError: as :func:`read_header`.
    """
    with _explained(path):
        if _is_safetensors(path):
            from safetensors.torch import load_file

            return load_file(path)
        return _load_pickle(path)


def header_of(tensors: Mapping[str, Tensor]) -> dict[str, TensorInfo]:
    """Describe tensors in memory."""
    return {
        name: TensorInfo(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in tensors.items()
    }


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say in one sentence what is wrong with a file."""
    try:
        if not path.is_file():
            raise UserError(f"There is no adapter file {path}.")
        yield
    except SafetensorError:
        raise UserError(f"{path.name} is damaged or cut off; fetch it again.") from None
    except OSError as error:
        raise UserError(f"{path.name} cannot be read ({error.strerror}); fetch it again.") from None
    except _LOAD_ERRORS:
        raise UserError(
            f"{path.name} is not a file of plain weights (damaged, or it holds program code, which is never run); "
            "use the .safetensors version."
        ) from None


def _is_safetensors(path: Path) -> bool:
    """Tell by content: eight bytes of header length, then JSON; pickles and zip archives begin otherwise."""
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] != b"{":
        return False
    if int.from_bytes(start[:8], "little") > _LARGEST_HEADER:
        raise ValueError("a header of this size is none")
    return True


def _load_pickle(path: Path) -> dict[str, Tensor]:
    import torch

    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        _check_archive(path)
    return dict(_walk(torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)))


def _check_archive(path: Path) -> None:
    """Refuse an archive that unfolds into more than the file holds, which none written by PyTorch does."""
    with zipfile.ZipFile(path) as archive:
        for each in archive.infolist():
            is_large = each.filename.endswith(".pkl") and each.file_size > _LARGEST_HEADER
            if is_large or each.compress_type != zipfile.ZIP_STORED or each.file_size > path.stat().st_size:
                raise ValueError("not an archive of plain weights")


def _walk(content: object, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """List the tensors of nested dicts with their dotted paths."""
    import torch

    if isinstance(content, torch.Tensor):
        yield prefix.removesuffix("."), content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _walk(value, f"{prefix}{key}.")
