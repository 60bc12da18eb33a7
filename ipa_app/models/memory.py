"""Planning how a model is held in memory: the one place where precision, tiling and offloading are decided."""

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
"""Side of a tile in pixels when pictures are decoded in tiles."""

# Decoding is where a picture takes the most memory: some 256 channels at full size, held about four times.
_ELEMENTS_PER_PIXEL = 1024
# Memory that the libraries themselves take beside the weights.
_OVERHEAD = 300 * 10**6


def best_device() -> str:
    """Return the name of this machine's fastest torch device: "cuda", "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def usable_device(name: str) -> torch.device:
    """Return the torch device of a given name.

    Raises:
        UserError: this machine has no such device, or PyTorch cannot use it.
    """
    device = torch.device(name)
    if device.type == "cuda":
        is_there = (device.index or 0) < torch.cuda.device_count()
    else:
        is_there = device.type != "mps" or torch.backends.mps.is_available()
    if not is_there:
        raise UserError("device.missing", device=name)
    return device


def default_dtype(device: str, *, exact: bool) -> torch.dtype:
    """Return the preferred precision.

    Half on CUDA; bfloat16 on CPUs with instructions for it; single elsewhere, as other CPUs are slow at half precision,
    and MPS gives black pictures in it.

    Args:
        device: a torch device.
        exact: whether to use single precision on every CPU, for pictures that equal those of another.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.float16
    return torch.bfloat16 if kind == "cpu" and not exact and processor_has_bfloat16() else torch.float32


def processor_has_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16; False with older versions of PyTorch, which cannot tell."""
    told: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(told.get(instructions, False) for instructions in ("avx512_bf16", "amx_bf16"))


@dataclass(frozen=True, kw_only=True)
class Needs:
    """The memory needs of a model.

    Attributes:
        title: of the model.
        parts: number of elements of each part, by name; including adapters and the safety checker.
        pixels: of a picture of native size.
        stored_bfloat16: whether the weights on disk are in bfloat16, whose range float16 may not cover.
    """

    title: str
    parts: Mapping[str, int]
    pixels: int
    stored_bfloat16: bool = False

    def resident(self, dtype: torch.dtype) -> int:
        """Return the bytes needed with every part in memory."""
        return _OVERHEAD + sum(self.parts.values()) * dtype.itemsize

    def by_turns(self, dtype: torch.dtype) -> int:
        """Return the bytes needed with only the running part in memory; UNet and ControlNet run together."""
        together = self.parts.get("unet", 0) + max(self.parts.get(task, 0) for task in CONTROLNET_TASKS)
        return _OVERHEAD + max(together, *self.parts.values(), 0) * dtype.itemsize

    def drawing(self, dtype: torch.dtype, *, tiled: bool) -> int:
        """Return the additional bytes that drawing one picture takes."""
        pixels = min(self.pixels, TILE_SIDE**2) if tiled else self.pixels
        return pixels * _ELEMENTS_PER_PIXEL * dtype.itemsize


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """How a model is held in memory.

    Attributes:
        dtype: of the weights.
        offload: whether parts wait in main memory until it is their turn.
        tiled: whether pictures are decoded, and encoded, in tiles.
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
    """Choose the cheapest way of holding a model that fits.

    On CUDA, offloading parts to main memory saves memory. Where the device itself uses main memory (MPS, CPU) that
    would save nothing, but half precision does.

    Args:
        needs: of the model.
        device: the type of the device.
        dtype: the precision that is wanted; float16 becomes bfloat16 if the weights are stored in that.
        free: free bytes on the device; None if unknown, and then no memory is saved.
        free_main: free bytes in main memory, for CUDA; None if unknown.
        exact: as for `default_dtype`: a CPU draws in no other precision, however short memory is.

    Returns:
        The plan, and its description for users.

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
    raise _too_large(needs, ways[-1], device=device, free=free or 0, free_main=free_main or 0)


def _too_large(needs: Needs, thriftiest: MemoryPlan, *, device: Device, free: int, free_main: int) -> UserError:
    needed, short, where = _needed(needs, thriftiest), free, Message("memory.main")
    if device == "cuda" and needed > short:
        where = Message("memory.graphics_card")
    elif device == "cuda":
        needed, short = needs.resident(thriftiest.dtype), free_main
    return UserError(
        "model.no_memory", title=needs.title, needed=_gigabytes(needed), free=_gigabytes(short), place=where
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory has run out; on MPS and CPU PyTorch has no type for it."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    words = ("MPS backend out of memory", "DefaultCPUAllocator: can't allocate memory")
    return isinstance(error, RuntimeError) and any(each in str(error) for each in words)


def free_bytes(device: torch.device) -> int | None:
    """Return the free bytes in the memory that a device uses; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return free_main_memory()


def free_main_memory(*, group: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes of main memory free for this process; a container's limit may be less than the machine has.

    Args:
        group: folder of the container's limits (Linux control groups, version 2).
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
    # Merely cached files are evicted when memory is needed.
    cached = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    return max(0, min(free, int(most) - used + cached))


def _ways(device: Device, dtype: torch.dtype, *, exact: bool) -> Iterator[MemoryPlan]:
    """Yield the ways of holding a model, from the fastest to the most economical."""
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
    import resource  # not available on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, KiB on Linux


class OutOfMemoryError(UserError):
    """The request needs more memory than there is."""

    def __init__(self) -> None:
        super().__init__("engine.out_of_memory")


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn running out of memory inside the block into an `OutOfMemoryError`, after giving back what was taken."""
    short = False
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # The traceback's frames hold the tensors: clear them, so that the memory can be given back.
        clear_frames(error.__traceback__)
        error.__traceback__ = None
        short = True
    if short:
        give_back_unused()
        raise OutOfMemoryError
