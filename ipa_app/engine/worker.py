"""Carrying out jobs on one device. Runs in the engine's thread; PyTorch is imported with the first model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from ipa_app.engine.job import Job
from ipa_app.engine.observable import InternalError
from ipa_app.engine.results import Progress
from ipa_app.errors import Cancelled, UserError
from ipa_app.messages import Message

if TYPE_CHECKING:
    from PIL import Image

    from ipa_app.engine.batch import BatchItem
    from ipa_app.engine.prepared import PreparedJob
    from ipa_app.models.loaded import LoadedModel
    from ipa_app.models.manager import Lease, ModelManager
    from ipa_app.pose.detect import PoseDetector

_Picture: TypeAlias = "tuple[PreparedJob, BatchItem]"
_LOOK_EVERY_S = 0.2


def wait_for_model(job: Job, manager: ModelManager) -> Lease | None:
    """Wait until a job's model is loaded, reporting the progress to the job's watchers.

    Returns:
        A lease of the model, to be held while drawing; None if the job has failed (the model failed or the owner
        cancelled), or if it gives way.
    """
    with job.owning_errors():
        name = job.plan.entry.name
        manager.start(name)
        while True:
            job.check_cancelled()
            try:
                return manager.lease(name, timeout=_LOOK_EVERY_S)
            except TimeoutError:
                state = manager.state(name)
                message = Message("doing.loading", title=job.plan.entry.title, doing=state.message or "")
                job.emit(Progress(phase="loading", step=int(state.progress * 100), steps=100, message=message))
            except UserError as error:
                if error.message.key != "model.freed":
                    raise
                # Another model replaced it before anything was drawn.
                manager.start(name)
    return None


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Callbacks to the caller while jobs are carried out; by default they do nothing.

    Attributes:
        has_time: whether previews may be made just now.
        before_next: called between two batches with the number of pictures in the first, and with 0 while something
            long goes on in another thread; others may be let pass there.
        on_drawn: called after each batch with the job of each of its pictures, and how many seconds it took.
        on_short: called with the new number of pictures per batch when memory did not suffice for more.
        aside: interrupted jobs that let these pass; those that their owners cancel are ended meanwhile.
    """

    has_time: Callable[[], bool] = lambda: True
    before_next: Callable[[int], None] = lambda _drawn: None
    on_drawn: Callable[[Sequence[Job], float], None] = lambda _drawn, _seconds: None
    on_short: Callable[[int], None] = lambda _fitting: None
    aside: Sequence[Job] = ()


_NO_HOOKS = Hooks()


def carry_out(
    jobs: Sequence[Job], model: LoadedModel, *, detector: PoseDetector, batch_limit: int, hooks: Hooks = _NO_HOOKS
) -> None:
    """Carry out jobs with equal batch keys; each ends with its result or with its own error, unless it gives way.

    Args:
        jobs: at least one.
        model: their model.
        detector: for poses from photos.
        batch_limit: most pictures per batch, if memory suffices for so many.
        hooks: called meanwhile.
    """
    # An error that escapes the jobs' own error handling must end them, never the worker.
    with jobs[0].owning_errors():
        try:
            _Work(model, batch_limit=batch_limit, hooks=hooks).run(jobs, detector)
        finally:
            model.rest()
    for job in jobs:
        if not job.gives_way:
            job.fail(InternalError())


class _Work:
    """The drawing of some jobs, batch by batch."""

    def __init__(self, model: LoadedModel, *, batch_limit: int, hooks: Hooks) -> None:
        from ipa_app.engine.previews import TimeBudget

        self._model, self._batch_limit, self._hooks = model, batch_limit, hooks
        self._budget = TimeBudget()

    def run(self, jobs: Sequence[Job], detector: PoseDetector) -> None:
        """Draw all pictures of the jobs."""
        from ipa_app.engine.prepared import PreparedJob
        from ipa_app.models.memory import memory_errors

        since = time.monotonic()
        waiting: list[_Picture] = []

        def let_pass() -> None:
            nonlocal since
            self._hooks.before_next(0)
            since = time.monotonic()  # time spent elsewhere must not count as drawing time

        for job in jobs:
            _end_stopped(jobs)
            with job.owning_errors(), memory_errors():
                prepared = PreparedJob(job, self._model, detector=detector, let_pass=let_pass)
                waiting += [(prepared, item) for item in prepared.items()]
        while waiting := _wanted(waiting):
            chunks = waiting[0][1].chunks
            alike = [each for each in waiting if each[1].chunks == chunks]
            batch = alike[: self._batch_limit]
            waiting = alike[self._batch_limit :] + [each for each in waiting if each[1].chunks != chunks]
            self._draw_batch(batch)
            self._hooks.on_drawn([prepared.job for prepared, _ in batch], time.monotonic() - since)
            if waiting:
                self._hooks.before_next(len(batch))
                since = time.monotonic()

    def _draw_batch(self, batch: Sequence[_Picture]) -> None:
        """Draw one batch, in parts if it cannot be drawn whole.

        If one of several jobs makes it fail, each is drawn alone, so that only that one fails. If memory does not
        suffice for all of a job's pictures at once, they are drawn in halves.
        """
        from ipa_app.models.memory import OutOfMemoryError

        owners, half = _owners(batch), len(batch) // 2
        parts: list[Sequence[_Picture]] = []
        try:
            self._draw(batch)
        except Exception as error:
            is_short = isinstance(error, OutOfMemoryError) and half > 0
            if is_short:
                self._batch_limit = min(self._batch_limit, half)
                self._hooks.on_short(self._batch_limit)
            if len(owners) > 1:  # drawing each alone shows whose error it is, and logs it
                parts = [[(each, item) for each, item in batch if each is owner] for owner in owners]
            elif is_short:
                parts = [batch[:half], batch[half:]]
            else:
                owners[0].job.fail_by(error)
        for part in parts:
            # A job that has failed or been stopped meanwhile needs no more pictures.
            if wanted := _wanted(part):
                self._draw_batch(wanted)

    def _draw(self, batch: Sequence[_Picture]) -> None:
        from ipa_app.engine.drawing import draw
        from ipa_app.engine.previews import Previewer
        from ipa_app.models.memory import memory_errors

        owners = _owners(batch)

        def check() -> None:
            _end_stopped([*(prepared.job for prepared in owners), *self._hooks.aside])
            if all(prepared.job.done for prepared in owners):
                raise Cancelled
            if len(owners) == 1:  # always so for a live job, which may have to give way
                owners[0].job.check_cancelled()

        def on_step(step: int) -> None:
            check()
            for prepared in owners:
                prepared.report(step, pictures=sum(each is prepared for each, _ in batch))

        def on_again() -> None:
            for prepared in owners:
                prepared.begin_again()
            on_step(0)

        def show(pictures: Sequence[Image.Image]) -> None:
            for prepared in owners:
                prepared.look([picture for picture, (each, _) in zip(pictures, batch, strict=True) if each is prepared])

        plan, previewer = owners[0].job.plan, None
        # A preview must not show what the safety checker would withhold.
        if self._model.safety is None and all(prepared.job.wants_previews for prepared in owners):
            previewer = Previewer(budget=self._budget, wanted=self._hooks.has_time, show=show)
        on_step(0)
        with memory_errors():
            items = [item for _, item in batch]
            draw_watched = partial(draw, on_step=on_step, check=check, on_again=on_again, previewer=previewer)
            pictures = draw_watched(self._model, items, plan=plan)
        _hand_over(batch, pictures)


def _hand_over(batch: Sequence[_Picture], pictures: Sequence[Image.Image | None]) -> None:
    """Hand every job its own pictures; end those that were cancelled meanwhile."""
    for (prepared, _), picture in zip(batch, pictures, strict=True):
        if prepared.job.cancelled:
            prepared.job.fail(Cancelled())
        else:
            with prepared.job.owning_errors():
                prepared.add(picture)


def _end_stopped(jobs: Sequence[Job]) -> None:
    """End those jobs that their owners have cancelled; the others go on."""
    for job in jobs:
        if job.cancelled:
            job.fail(Cancelled())


def _owners(batch: Sequence[_Picture]) -> list[PreparedJob]:
    return list(dict.fromkeys(prepared for prepared, _ in batch))


def _wanted(pictures: Sequence[_Picture]) -> list[_Picture]:
    """Return the pictures whose jobs have not ended."""
    return [(prepared, item) for prepared, item in pictures if not prepared.job.done]
