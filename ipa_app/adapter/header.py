"""Reading what a weight file says of its tensors, without reading their data. No code in a file is ever run.

PyTorch is imported for its own files only, so that safetensors files can be recognised while a program starts.
"""

from __future__ import annotations

import json
import logging
import math
import pickletools
import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors import SafetensorError

from ipa_app.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)


class TensorInfo(NamedTuple):
    """What a file says of one of its tensors: its shape, and its type by its safetensors name, such as "F16"."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def is_floating(self) -> bool:
        """Whether it holds floating-point numbers."""
        return self.dtype.startswith(("F", "BF"))


Header = Mapping[str, TensorInfo]
"""By the tensors' names; nested names are joined by dots."""

# No header of a real adapter comes near this; a larger one belongs to something else, or is meant to fill memory.
_LARGEST_HEADER = 2 * 2**20
# No tensor of any model comes near these, and products of sides stay small numbers.
_MOST_SIDES, _LONGEST_SIDE, _MOST_ELEMENTS, _LONGEST_NAME = 8, 2**32, 2**48, 512

# What PyTorch's files build named tensors from. PyTorch itself would accept more, some of which can fill memory.
_GLOBALS = re.compile(
    r"collections OrderedDict|torch (?:\w+Storage|float\w+|bfloat16|u?int\d+|bool|Size|device)"
    r"|torch\.storage (?:Typed|Untyped)Storage|torch\._utils _rebuild_(?:tensor(?:_v[23])?|parameter)"
)
_MOST_STEPS, _LARGEST_TUPLE = 10**6, 10**4
# What comes before the tensors: magic number, version, the machine's properties, the content, the storages' names.
_PICKLES = 5
# A file may have two names for one tensor, but not any number of them.
_MOST_OF_FILE = 4

_SAFETENSORS = (".safetensors", ".sft")
# A zip archive, and what older versions wrote.
_PYTORCH = (b"PK\3\4", b"\x80")
_POINTER = b"version https://git-lfs"

# Bytes per element. The smallest of the types newer than these takes half a byte.
_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
_BYTES |= {"F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1}


class DamagedError(ValueError):
    """A file is cut off, or is not of the kind that its first bytes suggest."""


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Read the names, shapes and types of an adapter file's tensors.

    Args:
        path: a `.safetensors` or a PyTorch file, recognised by its content.

    Raises:
        UserError: it is cut off, cannot be read or holds more than tensors.
    """
    with _explained(path) as beginning:
        if is_safetensors(beginning):
            return read_safetensors(path, most_bytes=_LARGEST_HEADER)[0]
        return header_of(_load_tensors(path, device="meta"))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read an adapter file's tensors; those of a PyTorch file stay on the disk until they are used.

    Args:
        path: as for `read_header`.

    Raises:
        UserError: as `read_header`.
    """
    with _explained(path) as beginning:
        if is_safetensors(beginning):
            from safetensors.torch import load_file

            return load_file(path)
        return _load_tensors(path, device="cpu")


def header_of(tensors: Mapping[str, Tensor]) -> dict[str, TensorInfo]:
    """Describe tensors in memory."""
    return {name: TensorInfo(tuple(tensor.shape), _short(str(tensor.dtype))) for name, tensor in tensors.items()}


def read_beginning(path: Path, *, called: str) -> bytes:
    """Read a file's first 32 bytes, which show what kind of file it is.

    Args:
        path: of the file.
        called: its name in error messages.

    Raises:
        OSError: it cannot be read.
        UserError: it is a pointer to a file that Git LFS has not fetched yet.
    """
    with path.open("rb") as file:
        beginning = file.read(32)
    if beginning.startswith(_POINTER):
        raise UserError("file.git_lfs", file=called)
    return beginning


def is_safetensors(beginning: bytes) -> bool:
    """Whether it begins with eight bytes of header length, then JSON; pickles and zip archives do not."""
    return beginning[8:9] == b"{"


def read_safetensors(path: Path, *, most_bytes: int) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """Read the header of a safetensors file, including tensor types that the library does not know yet.

    Args:
        path: of the file.
        most_bytes: how long its header may be.

    Returns:
        The tensors by name, and the file's metadata.

    Raises:
        DamagedError: it is cut off, or its tensors are not as large as the header claims.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length) if 0 < length <= most_bytes else b""
    try:
        content: dict[str, Any] = json.loads(text if len(text) == length else b"")
        notes = dict(content.pop("__metadata__", None) or {})
        tensors = {_bearable_name(name): _tensor_info(value) for name, value in content.items()}
        end = max((value["data_offsets"][1] for value in content.values()), default=0)
    except (ValueError, AttributeError, LookupError, TypeError, RecursionError):
        raise DamagedError(path.name) from None
    if path.stat().st_size < 8 + length + end:
        raise DamagedError(path.name)
    return tensors, notes


def _tensor_info(value: Mapping[str, Any]) -> TensorInfo:
    """Read the header's entry for one tensor.

    Raises:
        ValueError: its byte range does not match its shape and type, or its type is not a string.
    """
    info = TensorInfo(_bearable_shape(value["shape"]), value["dtype"])
    begin, end = map(index, value["data_offsets"])
    size = _BYTES.get(info.dtype)
    fits = end - begin == info.numel * size if size else 2 * (end - begin) >= info.numel
    if not fits or not 0 <= begin <= end or not isinstance(info.dtype, str):
        raise ValueError("a tensor of another size or type")
    return info


def _bearable_shape(sides: Sequence[Any]) -> tuple[int, ...]:
    """Return a shape as a tuple of integers.

    Raises:
        ValueError: no real tensor has such a shape.
    """
    shape = tuple(map(index, sides[: _MOST_SIDES + 1]))
    if len(shape) > _MOST_SIDES or not all(0 <= side < _LONGEST_SIDE for side in shape):
        raise ValueError("a tensor with too many sides, or too long ones")
    if math.prod(shape) > _MOST_ELEMENTS:
        raise ValueError("a tensor that is too large")
    return shape


def _bearable_name(name: str) -> str:
    if len(name) > _LONGEST_NAME:
        raise ValueError("a name that is too long")
    return name


def read_pickled(path: Path, *, device: str) -> Any:
    """Load the content of a PyTorch file; no code in it is ever run. Tensors stay on the disk until they are used.

    Args:
        path: of the file.
        device: where to load it; "meta" reads names and sizes alone.

    Raises:
        ValueError: it unpacks to more than its own size, or holds more than tensors.
        Exception: anything that torch.load raises for a garbled file, or one that holds more than tensors.
    """
    import torch

    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\3\4"  # PyTorch's own test
    if is_zip:
        _check_archive(path)
    else:
        _check_older(path)
    return torch.load(path, map_location=device, weights_only=True, mmap=is_zip)


def no_plain_weights(called: str) -> UserError:
    """Return the error for a file that cannot be read without running code in it, if it can be read at all.

    Args:
        called: its name in error messages.
    """
    return UserError("adapter.not_plain_weights", file=called)


@contextmanager
def _explained(path: Path) -> Iterator[bytes]:
    """Yield a file's first bytes, and turn any error while it is read into a `UserError` of one sentence."""
    beginning = b""
    try:
        if not path.is_file():
            raise UserError("adapter.no_file", path=path)
        beginning = read_beginning(path, called=path.name)
        yield beginning
    except UserError:
        raise
    except (DamagedError, SafetensorError):
        raise UserError("adapter.damaged", file=path.name) from None
    except OSError as error:
        raise UserError("adapter.unreadable", file=path.name, error=error.strerror) from None
    except Exception as error:  # a garbled file may raise anything at all
        logger.info("%s: %s", path, error)
        if path.suffix.lower() in _SAFETENSORS and not beginning.startswith(_PYTORCH):
            raise UserError("adapter.damaged", file=path.name) from error
        raise no_plain_weights(path.name) from error


def _load_tensors(path: Path, *, device: str) -> dict[str, Tensor]:
    tensors = dict(_walk(read_pickled(path, device=device), "", {}))
    for name, tensor in tensors.items():
        _bearable_name(name)
        _bearable_shape(tensor.shape)
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > _MOST_OF_FILE * path.stat().st_size:
        raise ValueError("tensors that are larger than their file")
    return tensors


def _check_archive(path: Path) -> None:
    """Refuse an archive that unpacks to more than the file's own size; PyTorch writes none that does."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if len({each.filename.lower() for each in parts}) < len(parts):
            raise ValueError("not an archive of plain weights")
        for each in parts:
            is_pickle = each.filename.lower().endswith(".pkl")
            is_large = is_pickle and each.file_size > _LARGEST_HEADER
            if is_large or each.compress_type != zipfile.ZIP_STORED or each.file_size > path.stat().st_size:
                raise ValueError("not an archive of plain weights")
            if is_pickle:
                _check_pickle(BytesIO(archive.read(each)))


def _check_older(path: Path) -> None:
    """Refuse a file in PyTorch's older format, without an archive, if it would do more than build tensors."""
    if tarfile.is_tarfile(path):
        raise ValueError("an archive that PyTorch has not written for years")
    with path.open("rb") as file:
        beginning = BytesIO(file.read(_LARGEST_HEADER))
    for _ in range(_PICKLES):
        _check_pickle(beginning)


def _check_pickle(file: BytesIO) -> None:
    """Walk a pickle's opcodes without executing any, to see which objects it would make and how large its tuples are.

    An item that a tuple holds several times counts each time, as hashing the tuple visits it each time.

    Raises:
        ValueError: it would make something that tensors do not need, or too much.
    """
    sizes, kept = [], {}  # sizes of the items on the pickle's stack (0 for a mark), and of those in its memo
    for step, (opcode, said, _) in enumerate(pickletools.genops(file)):
        if opcode.name == "MARK":
            sizes.append(0)
        elif "PUT" in opcode.name:
            kept[said] = sizes[-1]
        elif "GET" in opcode.name:
            sizes.append(kept[said])
        else:
            taken = _taken(sizes, opcode.stack_before)
            size = 1 + sum(taken) if opcode.name.startswith("TUPLE") else 1
            sizes += [size] * len(opcode.stack_after)
            if step > _MOST_STEPS or size > _LARGEST_TUPLE:
                raise ValueError("more than tensors with names need")
        if opcode.name in ("GLOBAL", "STACK_GLOBAL", "INST") and not _GLOBALS.fullmatch(str(said)):
            raise ValueError(f"more than tensors: {said}")


def _taken(sizes: list[int], before: Sequence[pickletools.StackObject]) -> list[int]:
    """Pop from a pickle's stack what an opcode takes from it."""
    taken = []
    if pickletools.markobject in before:
        while size := sizes.pop():
            taken.append(size)
        before = before[: before.index(pickletools.markobject)]
    return taken + [sizes.pop() for _ in before]


def _walk(content: object, name: str, within: dict[int, bool]) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested dicts with their dotted paths; a dict that occurs again is skipped.

    Args:
        content: any object.
        name: its dotted path.
        within: for each dict found so far, by id, whether it is still being walked.

    Raises:
        ValueError: a dict holds itself, or a name is too long.
    """
    import torch

    if isinstance(content, torch.Tensor):
        yield name, content
    elif isinstance(content, Mapping) and within.get(id(content)):
        raise ValueError("a dict that holds itself")
    elif isinstance(content, Mapping) and id(content) not in within:
        within[id(content)] = True
        before = f"{_bearable_name(name)}." if name else ""
        for key, value in content.items():
            if isinstance(key, str | int):
                yield from _walk(value, f"{before}{key}", within)
        within[id(content)] = False


def _short(dtype: str) -> str:
    """Return the safetensors name of a PyTorch dtype: "torch.bfloat16" is "BF16"."""
    name = dtype.removeprefix("torch.")
    for long, short in (("float", "F"), ("uint", "U"), ("int", "I")):
        name = name.replace(long, short)
    return name.upper()
