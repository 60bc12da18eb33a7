"""The state of a model and how it is held in memory, as data for the page and for programs. Imports quickly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ipa_app.messages import Message

Device = Literal["cuda", "mps", "cpu"]
Saving = Literal["half", "offload", "tiled"]


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """Where a model runs, and what was done because memory was short.

    Attributes:
        device: the type of the device it runs on.
        precision: of its weights.
        needed: bytes that it takes, drawing included; an estimate.
        savings: what was done to save memory, all of it slower or coarser: "half" precision where single was wanted,
            parts that wait in main memory until they are needed ("offload"), tiled decoding ("tiled").
        free: bytes that were free on the device, if memory was saved.
        wanted: bytes that it would have taken otherwise, if memory was saved.
    """

    device: Device
    precision: Literal["single", "half"]
    needed: int
    savings: tuple[Saving, ...] = ()
    free: int = 0
    wanted: int = 0


Report = Callable[[float, Message], None]
"""Called with the share that is done of a download or a load, 0 to 1, and a few words on what is being done."""

ModelPhase = Literal["absent", "downloading", "loading", "ready", "failed"]


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """The state of a model.

    Attributes:
        phase: from absent to ready, or failed.
        message: a few words for users: what is being done, or why it failed.
        progress: share of the download or load that is done, 0 to 1.
        memory: how the model is held, when it is ready.
        scheduler: the class name of its scheduler, when it is ready.
        precision: of its weights, by PyTorch's name, when it is ready.
    """

    phase: ModelPhase = "absent"
    message: Message | None = None
    progress: float = 0.0
    memory: MemoryUse | None = None
    scheduler: str = ""
    precision: str = ""
