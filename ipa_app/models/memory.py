"""How a model is held in the memory there is: the one place where precision, tiling and offloading are decided."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from traceback import clear_frames
from typing import Any

import psutil
import torch

from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.families import CONTROLNET_TASKS
from ipa_app.models.state import Device, MemoryUse, Saving
from ipa_app.runtime import give_back_unused

TILE_SIDE = 512
"""Pixels of a tile when pictures are decoded piece by piece."""

# Decoding is where a picture takes the most memory: some 256 channels at full size, held about four times.
_ELEMENTS_PER_PIXEL = 1024
# Beside the weights the libraries themselves take this much.
_OVERHEAD = 300 * 10**6


def best_device() -> str:
    """Name the fastest torch device of this machine: "cuda", "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def default_dtype(device: str, *, exact: bool) -> torch.dtype:
    """Return the precision to wish for.

    Half on CUDA; bfloat16 on processors that calculate in it; single elsewhere, as other processors are slow at half,
    and MPS blackens pictures.

    Args:
        device: a torch device.
        exact: single precision on every processor, for pictures that equal those of another.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.float16
    return torch.bfloat16 if kind == "cpu" and not exact and processor_has_bfloat16() else torch.float32


def processor_has_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16; older versions of torch cannot tell."""
    told: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(told.get(instructions, False) for instructions in ("avx512_bf16", "amx_bf16"))


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a model would fill memory with.

    Attributes:
        title: of the model.
        parts: how many elements each part has, by name; adapters and the safety checker among them.
        pixels: of a picture of native size.
        stored_bfloat16: the weights lie on disk in bfloat16, whose range half precision may not have.
    """

    title: str
    parts: Mapping[str, int]
    pixels: int
    stored_bfloat16: bool = False

    def resident(self, dtype: torch.dtype) -> int:
        """Bytes with every part in memory."""
        return _OVERHEAD + sum(self.parts.values()) * dtype.itemsize

    def by_turns(self, dtype: torch.dtype) -> int:
        """Bytes with only the part at work in memory; UNet and ControlNet work together."""
        together = self.parts.get("unet", 0) + max(self.parts.get(task, 0) for task in CONTROLNET_TASKS)
        return _OVERHEAD + max(together, *self.parts.values(), 0) * dtype.itemsize

    def drawing(self, dtype: torch.dtype, *, tiled: bool) -> int:
        """Bytes that drawing one picture takes on top."""
        pixels = min(self.pixels, TILE_SIDE**2) if tiled else self.pixels
        return pixels * _ELEMENTS_PER_PIXEL * dtype.itemsize


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """How a model is held in memory.

    Attributes:
        dtype: of the weights.
        offload: parts wait in main memory until it is their turn.
        tiled: pictures are decoded, and encoded, piece by piece.
    """

    dtype: torch.dtype
    offload: bool = False
    tiled: bool = False


def plan_memory(
    needs: Needs,
    *,
    device: Device,
    dtype: torch.dtype,
    free: int | None,
    free_main: int | None = None,
    exact: bool = False,
) -> tuple[MemoryPlan, MemoryUse]:
    """Choose the way of holding a model that costs the least and fits.

    On CUDA what saves memory is to let parts wait in main memory; where the device works in main memory itself (MPS,
    CPU) that would save nothing, and half precision does.

    Args:
        needs: of the model.
        device: the type of the device.
        dtype: the precision that is wanted; float16 becomes bfloat16 where the weights are stored so.
        free: bytes that are free on the device; None when that cannot be told, and then nothing is saved.
        free_main: bytes that are free in main memory, for CUDA; None when that cannot be told.
        exact: as for `default_dtype`: a processor draws in no other precision, however short memory is.

    Returns:
        The way, and what to tell people of it.

    Raises:
        UserError: it does not fit in any way.
    """
    if device == "cuda" and dtype == torch.float16 and needs.stored_bfloat16:
        dtype = torch.bfloat16
    ways = list(_ways(device, dtype, exact=exact))
    for way in ways:
        needed = _needed(needs, way)
        fits_main = not way.offload or free_main is None or needs.resident(way.dtype) <= free_main
        if free is None or (needed <= free and fits_main):
            return way, _use(needs, way, device=device, wanted=ways[0], free=free)
    raise _refusal(needs, ways[-1], device=device, free=free or 0, free_main=free_main or 0)


def _refusal(needs: Needs, way: MemoryPlan, *, device: Device, free: int, free_main: int) -> UserError:
    """Return what the thriftiest way of holding a model lacks."""
    needed, short, where = _needed(needs, way), free, Message("memory.main")
    if device == "cuda" and needed > short:
        where = Message("memory.graphics_card")
    elif device == "cuda":
        needed, short = needs.resident(way.dtype), free_main
    return UserError(
        "model.no_memory", title=needs.title, needed=_gigabytes(needed), free=_gigabytes(short), place=where
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory has run out; on MPS and CPU torch has no type for it."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    words = ("MPS backend out of memory", "DefaultCPUAllocator: can't allocate memory")
    return isinstance(error, RuntimeError) and any(each in str(error) for each in words)


def free_bytes(device: torch.device) -> int | None:
    """Return how much memory is free where a device works; None where that cannot be told."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return free_main_memory()


def free_main_memory(*, group: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how much main memory is free for this process; in a container less may be allowed than the machine has.

    Args:
        group: of the container's limits (Linux control groups, version 2).
    """
    free = psutil.virtual_memory().available
    try:
        most = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        lines = (group / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):
        return free
    if not most.isdecimal():
        return free
    # Files that are merely cached make way for whoever needs the memory.
    cached = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    return max(0, min(free, int(most) - used + cached))


def _ways(device: Device, dtype: torch.dtype, *, exact: bool) -> Iterator[MemoryPlan]:
    """List the ways of holding a model, from the fastest to the thriftiest."""
    yield MemoryPlan(dtype=dtype)
    yield MemoryPlan(dtype=dtype, tiled=True)
    if device == "cuda":
        yield MemoryPlan(dtype=dtype, tiled=True, offload=True)
    elif dtype == torch.float32 and not (exact and device == "cpu"):
        half = torch.float16 if device == "mps" else torch.bfloat16
        yield MemoryPlan(dtype=half)
        yield MemoryPlan(dtype=half, tiled=True)


def _needed(needs: Needs, way: MemoryPlan) -> int:
    weights = needs.by_turns(way.dtype) if way.offload else needs.resident(way.dtype)
    return weights + needs.drawing(way.dtype, tiled=way.tiled)


def _use(needs: Needs, way: MemoryPlan, *, device: Device, wanted: MemoryPlan, free: int | None) -> MemoryUse:
    precision, needed = "single" if way.dtype == torch.float32 else "half", _needed(needs, way)
    if free is None or way == wanted:
        return MemoryUse(device=device, precision=precision, needed=needed)
    done: dict[Saving, bool] = {"half": way.dtype != wanted.dtype, "offload": way.offload, "tiled": way.tiled}
    return MemoryUse(
        device=device,
        precision=precision,
        needed=needed,
        savings=tuple(saving for saving, is_done in done.items() if is_done),
        free=free,
        wanted=_needed(needs, wanted),
    )


def _gigabytes(number: int) -> str:
    return f"{number / 10**9:.1f} GB"


def peak_of_process() -> int:
    """Return the most bytes of main memory that this process has ever held."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource  # there is none on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS tells bytes, Linux KiB


class OutOfMemoryError(UserError):
    """The request needs more memory than there is."""

    def __init__(self) -> None:
        super().__init__("engine.out_of_memory")


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn running out of memory inside into an `OutOfMemoryError`, with all that was taken given back."""
    short = False
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # What is raised below keeps this one as its context, and with it the frames that hold the tensors.
        clear_frames(error.__traceback__)
        error.__traceback__ = None
        short = True
    if short:
        give_back_unused()
        raise OutOfMemoryError
