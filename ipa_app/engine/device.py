"""The devices that draw for an engine: this process's own, or one elsewhere that takes whole requests."""

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
    """The engine's queue, as seen by a device with a job to draw."""

    def companions(self, job: Job, *, room: int) -> list[Job]:
        """Take from the queue the jobs that can be drawn in one batch with a job.

        Args:
            job: being drawn.
            room: how many pictures fit in the batch beside its own.
        """
        ...

    def cut_in(self, job: Job, *, room: Callable[[Plan], int] | None = None) -> Job | None:
        """Take a single-picture job from the queue, to be drawn before a job's next picture; None if there is none.

        Args:
            job: that is interrupted.
            room: how many pictures of a plan there is room for, if jobs of several pictures or of a series may cut in;
                None if they may not.
        """
        ...

    def next_batch(self, pictures: int) -> None:
        """Note that a job goes on after so many of its pictures, and that all who were to be let pass have been.

        With 0 the job is still searching: its own turn has not come, and others may be let pass again.
        """
        ...

    def nobody_else_waits(self, jobs: Sequence[Job]) -> bool:
        """Whether every waiting job is live or belongs to the visitors of these jobs."""
        ...

    def drawn(self, jobs: Sequence[Job], seconds: float) -> None:
        """Record how long a batch of pictures took.

        Args:
            jobs: the job of each picture.
            seconds: that they took together.
        """
        ...


class Device(Protocol):
    """Draws requests. This is all that the engine knows of it.

    Attributes:
        places: how many requests it draws at once, each in a thread of the engine's.
        lets_pass: whether single pictures can come between two batches of a request.
        offers_live: whether a request may follow changes its visitor is making: it can begin and stop at once.
    """

    places: int
    lets_pass: bool
    offers_live: bool

    def draw(self, job: Job, turns: Turns) -> None:
        """Carry out a job, which ends with its result or its own error, unless it gives way.

        Args:
            job: that has left the queue.
            turns: the rest of the queue.
        """
        ...

    @property
    def trouble(self) -> Message | None:
        """Why nothing can be drawn just now; None while it can."""
        ...

    def reports(self) -> Sequence[Report]:
        """Return the reports of the processes that draw elsewhere."""
        ...

    def close(self) -> None:
        """Release what it holds; nothing is drawn any more."""
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
            batch_limit: most pictures of a model's own size drawn in one batch, fewer for larger ones; None for what
                suits the model. More than 1 trades byte-equality for speed.
        """
        self._manager = manager
        self._detector = detector
        self._batch_limit = batch_limit
        # The batch limit for a model, and the smaller limits, by batch key, where memory did not suffice for that.
        self._usual = 1
        self._fitting: dict[Hashable, int] = {}
        self._fitting_with: weakref.ref[LoadedModel] | None = None

    def draw(self, job: Job, turns: Turns) -> None:
        """Carry out a job and what fits beside it. No model is held between jobs: another may need its memory."""
        lease = wait_for_model(job, self._manager)
        if lease is not None:
            with lease:
                self._draw(job, lease.model, turns)

    def _draw(self, job: Job, model: LoadedModel, turns: Turns) -> None:
        """Carry out a job and what fits beside it.

        Live jobs are drawn alone: beside others they would slow them down, and could not stop at once. So are jobs
        that search first; meanwhile others are let pass.
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
        """Return the most pictures of a plan that are drawn in one batch."""
        limit = fitting_batch(self._usual, plan)
        return min(limit, self._fitting.get(plan.batch_key, limit))

    def reports(self) -> Sequence[Report]:
        """Return no reports: there are no other processes."""
        return ()

    def close(self) -> None:
        """Do nothing: the models belong to the manager."""

    def _let_pass(self, jobs: Sequence[Job], model: LoadedModel, turns: Turns, *, is_searching: bool) -> None:
        """Draw other jobs whose turn it is, before the next pictures of some jobs.

        Between two batches these are single pictures. During a search they are anything that fits in one batch, one
        request at a time, as the search may be over by then. A request of more than a batch waits even so, as it could
        not be interrupted. So do requests for another model: it would replace this one, whose turn it is and which
        would have to be read again.
        """
        room = self._limit if is_searching else None
        while (other := turns.cut_in(jobs[0], room=room)) is not None:
            if not is_searching:  # a search reports its own progress
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
