"""The measured drawing speed of this process, from which waiting times are estimated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ipa_app.engine.job import Job
    from ipa_app.engine.plan import Plan
    from ipa_app.engine.queue import Place

_WEIGHT_OF_THE_LATEST = 0.3


class Pace:
    """Exponential averages of the seconds per denoising step, by model, pipeline, guidance, size and speed.

    The other work of a picture, such as encoding and decoding, counts as part of its steps.
    """

    def __init__(self) -> None:
        self._seconds: dict[Hashable, float] = {}

    def measured(self, plan: Plan, *, seconds: float, pictures: int) -> None:
        """Record how long pictures of a plan took together."""
        latest = seconds / (pictures * plan.drawn_steps)
        before = self._seconds.setdefault(_key(plan), latest)
        self._seconds[_key(plan)] = before + _WEIGHT_OF_THE_LATEST * (latest - before)

    def seconds(self, plan: Plan, *, pictures: int) -> float | None:
        """Estimate how many seconds pictures of a plan will take; None if nothing like it has been drawn yet."""
        per_step = self._seconds.get(_key(plan))
        return None if per_step is None else per_step * plan.drawn_steps * pictures

    def waits(
        self,
        places: Sequence[Place[Job]],
        running: Mapping[Job, int],
        *,
        at_once: int,
        passes: Callable[[Job, Job], bool],
    ) -> list[float | None]:
        """Estimate how many seconds each job has to wait; None if the time of a job before it is not known.

        Args:
            places: of all waiting jobs, next first.
            running: the jobs being drawn, with how many pictures each still lacks.
            at_once: how many requests are drawn at a time.
            passes: whether the first can be drawn between two pictures of the second.
        """
        first = next(iter(running), None)
        all_of_it = _total(self.seconds(job.plan, pictures=left) for job, left in running.items())
        before: float | None = 0.0
        singles: float | None = 0.0
        waits = []
        for place in places:
            job = place.item
            own = self.seconds(job.plan, pictures=job.plan.request.count)
            if first is not None and not place.bulk and passes(job, first):
                pictures = min(place.number, running[first])
                waits.append(_total((self.seconds(first.plan, pictures=pictures), singles)))
                singles = _total((singles, own))
            else:
                waits.append(_total((all_of_it, before), at_once))
            before = _total((before, own))
        return waits


def _total(seconds: Iterable[float | None], at_once: int = 1) -> float | None:
    """Add up estimates, divided by how many are done at once; None if one of them is not known."""
    known = list(seconds)
    return None if None in known else sum(each for each in known if each is not None) / at_once


def _key(plan: Plan) -> Hashable:
    return plan.entry.name, plan.pipeline_task, plan.guidance_scale > 1, plan.canvas_size, plan.request.speed
