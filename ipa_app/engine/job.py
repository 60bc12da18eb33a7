"""A request on its way: what its owner may watch, wait for and cancel."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import fields, is_dataclass
from math import ceil

from PIL import Image

from ipa_app.engine.observable import Observable
from ipa_app.engine.plan import Plan
from ipa_app.engine.results import GenerateResult, Phase, Progress
from ipa_app.messages import Message

_ROUNDED_S = 10
_BYTES_PER_PIXEL = 4  # as Pillow holds them in most modes, RGB too


class GaveWay(Exception):  # noqa: N818 - no error: the job is drawn later
    """A live job stops being drawn, as somebody waits who is not live."""


class JobObserver:
    """Is told of a job's way, each time at once and by whichever thread; by default it takes no notice."""

    def begun(self) -> None:
        """It is the job's turn."""

    def finished(self, result: GenerateResult) -> None:
        """Its pictures are there; those who watch it have not been told yet."""

    def failed(self, error: Exception) -> None:
        """It has ended without pictures."""


class Job(Observable[GenerateResult]):
    """One submitted request. All methods may be called from any thread, by any number of watchers."""

    def __init__(
        self,
        plan: Plan,
        *,
        on_cancel: Callable[[Job], None],
        on_phase: Callable[[Phase, float], None] = lambda _phase, _seconds: None,
        on_end: Callable[[Job], None] = lambda _job: None,
        previews: bool = False,
        visitor: str | None = None,
        bulk: bool = False,
        live: bool = False,
        may_search: bool = False,
        observer: JobObserver | None = None,
    ) -> None:
        """Make a job that waits.

        Args:
            plan: what is to be drawn.
            on_cancel: told when the owner cancels, so that a waiting job can be dropped at once.
            on_phase: told of each phase that is over, and how many seconds it took.
            on_end: told once, when the job has ended.
            previews: whether its watchers want to see the pictures while they are drawn.
            visitor: whose it is, where several jobs may be one visitor's; by default nobody else's.
            bulk: whether it is one of many, so that single pictures of others go first; so is one of several pictures.
            live: whether it follows what its visitor is just changing; a newer one replaces it, and others go first.
            may_search: whether others should not have to wait until its drawing begins; see `Task.may_search`.
            observer: told of its way.
        """
        super().__init__()
        self.visitor = visitor or self.id
        self.plan, self.wants_previews = plan, previews
        self.bulk = bulk or plan.request.count > 1
        self.live, self.may_search = live, may_search
        self._gives_way = threading.Event()
        self.context = copy_context()  # of the visitor who submits it
        self._on_cancel, self._on_phase, self._on_end = on_cancel, on_phase, on_end
        self._observer = observer or JobObserver()
        self._phase: Phase = "queued"
        self._since = time.monotonic()
        self._place: tuple[int, int | None] | None = None

    @property
    def position(self) -> int:
        """How many requests come before this one; 0 for one that is next, at work or done."""
        return self._place[0] if self._place else 0

    @property
    def waits(self) -> bool:
        """Whether it is in the queue, for the first time or again."""
        return self._place is not None and not self.done

    @property
    def memory_size(self) -> int:
        """How many bytes its pictures take while it waits."""
        return _memory_size(self.plan.request)

    @property
    def error(self) -> Exception | None:
        """What it ended with, if not with pictures."""
        return self._error

    def cancel(self) -> None:
        """Stop: at once while waiting, within a denoising step while drawing. Does nothing to one that is done."""
        super().cancel()
        self._on_cancel(self)

    @property
    def gives_way(self) -> bool:
        """Whether it shall stop being drawn, or has stopped, and begin anew when nothing but live jobs waits."""
        return self._gives_way.is_set()

    def give_way(self) -> None:
        """Stop within a denoising step, to wait again."""
        self._gives_way.set()

    def wait_again(self) -> None:
        """Go back to the queue, having given way."""
        self._gives_way.clear()

    def check_cancelled(self) -> None:
        """Stop here if the owner wants to, or if it shall give way.

        Raises:
            Cancelled: the owner does.
            GaveWay: it shall give way.
        """
        super().check_cancelled()
        if self.gives_way:
            raise GaveWay

    def fail_by(self, error: Exception) -> None:
        """End with whatever went wrong; giving way is no end."""
        if not isinstance(error, GaveWay):
            super().fail_by(error)

    def move_to(self, position: int, *, wait_s: float | None = None) -> None:
        """Take a place in the queue and tell the watchers.

        Args:
            position: 0 for the next.
            wait_s: seconds until it is drawn, about; None where nobody knows.
        """
        place = position, None if wait_s is None else ceil(wait_s / _ROUNDED_S) * _ROUNDED_S
        if place != self._place:
            self._place = place
            self.emit(Progress(phase="queued", message=_waiting(*place)))

    def begin(self) -> None:
        """Leave the queue: it is this one's turn."""
        self._place = None
        self._observer.begun()

    def let_pass(self) -> None:
        """Report to the watchers that a single picture of somebody else is drawn between two of this one's."""
        self.emit(Progress(phase="queued", message=Message("doing.letting_pass")))

    def emit(self, progress: Progress) -> None:
        """Report to the watchers how far it is, and take the time of a phase that is over."""
        if progress.phase != self._phase and not self.done:
            self._end_phase()
            self._phase = progress.phase
        super().emit(progress)

    def finish(self, result: GenerateResult) -> bool:
        """End well."""
        if not self.done:
            self._observer.finished(result)
        return self._ended(super().finish(result))

    def fail(self, error: Exception) -> bool:
        """End with an error, which is this one's alone."""
        is_now = self._ended(super().fail(error))
        if is_now:
            self._observer.failed(error)
        return is_now

    def _ended(self, is_now: bool) -> bool:
        if is_now:
            self._end_phase()
            self._on_end(self)
        return is_now

    def _end_phase(self) -> None:
        now = time.monotonic()
        self._on_phase(self._phase, now - self._since)
        self._since = now


def _memory_size(value: object) -> int:
    """Return the bytes of all pictures in a value: a picture itself, or some in a tuple or a dataclass."""
    if isinstance(value, Image.Image):
        return value.width * value.height * _BYTES_PER_PIXEL
    if isinstance(value, tuple):
        return sum(map(_memory_size, value))
    if is_dataclass(value):
        return sum(_memory_size(getattr(value, each.name)) for each in fields(value))
    return 0


def _waiting(position: int, seconds: int | None) -> Message:
    """Return how many come before, and how long that takes where it is known."""
    ahead = Message("doing.requests_before", count=position) if position else Message("doing.next_in_line")
    if not seconds:
        return ahead
    if seconds <= 60:
        wait = Message("wait.seconds", seconds=seconds)
    else:
        wait = Message("wait.minutes", count=ceil(seconds / 60))
    return Message("doing.waiting", ahead=ahead, wait=wait)
