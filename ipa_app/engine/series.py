"""Several ordinary requests that belong together: watched one after the other, cancelled all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ipa_app.engine.job import Job, JobObserver
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import DRAWN_AGAIN, AllWithheld, GenerateResult, Progress
from ipa_app.errors import Cancelled, UserError
from ipa_app.messages import Message
from ipa_app.models.entry import AdapterEntry

STRIP_SCALES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One request of a series.

    Attributes:
        title: a few words for users, which name it in progress messages.
        request: what is to be drawn.
        alone: as for `Job`.
    """

    title: str
    request: GenerateRequest
    alone: bool = False


def scale_strip(request: GenerateRequest) -> tuple[Part, ...]:
    """Plan the same picture, with one seed, at rising strengths of its references."""
    return tuple(
        Part(title=Message("series.strength", scale=f"{scale:g}"), request=replace(one, scale=scale))
        for one in (replace(request, count=1).with_seed(),)
        for scale in STRIP_SCALES
    )


def each_adapter(request: GenerateRequest, adapters: Mapping[str, AdapterEntry]) -> tuple[Part, ...]:
    """Plan the same picture, with one seed, by several adapters.

    Args:
        request: of the picture.
        adapters: by the names that requests use.

    Raises:
        UserError: there are fewer than two.
    """
    if len(adapters) < 2:
        raise UserError("series.too_few_adapters")
    one = replace(request, count=1).with_seed()
    return tuple(Part(title=adapter.title, request=replace(one, adapter=name)) for name, adapter in adapters.items())


@dataclass(frozen=True, kw_only=True)
class FailedPart:
    """A request of a series that has failed while others may have pictures.

    Attributes:
        title: of the part.
        error: why it has no picture.
    """

    title: str
    error: UserError


class Series:
    """The jobs of a series. Offers what a job does: an id, its events, and cancelling."""

    def __init__(self, jobs: Sequence[tuple[str, Job]]) -> None:
        """Hold the jobs of a series.

        Args:
            jobs: at least one, submitted in this order, each with its title.
        """
        self.id = jobs[0][1].id
        self._jobs = tuple(jobs)

    @classmethod
    def submitted(
        cls,
        parts: Sequence[Part],
        submit: Callable[..., Job],
        *,
        observers: Sequence[JobObserver] | None = None,
        stopped: Series | None = None,
    ) -> Series:
        """Submit all parts of a series, or none.

        Args:
            parts: in their order.
            submit: takes a request, the observer of its job, and whether it is drawn alone.
            observers: one for each part.
            stopped: the same series as it was before; jobs in it that ended by themselves are kept.

        Raises:
            UserError: one of them is refused, and why.
        """
        jobs: list[tuple[str, Job]] = []
        before = [job for _, job in stopped._jobs] if stopped else [None] * len(parts)
        try:
            for part, observer, job in zip(parts, observers or [None] * len(parts), before, strict=True):
                if job is None or not job.done or isinstance(job.error, Cancelled):
                    job = submit(part.request, observer=observer, alone=part.alone)
                jobs.append((part.title, job))
        except UserError:
            for _, job in reversed(jobs):
                job.cancel()
            raise
        return cls(jobs)

    @property
    def done(self) -> bool:
        """Whether all of them have ended."""
        return all(job.done for _, job in self._jobs)

    @property
    def ended(self) -> float | None:
        """When the last of them ended, in seconds of the monotonic clock; None if not all have."""
        ends = [job.ended for _, job in self._jobs if job.ended is not None]
        return max(ends) if len(ends) == len(self._jobs) else None

    def events(
        self, awaited: Callable[[], bool] = lambda: True, *, newest: bool = False, rest_s: float = 0.0
    ) -> Iterator[Progress | GenerateResult | FailedPart]:
        """Yield the progress of each job, naming its part, and the result of each as soon as it is available.

        Pictures that the safety checker withheld are among the results, with a sign in their place. A job that fails
        does not affect the others.

        Args:
            awaited: as for `Observable.events`.
            newest: as for `Observable.events`.
            rest_s: as for `Observable.events`.

        Raises:
            UserError: none of them has a picture, and why the first has none; `AllWithheld` if it was withheld.
            Cancelled: it was cancelled.
            Left: nobody wants to know any more. It goes on.
        """
        errors: list[UserError] = []
        for index, (title, job) in enumerate(self._jobs):
            try:
                for event in job.events(awaited, newest=newest, rest_s=rest_s):
                    if isinstance(event, GenerateResult):
                        yield event
                    elif index == 0 or event.phase != "queued":
                        # Later jobs wait behind the first one, which is known already.
                        yield self._told(event, index=index, title=title)
            except UserError as error:
                errors.append(error)
                if isinstance(error, AllWithheld):
                    yield error.result
                else:
                    yield FailedPart(title=title, error=error)
        if len(errors) == len(self._jobs):
            raise errors[0]

    def cancel(self) -> None:
        """Cancel all of them, the waiting ones first, so that none begins meanwhile."""
        for _, job in reversed(self._jobs):
            job.cancel()

    def _told(self, event: Progress, *, index: int, title: str) -> Progress:
        """Return an event with the job it belongs to, and the progress of the whole series."""
        if event.phase in ("queued", "loading"):
            return event
        count, steps = len(self._jobs), event.steps or 1
        message = Message("doing.of_series", series=title, number=index + 1, total=count)
        if event.message and (event.phase != "denoising" or event.message.key == DRAWN_AGAIN):
            message = Message("doing.of_series_and", series=title, number=index + 1, total=count, doing=event.message)
        return replace(event, step=index * steps + event.step, steps=count * steps, message=message)
