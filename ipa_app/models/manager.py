"""The manager of loaded models: downloads and loads in the background, reports progress, and keeps at most a few."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ipa_app.errors import Cancelled, UserError
from ipa_app.messages import Message
from ipa_app.models.adapter_set import AdapterSet
from ipa_app.models.entry import ModelEntry
from ipa_app.models.fetching import check_cancel
from ipa_app.models.hub import discard_damaged, download, invalidate, is_downloaded, link_snapshot
from ipa_app.models.offered import Models
from ipa_app.models.state import ModelState
from ipa_app.runtime import give_back_unused

if TYPE_CHECKING:
    from ipa_app.models.loaded import LoadedModel

logger = logging.getLogger(__name__)

# Reasons for a failed load that do not mean that the files are damaged.
_NO_MEMORY = ("model.no_memory", "model.did_not_fit")


class _Slot:
    """One model's state and, when ready, the model."""

    def __init__(self) -> None:
        self.state = ModelState()
        self.model: LoadedModel | None = None
        self.last_used = 0.0
        self.load: _Load | None = None  # the only one that may fill this slot; freeing the slot removes it


class _Load:
    """One attempt to get a model ready."""

    def __init__(self, *, fetch: bool) -> None:
        self.fetch = fetch
        self.cancel = threading.Event()


class Lease:
    """A model that is being drawn with: until the block ends, nothing else is loaded into its memory."""

    def __init__(self, model: LoadedModel, *, among: set[Lease], changed: threading.Condition) -> None:
        """Begin the lease.

        Args:
            model: to draw with.
            among: all leases that have begun and not ended.
            changed: the lock that protects these.
        """
        self.model = model
        self._among, self._changed = among, changed
        among.add(self)

    def __enter__(self) -> LoadedModel:
        return self.model

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._among.remove(self)
            del self.model  # before anybody counts its memory as free
            self._changed.notify_all()


class ModelManager(Models):
    """Holds the base models of a process. All methods may be called from any thread."""

    def __init__(
        self,
        catalog: Mapping[str, ModelEntry],
        device: str | None = None,
        *,
        max_resident: int = 1,
        in_background: bool = True,
        exact: bool = True,
        compile_backend: str | None = None,
        adapters: AdapterSet | None = None,
    ) -> None:
        """Make a manager without a loaded model.

        Args:
            catalog: the models that may be requested.
            device: a torch device; None takes the fastest available.
            max_resident: how many models stay in memory; the least recently used is freed first.
            in_background: whether `start` and `download` return at once; otherwise they load in the caller's thread.
            exact: whether a CPU draws in single precision even if another would be faster, and any device draws one
                picture at a time.
            compile_backend: the backend of `torch.compile` for compiling UNets in the background; None to compile none.
            adapters: those that belong to no model; none by default, until somebody adds one.
        """
        super().__init__(catalog, adapters=adapters)
        self._in_background = in_background
        self._exact = exact
        self._compile_backend = compile_backend
        self._device = device
        self._max_resident = max_resident
        self._slots = {name: _Slot() for name in catalog}
        self._changed = threading.Condition()
        self._leases: set[Lease] = set()
        # One load at a time: diffusers and transformers patch torch while they build a model.
        self._loading = threading.Lock()
        self._downloading = threading.Lock()

    @property
    def exact(self) -> bool:
        """Whether pictures must be the same on another CPU, and the same alone or beside others."""
        return self._exact

    @property
    def device(self) -> str:
        """The torch device that models are loaded to."""
        # Imported here, as PyTorch takes many seconds to import, and the page should be up before.
        from ipa_app.models.memory import best_device

        return self._device or best_device()

    def state(self, name: str) -> ModelState:
        """Return the state of a model; see `Models`."""
        self.entry(name)
        return self._slots[name].state

    def states(self) -> dict[str, ModelState]:
        """Return the state of every model."""
        return {name: slot.state for name, slot in self._slots.items()}

    def needs_download(self, name: str) -> bool:
        """Whether a model must be downloaded first; see `Models`."""
        entry = self.entry(name)
        return self._slots[name].model is None and not is_downloaded(entry)

    def start(self, name: str) -> None:
        """Start loading a model; see `Models`."""
        if self.state(name).phase not in ("loading", "ready"):
            self.check_available(name)
        self._begin(name, _Load(fetch=False), ModelState(phase="loading", message=Message("doing.waiting_to_load")))

    def download(self, name: str) -> None:
        """Start downloading a model, which is loaded afterwards; see `Models`."""
        self._begin(
            name, _Load(fetch=True), ModelState(phase="downloading", message=Message("doing.waiting_to_download"))
        )

    def cancel(self, name: str) -> None:
        """Stop a model's download; see `Models`."""
        self.entry(name)
        slot = self._slots[name]
        with self._changed:
            if slot.state.phase == "downloading":
                self._empty(slot, ModelState())

    def get(self, name: str, timeout: float | None = None) -> LoadedModel:
        """Wait for a model and return it; one that nobody has requested yet is loaded.

        Args:
            name: of the model.
            timeout: longest wait in seconds; None waits as long as it takes.

        Raises:
            UserError: there is no such model, it must be downloaded first, or it could not be loaded, and why. `start`
                tries again.
            TimeoutError: it is still not ready.
        """
        if self.state(name).phase == "absent":
            self.start(name)
        with self._changed:
            return self._awaited(name, timeout)

    def lease(self, name: str, timeout: float | None = None) -> Lease:
        """Wait for a model to draw with, as `get` does, but do not load one that nobody has requested.

        Raises:
            UserError: as for `get`, or nobody has requested it.
            TimeoutError: it is still not ready.
        """
        with self._changed:
            return Lease(self._awaited(name, timeout), among=self._leases, changed=self._changed)

    def _awaited(self, name: str, timeout: float | None) -> LoadedModel:
        """Wait for a model; called with the lock held."""
        slot = self._slots[name]
        if not self._changed.wait_for(lambda: slot.state.phase not in ("downloading", "loading"), timeout):
            raise TimeoutError(f"The model {name} is not ready yet.")
        if slot.model is None:
            raise UserError(slot.state.message or Message("model.freed", name=name))
        slot.last_used = time.monotonic()
        return slot.model

    def free(self, name: str) -> None:
        """Free a model. A call that draws with it right now finishes first; a load in progress is discarded.

        Raises:
            UserError: there is no such model.
        """
        self.entry(name)
        with self._changed:
            self._empty(self._slots[name], ModelState())
        give_back_unused()

    def _begin(self, name: str, load: _Load, state: ModelState) -> None:
        self.entry(name)
        slot = self._slots[name]
        with self._changed:
            if slot.state.phase in ("downloading", "loading", "ready"):
                return
            slot.load = load
            self._set(slot, state)
        if not self._in_background:
            self._load(name, load)
            return
        threading.Thread(target=self._load, args=(name, load), name=f"load {name}", daemon=True).start()

    def _load(self, name: str, load: _Load) -> None:
        """Load in this thread; the one place where a load's errors, of whatever kind, become a state."""
        slot, entry = self._slots[name], self._catalog[name]
        try:
            self._gather(entry, load)
            with self._loading:
                model = self._load_model(entry, load)
        except Cancelled:
            return
        except UserError as error:
            failure = error.message
        except Exception:
            logger.exception("The model %s could not be loaded.", name)
            failure = Message("model.failed", title=entry.title)
        else:
            with self._changed:
                if slot.load is load:
                    slot.model, slot.last_used = model, time.monotonic()
                    self._set(slot, _ready(model))
            return
        with self._changed:
            if slot.load is load:
                self._empty(slot, ModelState(phase="failed", message=failure))
        give_back_unused()

    def _gather(self, entry: ModelEntry, load: _Load) -> None:
        """Assemble a downloaded model's folder, after checking its files and fetching missing ones."""
        if not entry.parts:
            return

        def report(share: float, message: Message) -> None:
            self._report(entry.name, load, ModelState(phase="downloading", message=message, progress=share))

        checking = ModelState(phase="downloading" if load.fetch else "loading", message=Message("doing.checking_files"))
        self._report(entry.name, load, checking)
        if discard_damaged(entry, cancel=load.cancel) or load.fetch:
            with self._downloading:
                download(entry, report=report, cancel=load.cancel)
        link_snapshot(entry)

    def _load_model(self, entry: ModelEntry, load: _Load) -> LoadedModel:
        def report(share: float, message: Message) -> None:
            self._report(entry.name, load, ModelState(phase="loading", message=message, progress=share))

        def make_room() -> None:
            report(0.0, Message("doing.waiting_to_load"))
            self._make_room(entry.name, load)

        check_cancel(load.cancel)
        report(0.0, Message("doing.starting"))
        # Imported here, in the background, as these take many seconds to import, and the page should be up before.
        from ipa_app.models.loading import Room, load_model
        from ipa_app.models.memory import default_dtype

        device, room = self.device, Room(self._to_be_freed(entry.name), make_room)
        exact, backend = self._exact, self._compile_backend
        dtype = default_dtype(device, exact=exact)
        try:
            return load_model(
                entry, device=device, dtype=dtype, exact=exact, report=report, compile_backend=backend, room=room
            )
        except Cancelled:
            raise
        except Exception as error:
            if not (isinstance(error, UserError) and error.message.key in _NO_MEMORY):
                invalidate(entry)
            raise

    def _make_room(self, name: str, load: _Load) -> None:
        """Free the least recently used models before the next is read, so that both are never in memory at once.

        A model that is being drawn with is waited for.

        Raises:
            Cancelled: the load has been cancelled.
        """
        with self._changed:
            for slot in self._in_the_way(name):
                self._empty(slot, ModelState())
            self._changed.wait_for(lambda: load.cancel.is_set() or not self._left_drawing())
        check_cancel(load.cancel)
        give_back_unused()

    def _to_be_freed(self, name: str) -> int | None:
        """Return how many bytes `_make_room` will free, as far as known; None if it frees nothing."""
        with self._changed:
            freed = [slot.model for slot in self._in_the_way(name)] + self._left_drawing()
        # The fast way is loaded if there is room, and is not part of the plan.
        return sum(model.memory.needed + model.fast.num_bytes for model in freed if model) if freed else None

    def _in_the_way(self, name: str) -> list[_Slot]:
        """Return the slots whose models must be freed for another one; called with the lock held."""
        others = [slot for other, slot in self._slots.items() if other != name and slot.model is not None]
        others.sort(key=lambda slot: slot.last_used)
        return others[: max(0, len(others) - self._max_resident + 1)]

    def _left_drawing(self) -> list[LoadedModel]:
        """Return the freed models that are still being drawn with; called with the lock held."""
        held = [slot.model for slot in self._slots.values()]
        return [lease.model for lease in self._leases if all(lease.model is not model for model in held)]

    def _report(self, name: str, load: _Load, state: ModelState) -> None:
        slot = self._slots[name]
        with self._changed:
            if slot.load is load:
                self._set(slot, state)

    def _empty(self, slot: _Slot, state: ModelState) -> None:
        if slot.load is not None:
            slot.load.cancel.set()
        slot.model = slot.load = None
        self._set(slot, state)

    def _set(self, slot: _Slot, state: ModelState) -> None:
        slot.state = state
        self._changed.notify_all()


def _ready(model: LoadedModel) -> ModelState:
    return ModelState(
        phase="ready",
        message=Message("doing.ready"),
        progress=1.0,
        memory=model.memory,
        scheduler=model.scheduler,
        precision=model.precision,
    )
