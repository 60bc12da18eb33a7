"""A submitted request, which its owner may watch, wait for and cancel."""

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
_BYTES_PER_PIXEL = 4  # what Pillow uses in most modes, including RGB


class GaveWay(Exception):  # noqa: N818 - no error: the job is drawn later
    """A live job stops being drawn because a job that is not live waits."""


class JobObserver:
    """Callbacks for the stages of a job, called immediately and from any thread; by default they do nothing."""

    def begun(self) -> None:
        """It is the job's turn."""

    def finished(self, result: GenerateResult) -> None:
        """The job has its pictures; its watchers have not been told yet."""

    def failed(self, error: Exception) -> None:
        """The job has ended without pictures."""


class Job(Observable[GenerateResult]):
    """One submitted request. All methods may be called from any thread, by any number of watchers.

    Attributes:
        may_search: whether others should not have to wait until its drawing begins; see `Task.may_search`.
        alone: whether nothing else is drawn from its turn to its end, as it may end the process.
    """

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
        observer: JobObserver | None = None,
    ) -> None:
        """Make a job that waits.

        Args:
            plan: what is to be drawn.
            on_cancel: called when the owner cancels, so that a waiting job can be dropped at once.
            on_phase: called after each phase with its name and how many seconds it took.
            on_end: called once, when the job has ended.
            previews: whether its watchers want to see the pictures while they are drawn.
            visitor: its owner, where one visitor may have several jobs; by default a visitor of its own.
            bulk: whether it is one of many, so that others' single pictures go first; true for several pictures anyway.
            live: whether it follows changes its visitor is making; a newer one replaces it, and other jobs go first.
            observer: told of its stages.
        """
        super().__init__()
        self.visitor = visitor or self.id
        self.plan, self.wants_previews = plan, previews
        self.bulk = bulk or plan.request.count > 1
        self.live = live
        self.may_search = self.alone = False
        self._gives_way = threading.Event()
        self.context = copy_context()  # of the visitor who submits it
        self._on_cancel, self._on_phase, self._on_end = on_cancel, on_phase, on_end
        self._observer = observer or JobObserver()
        self._phase: Phase = "queued"
        self._since = time.monotonic()
        self._place: tuple[int, int | None] | None = None

    @property
    def position(self) -> int:
        """How many requests come before this one; 0 if it is next, being drawn or done."""
        return self._place[0] if self._place else 0

    @property
    def waits(self) -> bool:
        """Whether it is in the queue, for the first time or again."""
        return self._place is not None and not self.done

    @property
    def memory_size(self) -> int:
        """How many bytes its pictures take while it waits."""
        return memory_size(self.plan.request)

    @property
    def error(self) -> Exception | None:
        """The error it ended with; None while it has not ended, or if it has its pictures."""
        return self._error

    def cancel(self) -> None:
        """Stop: at once while waiting, within a denoising step while drawing. Does nothing once it is done."""
        super().cancel()
        self._on_cancel(self)

    @property
    def gives_way(self) -> bool:
        """Whether it must stop, or has stopped, being drawn, to start again when only live jobs wait."""
        return self._gives_way.is_set()

    def give_way(self) -> None:
        """Stop within a denoising step, to wait again."""
        self._gives_way.set()

    def wait_again(self) -> None:
        """Go back to the queue, having given way."""
        self._gives_way.clear()

    def check_cancelled(self) -> None:
        """Stop here if the owner has cancelled it, or if it must give way.

        Raises:
            Cancelled: the owner has cancelled it.
            GaveWay: it must give way.
        """
        super().check_cancelled()
        if self.gives_way:
            raise GaveWay

    def fail_by(self, error: Exception) -> None:
        """End with an error; giving way does not end the job."""
        if not isinstance(error, GaveWay):
            super().fail_by(error)

    def move_to(self, position: int, *, wait_s: float | None = None) -> None:
        """Take a place in the queue and tell the watchers.

        Args:
            position: 0 for the next.
            wait_s: approximate seconds until it is drawn; None if unknown.
        """
        place = position, None if wait_s is None else ceil(wait_s / _ROUNDED_S) * _ROUNDED_S
        if place != self._place:
            self._place = place
            self.emit(Progress(phase="queued", message=_waiting(*place)))

    def begin(self) -> None:
        """Leave the queue: it is this job's turn."""
        self._place = None
        self._observer.begun()

    def let_pass(self) -> None:
        """Report to the watchers that a single picture of somebody else is drawn between two of this job's."""
        self.emit(Progress(phase="queued", message=Message("doing.letting_pass")))

    def emit(self, progress: Progress) -> None:
        """Report progress to the watchers, and measure the time of a phase that has ended."""
        if progress.phase != self._phase and not self.done:
            self._end_phase()
            self._phase = progress.phase
        super().emit(progress)

    def finish(self, result: GenerateResult) -> bool:
        """End with a result."""
        if not self.done:
            self._observer.finished(result)
        return self._ended(super().finish(result))

    def fail(self, error: Exception) -> bool:
        """End with an error, which belongs to this job alone."""
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


def memory_size(value: object) -> int:
    """Return the bytes of all pictures in a value: a picture, or any in a tuple or a dataclass."""
    if isinstance(value, Image.Image):
        return value.width * value.height * _BYTES_PER_PIXEL
    if isinstance(value, tuple):
        return sum(map(memory_size, value))
    if is_dataclass(value):
        return sum(memory_size(getattr(value, each.name)) for each in fields(value))
    return 0


def _waiting(position: int, seconds: int | None) -> Message:
    """Return a message on how many come before, and how long that takes if known."""
    ahead = Message("doing.requests_before", count=position) if position else Message("doing.next_in_line")
    if not seconds:
        return ahead
    if seconds <= 60:
        wait = Message("wait.seconds", seconds=seconds)
    else:
        wait = Message("wait.minutes", count=ceil(seconds / 60))
    return Message("doing.waiting", ahead=ahead, wait=wait)
