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

    def cut_in(self, job: Job) -> Job | None:
        """Take from the queue a single picture that is to be drawn before the next one of a job; None for none."""
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
        # Where memory did not suffice for more, by what pictures of a batch have in common; and with which model.
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
        usual = self._batch_limit or usual_batch_limit(model, exact=self._manager.exact)
        limit = fitting_batch(usual, job.plan)
        limit = min(limit, self._fitting.get(job.plan.batch_key, limit))
        room = 0 if job.live or job.may_search else limit - job.plan.request.count
        jobs = [job, *turns.companions(job, room=room)]

        def let_pass(pictures: int) -> None:
            self._let_pass(job, model, turns, limit=limit, is_idle=pictures > 0)
            turns.next_batch(pictures)

        self._carry_out(jobs, model, turns, limit=limit, before_next=let_pass)

    def reports(self) -> Sequence[Report]:
        """Return nothing: this process speaks for itself."""
        return ()

    def close(self) -> None:
        """Hold nothing: the models are the manager's."""

    def _let_pass(self, job: Job, model: LoadedModel, turns: Turns, *, limit: int, is_idle: bool) -> None:
        """Draw single pictures of others, where it is their turn, before the next pictures of a job."""
        while (single := turns.cut_in(job)) is not None:
            if is_idle:  # otherwise it tells how far it is itself
                job.let_pass()
            self._carry_out([single], model, turns, limit=limit)

    def _carry_out(
        self,
        jobs: Sequence[Job],
        model: LoadedModel,
        turns: Turns,
        *,
        limit: int,
        before_next: Callable[[int], None] = lambda _drawn: None,
    ) -> None:
        carry_out(
            jobs,
            model,
            detector=self._detector,
            batch_limit=limit,
            hooks=Hooks(
                has_time=lambda: turns.nobody_else_waits(jobs),
                before_next=before_next,
                on_drawn=turns.drawn,
                on_short=partial(self._fitting.__setitem__, jobs[0].plan.batch_key),
            ),
        )
