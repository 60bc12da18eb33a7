"""Drawing in another process, one that has a device: a request goes there, and plain events come back.

What crosses is pickled: requests and results hold numbers, texts and pictures, and nothing of a model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from ipa_app.engine.batch import fitting_batch, usual_batch_limit
from ipa_app.engine.board import Report
from ipa_app.engine.device import Turns
from ipa_app.engine.job import Job
from ipa_app.engine.observable import InternalError
from ipa_app.engine.plan import make_plan
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import AllWithheld, GenerateResult, Progress
from ipa_app.engine.worker import carry_out
from ipa_app.errors import UserError
from ipa_app.messages import Message

if TYPE_CHECKING:
    from ipa_app.models.entry import AdapterEntry, ModelEntry
    from ipa_app.models.loaded import LoadedModel
    from ipa_app.pose.detect import PoseDetector


@dataclass(frozen=True)
class Refusal:
    """A request failed there. Exceptions themselves may lose their words on the way.

    Attributes:
        message: one clear sentence for people.
        withheld: what came of it where the safety checker held everything back.
    """

    message: Message
    withheld: GenerateResult | None = None


Events = Generator[Progress | GenerateResult | Refusal | None, None, None]
"""What comes back; None where nothing did for a moment, so that whoever follows can look up."""


class RemoteDraw(Protocol):
    """Draws a request in another process."""

    def __call__(self, request: GenerateRequest, *, adapter: AdapterEntry | None, previews: bool) -> Events:
        """Return all progress as it comes, and at last the result or a refusal; closing it stops the drawing.

        Args:
            request: its seed is decided.
            adapter: the one it asks for, whether it counts or not, which may have come after the other process began;
                None where the model has none that is called so.
            previews: whether the progress shows the pictures while they are drawn.

        Raises:
            UserError: the other process cannot be had, and why.
        """
        ...


def draw_remotely(
    request: GenerateRequest,
    *,
    adapter: AdapterEntry | None,
    previews: bool,
    model: LoadedModel,
    detector: PoseDetector,
    exact: bool,
) -> Events:
    """Carry out a request; this is what runs in the other process. As in `RemoteDraw`, but it raises nothing.

    Args:
        request: as it came.
        adapter: as it came.
        previews: as it came.
        model: the request's.
        detector: for poses from photos.
        exact: as for `usual_batch_limit`.
    """

    def drawn() -> Iterator[Progress | GenerateResult]:
        plan = make_plan(request, with_adapter(model.entry, adapter, called=request.adapter))
        limit = fitting_batch(usual_batch_limit(model, exact=exact), plan)
        job = Job(plan, on_cancel=lambda _: None, previews=previews)
        yield from _watched(job, model, detector=detector, batch_limit=limit)

    return or_refusal(drawn())


def _watched(
    job: Job, model: LoadedModel, *, detector: PoseDetector, batch_limit: int
) -> Iterator[Progress | GenerateResult]:
    """Carry out a job in a thread of its own, and yield its events; closing it stops the drawing."""
    work = threading.Thread(
        target=carry_out,
        args=([job], model),
        kwargs={"detector": detector, "batch_limit": batch_limit},
        name="drawing",
        daemon=True,
    )
    work.start()
    try:
        yield from job.events()
    finally:
        # Does nothing to one that is done; otherwise it stops at the next step.
        job.cancel()
        work.join()


def or_refusal(events: Iterator[Progress | GenerateResult]) -> Events:
    """Yield a request's events, and where it fails its refusal at last."""
    try:
        yield from events
    except UserError as error:
        yield Refusal(error.message, withheld=error.result if isinstance(error, AllWithheld) else None)


def with_adapter(entry: ModelEntry, adapter: AdapterEntry | None, *, called: str) -> ModelEntry:
    """Return a model with the one adapter that a request asks for."""
    return entry if adapter is None else replace(entry, adapters={called: adapter})


class RemoteDevice:
    """A device in another process, or many of them: whole requests go there."""

    lets_pass = False

    def __init__(self, draw: RemoteDraw, *, places: int = 1, offers_live: bool = False) -> None:
        """Have requests drawn elsewhere.

        Args:
            draw: does so, called by as many threads at once as there are places.
            places: as for `Device`.
            offers_live: as for `Device`.
        """
        self._draw = draw
        self.places, self.offers_live = places, offers_live

    def draw(self, job: Job, turns: Turns) -> None:
        """Have a job drawn and tell its watchers what comes from there.

        It is done on behalf of whoever submitted the job: what a framework keeps about the visitor in context variables
        is there.
        """
        since = time.monotonic()
        job.context.run(self._follow, job, previews=job.wants_previews and turns.nobody_else_waits([job]))
        if job.error is None:
            turns.drawn([job] * job.plan.request.count, time.monotonic() - since)

    @property
    def trouble(self) -> Message | None:
        """Nothing: whether it can be had shows when it is asked for."""
        return None

    def reports(self) -> Sequence[Report]:
        """Return nothing: it has no process of its own between two requests."""
        return ()

    def close(self) -> None:
        """Hold nothing."""

    def _follow(self, job: Job, *, previews: bool) -> None:
        with job.owning_errors():
            job.check_cancelled()
            request = job.plan.request
            # Whether or not it counts: where the plan is made anew, it has to be found again.
            adapter = job.plan.entry.find_adapter(request.adapter)
            with closing(self._draw(request, adapter=adapter, previews=previews)) as events:
                for event in events:
                    job.check_cancelled()
                    _tell(job, event)
        if not job.gives_way:
            job.fail(InternalError())


def _tell(job: Job, event: Progress | GenerateResult | Refusal | None) -> None:
    if isinstance(event, Refusal):
        raise AllWithheld(event.message, event.withheld) if event.withheld else UserError(event.message)
    if isinstance(event, GenerateResult):
        job.finish(event)
    elif event is not None:
        job.emit(event)
