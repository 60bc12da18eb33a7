"""Work in progress, which its owner may watch, wait for and cancel."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Generic, TypeVar

from ipa_app.engine.results import Progress
from ipa_app.errors import Cancelled, UserError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_LOOK_EVERY_S = 0.25


class InternalError(UserError):
    """A bug. The message may be shown to users as it is; the traceback is in the log."""

    def __init__(self) -> None:
        super().__init__("engine.internal_error")


class Left(Cancelled):
    """The watcher has gone away without cancelling."""


class Observable(Generic[Result]):
    """Work that ends with a result or an error. All methods may be called from any thread, by any number of watchers.

    Attributes:
        id: identifies it.
        stop: set when its owner wants it to stop.
        ended: when it ended, in seconds of the monotonic clock; None if it has not.
    """

    def __init__(self) -> None:
        self.id = uuid.uuid4().hex
        self.stop = threading.Event()
        self.ended: float | None = None
        self._changed = threading.Condition()
        self._events: list[Progress] = []
        self._result: Result | None = None
        self._error: Exception | None = None

    @property
    def done(self) -> bool:
        """Whether it has ended, with a result or an error."""
        return self._result is not None or self._error is not None

    @property
    def cancelled(self) -> bool:
        """Whether its owner wants it to stop."""
        return self.stop.is_set()

    def events(
        self, awaited: Callable[[], bool] = lambda: True, *, newest: bool = False, rest_s: float = 0.0
    ) -> Iterator[Progress | Result]:
        """Yield all progress from the beginning, as it comes, and finally the result.

        Args:
            awaited: asked several times a second whether anybody still wants to know.
            newest: skip progress that newer progress has overtaken, for slow watchers.
            rest_s: seconds to pause after progress, for watchers to whom each report costs something; the end cuts the
                pause short.

        Raises:
            UserError: it failed, and why.
            Cancelled: it was cancelled.
            Left: nobody wants to know any more. It goes on.
        """
        seen = 0
        while True:
            if not awaited():
                raise Left
            with self._changed:
                self._changed.wait_for(lambda seen=seen: len(self._events) > seen or self.done, _LOOK_EVERY_S)
                news = self._events[seen:]
            yield from _newest(news) if newest else news
            seen += len(news)
            if news and rest_s:
                with self._changed:
                    self._changed.wait_for(lambda: self.done, rest_s)
            if self.done and seen == len(self._events):
                yield self.result()
                return

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the result.

        Args:
            timeout: longest wait in seconds; None waits as long as it takes.

        Raises:
            UserError: it failed, and why.
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
        """Ask it to stop soon. Does nothing once it is done."""
        self.stop.set()

    def check_cancelled(self) -> None:
        """Stop here if the owner has cancelled it.

        Raises:
            Cancelled: the owner has.
        """
        if self.cancelled:
            raise Cancelled

    def emit(self, progress: Progress) -> None:
        """Report progress to the watchers; an immediate repeat is dropped.

        Only the latest preview is kept: late watchers have no use for earlier ones.
        """
        with self._changed:
            if not self.done and self._events[-1:] != [progress]:
                if progress.preview is not None:
                    self._events = [replace(each, preview=None) for each in self._events]
                self._events.append(progress)
                self._changed.notify_all()

    def finish(self, result: Result) -> bool:
        """End with a result, unless it has ended already; return whether it ends now."""
        with self._changed:
            if self.done:
                return False
            self.ended = time.monotonic()
            self._result = result
            self._changed.notify_all()
            return True

    def fail(self, error: Exception) -> bool:
        """End with an error, which belongs to it alone, unless it has ended already; return whether it ends now."""
        with self._changed:
            if self.done:
                return False
            self.ended = time.monotonic()
            # Without the traceback, whose frames would hold the model for as long as the error is kept; the same holds
            # for the error that it was raised from.
            self._error = error.with_traceback(None)
            error.__cause__ = error.__context__ = None
            self._changed.notify_all()
            return True

    @contextmanager
    def owning_errors(self) -> Iterator[None]:
        """Turn any error inside the block into its own failure."""
        try:
            yield
        except Exception as error:
            self.fail_by(error)

    def fail_by(self, error: Exception) -> None:
        """End with an error: the one place that tells bugs, which are logged, from errors that may be shown."""
        if isinstance(error, Cancelled | UserError):
            self.fail(error)
        else:
            logger.error("%s %s failed.", type(self).__name__, self.id, exc_info=error)
            self.fail(InternalError())


def _newest(news: list[Progress]) -> list[Progress]:
    """Return the last progress alone, with the last preview that came with any."""
    previews = [each.preview for each in news if each.preview is not None]
    return [replace(each, preview=previews[-1] if previews else None) for each in news[-1:]]
