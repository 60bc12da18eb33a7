"""A request on its way: what its owner may watch, wait for and cancel."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context

from ipa_app.engine.observable import Observable
from ipa_app.engine.plan import Plan
from ipa_app.engine.results import GenerateResult, Progress
from ipa_app.messages import Message


class Job(Observable[GenerateResult]):
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
        super().__init__()
        self.party = party or self.id
        self.wants_previews = previews
        self.plan = plan
        # Of the visitor who submits it.
        self.context = copy_context()
        self._on_cancel = on_cancel
        self._position = 0

    @property
    def position(self) -> int:
        """How many requests come before this one; 0 for one that is next, at work or done."""
        return self._position

    def cancel(self) -> None:
        """Stop: at once while waiting, at the next denoising step while drawing. Does nothing to one that is done."""
        super().cancel()
        self._on_cancel(self)

    def move_to(self, position: int) -> None:
        """Take a place in the queue, 0 for the next, and tell the watchers."""
        self._position = position
        ahead = Message("doing.requests_before", count=position) if position else Message("doing.next_in_line")
        self.emit(Progress(phase="queued", message=ahead))
