"""Where a model stands, as data for the page and for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ipa_app.messages import Message
from ipa_app.models.memory_use import MemoryUse

ModelPhase = Literal["absent", "downloading", "loading", "ready", "failed"]


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """What the manager has of a model.

    Attributes:
        phase: where it stands.
        message: a few words for people: what is being done, or why it failed.
        progress: share of the downloading or loading that is done, 0 to 1.
        memory: how the model is held, when it is ready.
    """

    phase: ModelPhase = "absent"
    message: Message | None = None
    progress: float = 0.0
    memory: MemoryUse | None = None
