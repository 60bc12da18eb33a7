"""A request on its way: what its owner may watch, wait for and cancel."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace

from ipa_app.engine.plan import Plan
from ipa_app.engine.results import GenerateResult, Progress
from ipa_app.errors import Cancelled, UserError

logger = logging.getLogger(__name__)


class InternalError(UserError):
    """A bug. The message may be shown to people as it is; the traceback is in the log."""

    def __init__(self) -> None:
        super().__init__("Something went wrong inside the studio (details in the log); please try again.")


class Job:
    """One submitted request. All methods may be called from any thread, by any number of watchers."""

    def __init__(
        self, plan: Plan, *, on_cancel: Callable[[Job], None], previews: bool = False, party: str | None = None
    ) -> None:
        """Make a job that waits.

        Args:
            plan: what is to be drawn.
            on_cancel: told when the owner cancels, so that a waiting job can be dropped at once.
            previews: whether its watchers want to see the pictures while they are drawn.
            party: whom it belongs to, where several jobs are one visitor's; by default nobody else's.
        """
        self.id = uuid.uuid4().hex
        self.party = party or self.id
        self.wants_previews = previews
        self.plan = plan
        # Of the visitor who submits it.
        self.context = copy_context()
        self._on_cancel = on_cancel
        self._cancelled = threading.Event()
        self._changed = threading.Condition()
        self._events: list[Progress] = []
        self._result: GenerateResult | None = None
        self._error: Exception | None = None
        self._position = 0

    @property
    def position(self) -> int:
        """How many requests come before this one; 0 for one that is next, at work or done."""
        return self._position

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._result is not None or self._error is not None

    @property
    def cancelled(self) -> bool:
        """Whether its owner wants it to stop."""
        return self._cancelled.is_set()

    def events(self) -> Iterator[Progress | GenerateResult]:
        """Give all progress from the beginning, as it comes, and at last the result.

        Raises:
            UserError: the request failed, and why.
            Cancelled: it was cancelled.
        """
        seen = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda seen=seen: len(self._events) > seen or self.done)
                news = self._events[seen:]
            yield from news
            seen += len(news)
            if self.done and seen == len(self._events):
                yield self.result()
                return

    def result(self, timeout: float | None = None) -> GenerateResult:
        """Wait for the result.

        Args:
            timeout: longest wait in seconds; None waits as long as it takes.

        Raises:
            UserError: the request failed, and why.
            Cancelled: it was cancelled.
            TimeoutError: it is still not done.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.done, timeout):
                raise TimeoutError("The request is not done yet.")
        if self._result is None:
            raise self._error or Cancelled()
        return self._result

    def cancel(self) -> None:
        """Stop: at once while waiting, at the next denoising step while drawing. Does nothing to one that is done."""
        self._cancelled.set()
        self._on_cancel(self)

    def check_cancelled(self) -> None:
        """Stop here if the owner wants to.

        Raises:
            Cancelled: the owner does.
        """
        if self.cancelled:
            raise Cancelled

    def emit(self, progress: Progress) -> None:
        """Tell the watchers how far it is; saying the same thing twice is saying it once.

        Only the latest preview is kept: who comes late has no use for the ones before.
        """
        with self._changed:
            if not self.done and self._events[-1:] != [progress]:
                if progress.preview is not None:
                    self._events = [replace(each, preview=None) for each in self._events]
                self._events.append(progress)
                self._changed.notify_all()

    def move_to(self, position: int) -> None:
        """Take a place in the queue, 0 for the next, and tell the watchers."""
        self._position = position
        ahead = "next in line" if position == 0 else f"{position} {'request' if position == 1 else 'requests'} before"
        self.emit(Progress(phase="queued", message=ahead))

    def finish(self, result: GenerateResult) -> None:
        """End well."""
        with self._changed:
            if not self.done:
                self._result = result
                self._changed.notify_all()

    def fail(self, error: Exception) -> None:
        """End with an error, which is this job's alone."""
        with self._changed:
            if not self.done:
                self._error = error
                self._changed.notify_all()

    @contextmanager
    def owning_errors(self) -> Iterator[None]:
        """Turn whatever goes wrong inside into this job's failure: the one place where bugs are caught and logged."""
        try:
            yield
        except (Cancelled, UserError) as error:
            self.fail(error)
        except Exception:
            logger.exception("Request %s (%s) failed.", self.id, self.plan.request.task)
            self.fail(InternalError())
