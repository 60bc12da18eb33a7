"""Who holds the loaded models: loads in the background, says what it does, and keeps at most a few."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ipa_app.errors import UserError
from ipa_app.models.catalog import ModelEntry

if TYPE_CHECKING:
    from ipa_app.models.loaded import LoadedModel

logger = logging.getLogger(__name__)

ModelPhase = Literal["absent", "downloading", "loading", "ready", "failed"]


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """What the manager has of a model.

    Attributes:
        phase: where it stands.
        message: a few words for people: what is being done, or why it failed.
        progress: share of the loading that is done, 0 to 1.
    """

    phase: ModelPhase = "absent"
    message: str = ""
    progress: float = 0.0


class _Slot:
    """One model's place: its state and, when ready, the model."""

    def __init__(self) -> None:
        self.state = ModelState()
        self.model: LoadedModel | None = None
        self.last_used = 0.0
        self.load: object = None  # token of the load that may fill this place; freeing takes it away


class ModelManager:
    """Holds the base models of a process. All methods may be called from any thread."""

    def __init__(self, catalog: Mapping[str, ModelEntry], device: str | None = None, *, max_resident: int = 1) -> None:
        """Hold no model yet.

        Args:
            catalog: the models that may be asked for.
            device: a torch device; None takes the fastest there is.
            max_resident: how many models stay in memory; the one unused for longest goes first.
        """
        self._catalog = catalog
        self._device = device
        self._max_resident = max_resident
        self._slots = {name: _Slot() for name in catalog}
        self._changed = threading.Condition()
        # One load at a time: diffusers and transformers patch torch while they build a model.
        self._loading = threading.Lock()

    @property
    def catalog(self) -> Mapping[str, ModelEntry]:
        """The models that may be asked for, by name."""
        return self._catalog

    def entry(self, name: str) -> ModelEntry:
        """Give a model's catalogue entry.

        Raises:
            UserError: there is no such model; the message lists those there are.
        """
        if not isinstance(name, str) or name not in self._catalog:
            raise UserError(f"There is no model {str(name)[:80]!r}; there is {', '.join(self._catalog)}.")
        return self._catalog[name]

    def state(self, name: str) -> ModelState:
        """Say where a model stands.

        Raises:
            UserError: there is no such model.
        """
        self.entry(name)
        return self._slots[name].state

    def states(self) -> dict[str, ModelState]:
        """Say where every model stands."""
        return {name: slot.state for name, slot in self._slots.items()}

    def start(self, name: str) -> None:
        """Begin to load a model in the background, unless it is there or on its way. A failed one is tried again.

        Raises:
            UserError: there is no such model.
        """
        self.entry(name)
        slot = self._slots[name]
        with self._changed:
            if slot.state.phase in ("downloading", "loading", "ready"):
                return
            token = slot.load = object()
            self._set(slot, ModelState(phase="loading", message="waiting to be loaded"))
        threading.Thread(target=self._load, args=(name, token), name=f"load {name}", daemon=True).start()

    def get(self, name: str, timeout: float | None = None) -> LoadedModel:
        """Give a model, waiting for it; one that nobody asked for yet is loaded.

        Args:
            name: of the model.
            timeout: longest wait in seconds; None waits as long as it takes.

        Raises:
            UserError: there is no such model, or it could not be loaded, and why. `start` tries again.
            TimeoutError: it is still not ready.
        """
        if self.state(name).phase == "absent":
            self.start(name)
        slot = self._slots[name]
        with self._changed:
            if not self._changed.wait_for(lambda: slot.state.phase not in ("downloading", "loading"), timeout):
                raise TimeoutError(f"The model {name} is not ready yet.")
            if slot.model is None:
                raise UserError(slot.state.message or f"The model {name} was freed while it was being loaded.")
            slot.last_used = time.monotonic()
            return slot.model

    def free(self, name: str) -> None:
        """Let go of a model. A call that draws with it right now finishes first; a load in progress comes to nothing.

        Raises:
            UserError: there is no such model.
        """
        self.entry(name)
        with self._changed:
            self._empty(self._slots[name], ModelState())
        _release_memory()

    def _load(self, name: str, token: object) -> None:
        """Load in this thread; the one place where a load's errors, of whatever kind, become a state."""
        slot = self._slots[name]
        try:
            with self._loading:
                model = self._load_model(name, token)
        except UserError as error:
            failure = str(error)
        except Exception:
            logger.exception("The model %s could not be loaded.", name)
            failure = f"The model {self._catalog[name].title} could not be loaded: its files are damaged or incomplete"
            failure += " (details in the log)."
        else:
            with self._changed:
                if slot.load is token:
                    slot.model, slot.last_used = model, time.monotonic()
                    self._set(slot, ModelState(phase="ready", message="ready", progress=1.0))
            return
        with self._changed:
            if slot.load is token:
                self._empty(slot, ModelState(phase="failed", message=failure))
        _release_memory()

    def _load_model(self, name: str, token: object) -> LoadedModel:
        self._make_room(name)
        self._report(name, token, 0.0, "starting")
        # Imported here, in the background: these take many seconds, and the page should be up before.
        from ipa_app.models.loading import best_device, default_dtype, load_model

        device = self._device or best_device()
        return load_model(
            self._catalog[name],
            device=device,
            dtype=default_dtype(device),
            report=lambda share, message: self._report(name, token, share, message),
        )

    def _make_room(self, name: str) -> None:
        """Free the models unused for longest, before the next is read, so that both are never in memory at once."""
        with self._changed:
            others = [slot for other, slot in self._slots.items() if other != name and slot.model is not None]
            others.sort(key=lambda slot: slot.last_used)
            surplus = others[: max(0, len(others) - self._max_resident + 1)]
            for slot in surplus:
                self._empty(slot, ModelState())
        if surplus:
            _release_memory()

    def _report(self, name: str, token: object, share: float, message: str) -> None:
        slot = self._slots[name]
        with self._changed:
            if slot.load is token:
                self._set(slot, ModelState(phase="loading", message=message, progress=share))

    def _empty(self, slot: _Slot, state: ModelState) -> None:
        slot.model = slot.load = None
        self._set(slot, state)

    def _set(self, slot: _Slot, state: ModelState) -> None:
        slot.state = state
        self._changed.notify_all()


def _release_memory() -> None:
    """Give freed memory back to the device, without importing torch for it."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
