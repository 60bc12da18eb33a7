"""Keeping orders until they are drawn, and the pictures drawn, in the library on the disk."""

from __future__ import annotations

import errno
import logging
import queue
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace

from PIL import Image

from ipa_app.engine.job import JobObserver
from ipa_app.engine.metadata import pack_inputs
from ipa_app.engine.reference_sets import name_in
from ipa_app.engine.request_files import part_as_data, part_from_data
from ipa_app.engine.results import GenerateResult
from ipa_app.engine.series import Part
from ipa_app.errors import Cancelled, UserError
from ipa_app.library.library import Library
from ipa_app.library.pictures import Pictures
from ipa_app.library.sets import NamedFiles
from ipa_app.library.waiting import WaitingRecord
from ipa_app.messages import Message, as_data, from_data

logger = logging.getLogger(__name__)

MOST_BEGUN = 3
"""How often a part of an order is begun: one that was being drawn when the process died is tried twice more."""

_AGAIN_S = 10.0
_DAY_S = 86400.0
_MOST_UNSAVED = 64
_SAVING_S = 30.0
_REFUSALS_KEPT_S = 7 * 86400.0
_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a visitor asks for at once.

    Attributes:
        parts: its requests, with definite seeds.
        visitor: its owner; None for a visitor of its own.
        is_series: whether the parts are shown as one.
        previews: whether somebody watches them being drawn.
        live: whether it follows changes its visitor is making; such an order is never kept.
    """

    parts: tuple[Part, ...]
    visitor: str | None = None
    is_series: bool = False
    previews: bool = False
    live: bool = False


class KeptOrder:
    """An order being carried out; by default it is stored nowhere and ends with the process.

    Attributes:
        id: identifies it beyond the life of a process.
        refusal: why it will not be drawn; None if it will.
    """

    def __init__(self, order: Order, *, id: str = "", refusal: UserError | None = None) -> None:
        self.order = order
        self.id = id or uuid.uuid4().hex
        self.refusal = refusal

    @property
    def observers(self) -> list[JobObserver]:
        """The observers of the parts' jobs, one for each part."""
        return [JobObserver() for _ in self.order.parts]

    def refuse(self, error: UserError) -> None:
        """Record why it is not drawn, until its owner comes back."""
        self.refusal = error

    def drop(self) -> None:
        """Forget it: nobody wants it any more. What was drawn of it is kept."""

    def note(self) -> Message | None:
        """Return a message on any trouble with saving what was drawn, once that has been tried."""
        return None


class Keeper:
    """Keeps orders; this base class keeps none."""

    def keep(self, order: Order) -> KeptOrder:
        """Keep an order until it is drawn, or dropped."""
        return KeptOrder(order)

    def left_over(self) -> list[KeptOrder]:
        """Return the orders that an earlier process left, in the order in which they came."""
        return []

    @property
    def shown(self) -> Pictures | None:
        """The pictures that may be shown to everyone who opens the page; None if there are none."""
        return None

    @property
    def sets(self) -> NamedFiles | None:
        """The sets of references, which everyone who opens the page may see and change; None if none are kept."""
        return None

    def close(self) -> None:
        """Write what can be written, and stop."""


class _Kept(KeptOrder):
    """An order in the library. Its record is first written by the caller, and later only by the keeper's thread."""

    def __init__(self, order: Order, record: WaitingRecord, keeper: LibraryKeeper, *, is_written: bool = True) -> None:
        super().__init__(order, id=record.id)
        self.record = record
        self.keeper = keeper
        self.is_written = is_written
        self.is_dropped = self.is_lost = False
        self.drawing: set[int] = set()
        self.ended: set[int] = set()

    @property
    def observers(self) -> list[JobObserver]:
        return [_Observer(self, index) for index in range(len(self.order.parts))]

    def count_begun(self, index: int, change: int) -> None:
        """Count a part as begun once more, or once less."""
        begun = [count + change * (place == index) for place, count in enumerate(self.record.begun)]
        self.record = replace(self.record, begun=tuple(begun))

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.is_dropped or len(self.ended) == len(self.record.parts)

    def refuse(self, error: UserError) -> None:
        super().refuse(error)
        logger.warning("Order %s is set aside: %s", self.id, error.message.key)
        self.keeper.tell(_Event(self, "refused"))

    def drop(self) -> None:
        self.keeper.tell(_Event(self, "dropped"))

    def note(self) -> Message | None:
        return self.keeper.note()


@dataclass(frozen=True, eq=False)
class _Event:
    """What happened to a part of an order, or to all of it."""

    kept: _Kept
    what: str
    index: int = 0
    result: GenerateResult | None = None


class _Observer(JobObserver):
    def __init__(self, kept: _Kept, index: int) -> None:
        self._kept, self._index = kept, index

    def begun(self) -> None:
        self._tell("begun")

    def finished(self, result: GenerateResult) -> None:
        self._tell("finished", result)

    def failed(self, error: Exception) -> None:
        # A job stopped from outside does not end its order: if the owner stopped it, the order is dropped separately.
        is_put_back = isinstance(error, Cancelled) or (
            isinstance(error, UserError) and error.message.key in ("engine.closing", "engine.dead")
        )
        self._tell("put back" if is_put_back else "failed")

    def _tell(self, what: str, result: GenerateResult | None = None) -> None:
        self._kept.keeper.tell(_Event(self._kept, what, self._index, result))


class LibraryKeeper(Keeper):
    """Keeps orders and pictures in a library, in a thread of its own so that drawing never waits for the disk."""

    def __init__(self, library: Library, *, shows: bool) -> None:
        """Start the thread.

        Args:
            library: where things are kept.
            shows: whether its pictures may be shown to everyone who opens the page.
        """
        self._library = library
        self._shows = shows
        self._trouble: Message | None = None
        # Results that could not be written yet, and when they are tried again.
        self._unsaved: list[_Event] = []
        self._again = 0.0
        self._removing = time.monotonic() + _DAY_S
        self._events: queue.SimpleQueue[_Event | threading.Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="library", daemon=True)
        self._thread.start()

    def keep(self, order: Order) -> KeptOrder:
        """Store an order; if it cannot be written, it is drawn all the same."""
        data = [part_as_data(part) for part in order.parts]
        pictures = {name: image for _, each in data for name, image in each.items()}
        record = WaitingRecord(
            id=uuid.uuid4().hex,
            asked=time.time(),
            visitor=order.visitor,
            is_series=order.is_series,
            previews=order.previews,
            parts=tuple(part for part, _ in data),
            pictures=tuple(sorted(pictures)),
            begun=(0,) * len(data),
        )
        return _Kept(order, record, self, is_written=self._put(record, pictures))

    def left_over(self) -> list[KeptOrder]:
        """Return the orders that wait in the library. Those begun too often or not readable have a refusal."""
        return [self._left_over(record) for record in self._library.waiting.records() if not self._is_past(record)]

    @property
    def shown(self) -> Pictures | None:
        """All pictures that were made; None if they may not be shown."""
        return self._library.pictures if self._shows else None

    @property
    def sets(self) -> NamedFiles | None:
        """All sets of references; None if they may not be shown."""
        return self._library.named_files("references", name_in) if self._shows else None

    def note(self) -> Message | None:
        """Wait until the events so far are handled, and return why not all is written; None if it is."""
        reached = threading.Event()
        self._events.put(reached)
        reached.wait(_SAVING_S)
        return self._trouble

    def tell(self, event: _Event) -> None:
        """Queue an event of an order for the thread; returns at once."""
        self._events.put(event)

    def close(self) -> None:
        """Write what there is room for, and close the library. What could not be written is drawn again."""
        self._events.put(None)
        self._thread.join(_SAVING_S)
        self._library.close()

    def _left_over(self, record: WaitingRecord) -> KeptOrder:
        order = Order(parts=(), visitor=record.visitor, is_series=record.is_series, previews=record.previews)
        try:
            if record.refusal is not None:
                raise UserError(_refusal(record))
            if max(record.begun) >= MOST_BEGUN:
                raise UserError("library.set_aside")
            # What was being drawn when a process ended may have ended it: drawn alone, it costs no other a try.
            parts = tuple(
                replace(part_from_data(part, self._library.waiting.picture), alone=begun > 0)
                for part, begun in zip(record.parts, record.begun, strict=True)
            )
        except Exception as error:
            if not isinstance(error, UserError):  # a bug: no order keeps the others from being drawn
                logger.exception("Order %s cannot be read.", record.id)
            kept = _Kept(order, record, self)
            kept.refuse(error if isinstance(error, UserError) else UserError("library.not_readable"))
            return kept
        return _Kept(replace(order, parts=parts), record, self)

    def _is_past(self, record: WaitingRecord) -> bool:
        is_past = record.refusal is not None and record.asked < time.time() - _REFUSALS_KEPT_S
        if is_past:
            self._library.waiting.remove(record.id)
        return is_past

    def _run(self) -> None:
        is_open = True
        while is_open:
            until = min(self._again, self._removing) if self._unsaved else self._removing
            try:
                event = self._events.get(timeout=max(0.0, until - time.monotonic()))
                is_open = event is not None
            except queue.Empty:
                event = None
            try:
                if isinstance(event, _Event):
                    self._hear(event)
                self._look_after(is_open=is_open)
            except Exception:  # a bug: report it, and keep handling later events
                logger.exception("The library could not be brought up to date.")
                self._trouble = Message("library.internal_error")
            if isinstance(event, threading.Event):
                event.set()

    def _look_after(self, *, is_open: bool) -> None:
        """Do the periodic work: an app may run for months."""
        if self._unsaved and (not is_open or time.monotonic() >= self._again):
            self._save_again()
        if time.monotonic() >= self._removing:
            self._removing = time.monotonic() + _DAY_S
            self._library.remove_deleted()

    def _hear(self, event: _Event) -> None:
        kept, index = event.kept, event.index
        if event.what == "dropped":
            kept.is_dropped = True
        elif event.what == "begun":
            kept.drawing.add(index)
            kept.count_begun(index, 1)
        elif event.what == "refused" and kept.refusal is not None:
            kept.record = replace(kept.record, pictures=(), refusal=as_data(kept.refusal.message))
        elif index in kept.drawing:
            kept.drawing.remove(index)
            kept.count_begun(index, -1)
        if event.what in ("finished", "failed"):
            kept.ended.add(index)
        if event.what == "finished":
            self._save_or_wait(event)
        self._settle(kept)

    def _save_again(self) -> None:
        """Try again to save what could not be written."""
        unsaved, self._unsaved = self._unsaved, []
        for event in unsaved:
            self._save_or_wait(event)
            self._settle(event.kept)
        self._again = time.monotonic() + _AGAIN_S

    def _save_or_wait(self, event: _Event) -> None:
        """Save what has been drawn; if it cannot be written, try again after a while."""
        if not self._save(event):
            if not self._unsaved:
                self._again = time.monotonic() + _AGAIN_S
            self._unsaved.append(event)
            for lost in self._unsaved[:-_MOST_UNSAVED]:
                lost.kept.is_lost = True  # it is drawn again after the next start
            self._unsaved = self._unsaved[-_MOST_UNSAVED:]
        if not self._unsaved:
            self._trouble = None

    def _save(self, event: _Event) -> bool:
        try:
            self._save_pictures(event)
        except OSError as error:
            self._note_trouble(error)
            return False
        except Exception:
            # A bug: the page has the pictures, and another try would not help.
            logger.exception("A picture could not be kept in the library.")
        return True

    def _save_pictures(self, event: _Event) -> None:
        result, record = event.result, event.kept.record
        if result is None:
            return
        inputs = pack_inputs(result.inputs)
        part = f"-{event.index + 1}" if record.is_series else ""
        for image, seed in zip(result.images, result.seeds, strict=True):
            if seed not in result.withheld:
                self._library.pictures.save(
                    image,
                    name=f"{result.settings['task']}-{seed}-{record.id[:8]}{part}",
                    made=record.asked,
                    settings={**result.settings, "seed": seed},
                    inputs=inputs,
                )

    def _settle(self, kept: _Kept) -> None:
        """Record an order's progress; remove one that is over, once all that was drawn of it is written."""
        if not kept.is_over:
            if kept.is_written:
                self._put(kept.record)
        elif not kept.is_lost and not any(event.kept is kept for event in self._unsaved):
            try:
                self._library.waiting.remove(kept.id)
            except OSError as error:
                logger.warning("A finished request could not be removed from the library: %s", error.strerror)

    def _put(self, record: WaitingRecord, pictures: Mapping[str, Image.Image] | None = None) -> bool:
        try:
            self._library.waiting.put(record, pictures)
        except OSError as error:
            logger.warning("A waiting request could not be kept in the library: %s", error.strerror)
            return False
        return True

    def _note_trouble(self, error: OSError) -> None:
        if self._trouble is None:
            logger.error("The library %s cannot be written to: %s", self._library.folder, error.strerror)
        self._trouble = Message("library.disk_full" if error.errno in _FULL else "library.cannot_write")


def build_keeper(library: Library | None, *, shows: bool) -> Keeper:
    """Return a keeper for a library, or one that keeps nothing if there is none; `shows` is as for `LibraryKeeper`."""
    return LibraryKeeper(library, shows=shows) if library else Keeper()


def _refusal(record: WaitingRecord) -> Message:
    try:
        refusal = from_data(record.refusal)
    except (KeyError, TypeError, AttributeError):
        refusal = None
    return refusal if isinstance(refusal, Message) else Message("library.not_readable")
