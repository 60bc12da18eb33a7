"""What draws for an engine: this process's own device, or something elsewhere that takes whole requests."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ipa_app.engine.batch import fitting_batch, usual_batch_limit
from ipa_app.engine.board import Report
from ipa_app.engine.job import Job
from ipa_app.engine.worker import Hooks, carry_out, wait_for_model
from ipa_app.messages import Message

if TYPE_CHECKING:
    from ipa_app.engine.plan import Plan
    from ipa_app.models.loaded import LoadedModel
    from ipa_app.models.manager import ModelManager
    from ipa_app.pose.detect import PoseDetector


class Turns(Protocol):
    """The engine's queue, as a device sees it that has a job to draw."""

    def companions(self, job: Job, *, room: int) -> list[Job]:
        """Take from the queue what can be drawn in one batch with a job.

        Args:
            job: that is drawn.
            room: how many pictures there is room for beside its own.
        """
        ...

    def cut_in(self, job: Job, *, room: Callable[[Plan], int] | None = None) -> Job | None:
        """Take from the queue a single picture that is to be drawn before the next one of a job; None for none.

        Args:
            job: that is interrupted.
            room: where it may be several pictures, or one of a series: how many of a plan's there is room for.
        """
        ...

    def next_batch(self, pictures: int) -> None:
        """Hear that a job goes on after so many of its pictures, and that all who were to be let pass have been.

        After none it is not its own turn yet, as it searches, and others are let pass again.
        """
        ...

    def nobody_else_waits(self, jobs: Sequence[Job]) -> bool:
        """Whether all that wait are of the visitors whom these jobs are of, or live."""
        ...

    def drawn(self, jobs: Sequence[Job], seconds: float) -> None:
        """Learn from pictures that are done how fast it goes.

        Args:
            jobs: whose each picture is.
            seconds: that they took together.
        """
        ...


class Device(Protocol):
    """What draws. The engine above it knows no more of it than this.

    Attributes:
        places: how many requests it draws at once, each in a thread of the engine's.
        lets_pass: whether single pictures can come between two batches of a request.
        offers_live: whether a request may follow what its visitor is just changing: it begins and stops at once.
    """

    places: int
    lets_pass: bool
    offers_live: bool

    def draw(self, job: Job, turns: Turns) -> None:
        """Carry out a job, which ends with its result or its own error, unless it gives way.

        Args:
            job: that has left the queue.
            turns: what else waits.
        """
        ...

    @property
    def trouble(self) -> Message | None:
        """Why nothing can be drawn just now; None while it can."""
        ...

    def reports(self) -> Sequence[Report]:
        """Return what each of the processes that draw elsewhere says of itself."""
        ...

    def close(self) -> None:
        """Let go of what it holds; nothing is drawn any more."""
        ...


class LocalDevice:
    """The device of this process. Jobs that fit together are drawn in one batch."""

    places = 1
    lets_pass = True
    offers_live = True
    trouble = None

    def __init__(self, manager: ModelManager, *, detector: PoseDetector, batch_limit: int | None = None) -> None:
        """Draw with the models of a manager.

        Args:
            manager: of this process.
            detector: for poses from photos.
            batch_limit: most pictures of a model's own size drawn in one batch, fewer of larger ones; None for what
                suits the model. More than 1 gives up byte-equality for speed.
        """
        self._manager = manager
        self._detector = detector
        self._batch_limit = batch_limit
        # How many go into one batch with a model, and where memory did not suffice for so many, by what pictures of a
        # batch have in common.
        self._usual = 1
        self._fitting: dict[Hashable, int] = {}
        self._fitting_with: weakref.ref[LoadedModel] | None = None

    def draw(self, job: Job, turns: Turns) -> None:
        """Carry out a job and what fits beside it. No model is held between two: another may need its memory."""
        lease = wait_for_model(job, self._manager)
        if lease is not None:
            with lease:
                self._draw(job, lease.model, turns)

    def _draw(self, job: Job, model: LoadedModel, turns: Turns) -> None:
        """Carry out a job and what fits beside it.

        What is live is drawn alone: beside others it would slow them down, and could not stop at once. So is what has
        to be searched for first; meanwhile others are let pass.
        """
        if self._fitting_with is None or self._fitting_with() is not model:
            self._fitting, self._fitting_with = {}, weakref.ref(model)
            self._usual = self._batch_limit or usual_batch_limit(model, exact=self._manager.exact)
        room = 0 if job.live or job.may_search else self._limit(job.plan) - job.plan.request.count
        jobs = [job, *turns.companions(job, room=room)]

        def let_pass(pictures: int) -> None:
            self._let_pass(jobs, model, turns, is_searching=pictures == 0)
            turns.next_batch(pictures)

        self._carry_out(jobs, model, turns, before_next=let_pass)

    def _limit(self, plan: Plan) -> int:
        """Return how many pictures of a plan are drawn in one batch at most."""
        limit = fitting_batch(self._usual, plan)
        return min(limit, self._fitting.get(plan.batch_key, limit))

    def reports(self) -> Sequence[Report]:
        """Return nothing: this process speaks for itself."""
        return ()

    def close(self) -> None:
        """Hold nothing: the models are the manager's."""

    def _let_pass(self, jobs: Sequence[Job], model: LoadedModel, turns: Turns, *, is_searching: bool) -> None:
        """Draw pictures of others, where it is their turn, before the next ones of some jobs.

        Between two batches these are single ones. While something is searched for it is whatever goes into one batch,
        and one request at a time: the search may be over then. What takes more than a batch waits even so, as it could
        not be interrupted. So do requests for another model: that would take the place of this one, whose turn it is,
        and which would have to be read again before it is drawn with.
        """
        room = self._limit if is_searching else None
        while (other := turns.cut_in(jobs[0], room=room)) is not None:
            if not is_searching:  # otherwise it tells how far it is itself
                jobs[0].let_pass()
            self._carry_out([other], model, turns, aside=jobs)
            if is_searching or all(each.done for each in jobs):
                return

    def _carry_out(
        self,
        jobs: Sequence[Job],
        model: LoadedModel,
        turns: Turns,
        *,
        before_next: Callable[[int], None] = lambda _drawn: None,
        aside: Sequence[Job] = (),
    ) -> None:
        carry_out(
            jobs,
            model,
            detector=self._detector,
            batch_limit=self._limit(jobs[0].plan),
            hooks=Hooks(
                has_time=lambda: turns.nobody_else_waits(jobs),
                before_next=before_next,
                on_drawn=turns.drawn,
                on_short=partial(self._fitting.__setitem__, jobs[0].plan.batch_key),
                aside=aside,
            ),
        )
