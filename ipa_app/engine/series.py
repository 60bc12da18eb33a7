"""Several ordinary requests that belong together: watched one after the other, stopped all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ipa_app.engine.job import Job
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import AllWithheld, GenerateResult, Progress
from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.entry import AdapterEntry

STRIP_SCALES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One request of a series.

    Attributes:
        title: a few words for people, by which progress names it.
        request: what is to be drawn.
    """

    title: str
    request: GenerateRequest


def scale_strip(request: GenerateRequest) -> tuple[Part, ...]:
    """Plan the same picture, on one seed, at rising strengths of its references."""
    return tuple(
        Part(title=Message("series.strength", scale=f"{scale:g}"), request=replace(one, scale=scale))
        for one in (replace(request, count=1).with_seed(),)
        for scale in STRIP_SCALES
    )


def each_adapter(request: GenerateRequest, adapters: Mapping[str, AdapterEntry]) -> tuple[Part, ...]:
    """Plan the same picture, on one seed, by several adapters.

    Args:
        request: of the picture.
        adapters: by what the request calls them.

    Raises:
        UserError: there are fewer than two.
    """
    if len(adapters) < 2:
        raise UserError("series.too_few_adapters")
    one = replace(request, count=1).with_seed()
    return tuple(Part(title=adapter.title, request=replace(one, adapter=name)) for name, adapter in adapters.items())


class Series:
    """The jobs of a series. Offers what a job does: an id, its events, and cancelling."""

    def __init__(self, jobs: Sequence[tuple[str, Job]]) -> None:
        """Watch over jobs.

        Args:
            jobs: at least one, submitted in this order, each with its title.
        """
        self.id = jobs[0][1].id
        self._jobs = tuple(jobs)

    @property
    def done(self) -> bool:
        """Whether all of them have ended."""
        return all(job.done for _, job in self._jobs)

    def events(
        self, awaited: Callable[[], bool] = lambda: True, *, newest: bool = False, rest_s: float = 0.0
    ) -> Iterator[Progress | GenerateResult]:
        """Yield the progress of each job, saying which it is, and the result of each as soon as it is there.

        What the safety checker held back is among the results, with a sign in its place.

        Args:
            awaited: as for `Observable.events`.
            newest: as for `Observable.events`.
            rest_s: as for `Observable.events`.

        Raises:
            AllWithheld: the safety checker held back everything.
            UserError: one of them failed, and why; the others go on until they are cancelled.
            Cancelled: it was cancelled.
            Left: nobody wants to know any more. It goes on.
        """
        withheld: list[AllWithheld] = []
        for index, (title, job) in enumerate(self._jobs):
            try:
                for event in job.events(awaited, newest=newest, rest_s=rest_s):
                    if isinstance(event, GenerateResult):
                        yield event
                    elif index == 0 or event.phase != "queued":
                        # Later jobs have waited behind the first one, which is no news any more.
                        yield self._told(event, index=index, title=title)
            except AllWithheld as error:
                withheld.append(error)
                yield error.result
        if len(withheld) == len(self._jobs):
            raise withheld[0]

    def cancel(self) -> None:
        """Stop all of them; those that wait go first, so that none begins meanwhile."""
        for _, job in reversed(self._jobs):
            job.cancel()

    def _told(self, event: Progress, *, index: int, title: str) -> Progress:
        """Return which job an event belongs to, and how far the whole series is."""
        if event.phase in ("queued", "loading"):
            return event
        count, steps = len(self._jobs), event.steps or 1
        message = Message("doing.of_series", series=title, number=index + 1, total=count)
        if event.phase != "denoising" and event.message:
            message = Message("doing.of_series_and", series=title, number=index + 1, total=count, doing=event.message)
        return replace(event, step=index * steps + event.step, steps=count * steps, message=message)
