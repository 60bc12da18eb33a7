"""Drawing in another process that has a device: a request goes there, and plain events come back.

What is sent is pickled: requests and results hold numbers, texts and pictures, and no part of a model.
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
    """A request failed in the other process. Sent instead of an exception, which may lose its message on the way.

    Attributes:
        message: one clear sentence for users.
        withheld: the result, if the safety checker withheld every picture.
    """

    message: Message
    withheld: GenerateResult | None = None


Events = Generator[Progress | GenerateResult | Refusal | None, None, None]
"""What comes back; None if nothing did for a moment, so that the reader can check for cancelling."""


class RemoteDraw(Protocol):
    """Draws a request in another process."""

    def __call__(self, request: GenerateRequest, *, adapter: AdapterEntry | None, previews: bool) -> Events:
        """Yield all progress as it comes, and finally the result or a refusal; closing it stops the drawing.

        Args:
            request: with a definite seed.
            adapter: the one it asks for, whether it has an effect or not, possibly added after the other process
                started; None if the model has none of that name.
            previews: whether the progress includes previews of the pictures.

        Raises:
            UserError: the other process is not available, and why.
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
    """Carry out a request; this runs in the other process. As `RemoteDraw`, but errors become refusals.

    Args:
        request: as received.
        adapter: as received.
        previews: as received.
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
        # Does nothing to a finished job; otherwise it stops at the next step.
        job.cancel()
        work.join()


def or_refusal(events: Iterator[Progress | GenerateResult]) -> Events:
    """Yield a request's events, and a refusal at the end if it fails."""
    try:
        yield from events
    except UserError as error:
        yield Refusal(error.message, withheld=error.result if isinstance(error, AllWithheld) else None)


def with_adapter(entry: ModelEntry, adapter: AdapterEntry | None, *, called: str) -> ModelEntry:
    """Return a model's entry with only the adapter that a request asks for; unchanged if that is None."""
    return entry if adapter is None else replace(entry, adapters={called: adapter})


class RemoteDevice:
    """A device in another process, or many of them, which take whole requests."""

    lets_pass = False

    def __init__(self, draw: RemoteDraw, *, places: int = 1, offers_live: bool = False) -> None:
        """Have requests drawn elsewhere.

        Args:
            draw: sends a request there; called by as many threads at once as there are places.
            places: as for `Device`.
            offers_live: as for `Device`.
        """
        self._draw = draw
        self.places, self.offers_live = places, offers_live

    def draw(self, job: Job, turns: Turns) -> None:
        """Have a job drawn and pass the events on to its watchers.

        It runs in the context of whoever submitted the job, so that a framework's context variables about the visitor
        are set.
        """
        since = time.monotonic()
        job.context.run(self._follow, job, previews=job.wants_previews and turns.nobody_else_waits([job]))
        if job.error is None:
            turns.drawn([job] * job.plan.request.count, time.monotonic() - since)

    @property
    def trouble(self) -> Message | None:
        """Always None: whether the other process is available shows only when it is called."""
        return None

    def reports(self) -> Sequence[Report]:
        """Return no reports: it has no process of its own between two requests."""
        return ()

    def close(self) -> None:
        """Do nothing: it holds nothing."""

    def _follow(self, job: Job, *, previews: bool) -> None:
        with job.owning_errors():
            job.check_cancelled()
            request = job.plan.request
            # Sent even if it has no effect: the plan is made again there and must find it.
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
