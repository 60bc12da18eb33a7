"""Keeping orders until they are drawn, and the pictures drawn, in the library on the disk."""

from __future__ import annotations

import logging
import queue
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from PIL import Image

from ipa_app.engine.job import JobObserver
from ipa_app.engine.reference_sets import name_in
from ipa_app.engine.request_files import part_as_data, part_from_data
from ipa_app.engine.results import GenerateResult
from ipa_app.engine.saving import Unsaved, result_size, save_result, trouble
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

_DAY_S = 86400.0
_NOTE_S = 2.0
"""Seconds that a visitor with finished pictures waits for them to be saved."""
_CLOSING_S = 30.0
_REFUSALS_KEPT_S = 7 * 86400.0


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
        """Return a message if what was drawn is not saved, once that has been tried, or takes long; None if it is."""
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
    """An order in the library. Its record is first written by the caller, and later only by the keeper's thread.

    Attributes:
        trouble: why some of what was drawn of it is not saved yet.
        bug: that some of it may never be.
    """

    def __init__(self, order: Order, record: WaitingRecord, keeper: LibraryKeeper, *, is_written: bool = True) -> None:
        super().__init__(order, id=record.id)
        self.record = record
        self.keeper = keeper
        self.is_written = is_written
        self.is_dropped = self.is_lost = False
        self.drawing: set[int] = set()
        self.ended: set[int] = set()
        self.trouble: Message | None = None
        self.bug: Message | None = None

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
        return (self.bug or self.trouble) if self.keeper.has_caught_up() else Message("library.slow")


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
        self._unsaved: Unsaved[_Event] = Unsaved()
        self._is_logged = False
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

    def has_caught_up(self) -> bool:
        """Wait until the events so far are handled; return whether they are, which may take long on a slow disk."""
        reached = threading.Event()
        self._events.put(reached)
        return reached.wait(_NOTE_S)

    def tell(self, event: _Event) -> None:
        """Queue an event of an order for the thread; returns at once."""
        self._events.put(event)

    def close(self) -> None:
        """Write what there is room for, and close the library. What could not be written is drawn again."""
        self._events.put(None)
        self._thread.join(_CLOSING_S)
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
            self._remove(record.id)
        return is_past

    def _run(self) -> None:
        is_open = True
        while is_open:
            until = min(self._unsaved.due, self._removing)
            try:
                event = self._events.get(timeout=max(0.0, until - time.monotonic()))
                is_open = event is not None
            except queue.Empty:
                event = None
            if isinstance(event, _Event):
                with self._going_on(event.kept):
                    self._hear(event)
            with self._going_on():
                self._look_after(is_open=is_open)
            if isinstance(event, threading.Event):
                event.set()

    @contextmanager
    def _going_on(self, kept: _Kept | None = None) -> Iterator[None]:
        """Log any error inside the block, which is a bug, note it for an order, and go on."""
        try:
            yield
        except Exception:
            logger.exception("The library could not be brought up to date.")
            if kept is not None:
                kept.bug = Message("library.internal_error")

    def _look_after(self, *, is_open: bool) -> None:
        """Do the periodic work: an app may run for months."""
        if self._unsaved and (not is_open or time.monotonic() >= self._unsaved.due):
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
        with self._going_on(kept):  # after a bug another try would not help, and the page has the pictures
            self._save_or_hold(event)
        self._settle(kept)

    def _save_again(self) -> None:
        """Try again to save what could not be written."""
        events = self._unsaved.take()
        for event in events:
            with self._going_on(event.kept):
                self._save_or_hold(event)
        for kept in {event.kept for event in events}:
            with self._going_on(kept):
                self._settle(kept)

    def _save_or_hold(self, event: _Event) -> None:
        """Save what has been drawn; if it cannot be written, try again after a while."""
        kept, result = event.kept, event.result
        if result is None:
            return
        try:
            save_result(result, pictures=self._library.pictures, record=kept.record, index=event.index)
        except OSError as error:
            if not self._is_logged:
                logger.error("The library %s cannot be written to: %s", self._library.folder, error.strerror)
            self._is_logged = True
            kept.trouble = trouble(error)
            for lost in self._unsaved.hold(event, size=result_size(result)):
                lost.kept.is_lost = True  # it is drawn again after the next start
        else:
            self._is_logged = bool(self._unsaved)

    def _settle(self, kept: _Kept) -> None:
        """Record an order's progress; remove one that is over, once all that was drawn of it is written."""
        is_saved = not kept.is_lost and not any(event.kept is kept for event in self._unsaved)
        if is_saved:
            kept.trouble = None
        if not kept.is_over:
            if kept.is_written:
                self._put(kept.record)
        elif is_saved:
            self._remove(kept.id)

    def _remove(self, record_id: str) -> None:
        try:
            self._library.waiting.remove(record_id)
        except OSError as error:
            logger.warning("A finished request could not be removed from the library: %s", error.strerror)

    def _put(self, record: WaitingRecord, pictures: Mapping[str, Image.Image] | None = None) -> bool:
        try:
            self._library.waiting.put(record, pictures)
        except OSError as error:
            logger.warning("A waiting request could not be kept in the library: %s", error.strerror)
            return False
        return True


def build_keeper(library: Library | None, *, shows: bool) -> Keeper:
    """Return a keeper for a library, or one that keeps nothing if there is none; `shows` is as for `LibraryKeeper`."""
    return LibraryKeeper(library, shows=shows) if library else Keeper()


def _refusal(record: WaitingRecord) -> Message:
    try:
        refusal = from_data(record.refusal)
    except (KeyError, TypeError, AttributeError):
        refusal = None
    return refusal if isinstance(refusal, Message) else Message("library.not_readable")
