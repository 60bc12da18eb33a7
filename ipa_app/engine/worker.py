"""Carrying out jobs on one device. Runs in the engine's thread; torch comes in with the first model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ipa_app.engine.job import Job
from ipa_app.engine.observable import InternalError
from ipa_app.engine.results import Progress
from ipa_app.errors import Cancelled, UserError
from ipa_app.messages import Message

if TYPE_CHECKING:
    from PIL import Image

    from ipa_app.engine.batch import BatchItem
    from ipa_app.engine.prepared import PreparedJob
    from ipa_app.engine.previews import TimeBudget
    from ipa_app.models.loaded import LoadedModel
    from ipa_app.models.manager import ModelManager
    from ipa_app.pose.detect import PoseDetector

_LOOK_EVERY_S = 0.2


def wait_for_model(job: Job, manager: ModelManager) -> LoadedModel | None:
    """Wait until a job's model is loaded, telling the job's watchers how far it is.

    Returns:
        The model; None when the job has failed, because the model did or its owner cancelled, or when it gives way.
    """
    with job.owning_errors():
        name = job.plan.entry.name
        manager.start(name)
        while True:
            job.check_cancelled()
            try:
                return manager.get(name, timeout=_LOOK_EVERY_S)
            except TimeoutError:
                state = manager.state(name)
                message = Message("doing.loading", title=job.plan.entry.title, doing=state.message or "")
                job.emit(Progress(phase="loading", step=int(state.progress * 100), steps=100, message=message))
            except UserError as error:
                if error.message.key != "model.freed":
                    raise
                # Another model took its place before anything was drawn.
                manager.start(name)
    return None


def carry_out(
    jobs: Sequence[Job],
    model: LoadedModel,
    *,
    detector: PoseDetector,
    batch_limit: int,
    has_time: Callable[[], bool] = lambda: True,
    before_next: Callable[[int], None] = lambda _drawn: None,
    on_drawn: Callable[[Sequence[Job], float], None] = lambda _drawn, _seconds: None,
    on_short: Callable[[int], None] = lambda _fitting: None,
) -> None:
    """Carry out jobs of equal batch keys; each ends with its result or with its own error, unless it gives way.

    Args:
        jobs: at least one.
        model: their model.
        detector: for poses from photos.
        batch_limit: most pictures per batch, where memory suffices for so many.
        has_time: whether previews may be made just now.
        before_next: called between two batches with how many pictures the first had; others may be let pass there.
        on_drawn: told after each batch whose pictures it had, one by one, and how many seconds it took.
        on_short: told how many pictures go into a batch from now on, where memory did not suffice for more.
    """
    # What escapes the jobs' own error handling must end them, never the worker.
    with jobs[0].owning_errors():
        _run_jobs(
            jobs,
            model,
            detector=detector,
            batch_limit=batch_limit,
            has_time=has_time,
            before_next=before_next,
            on_drawn=on_drawn,
            on_short=on_short,
        )
    for job in jobs:
        if not job.gives_way:
            job.fail(InternalError())


def _run_jobs(
    jobs: Sequence[Job],
    model: LoadedModel,
    *,
    detector: PoseDetector,
    batch_limit: int,
    has_time: Callable[[], bool],
    before_next: Callable[[int], None],
    on_drawn: Callable[[Sequence[Job], float], None],
    on_short: Callable[[int], None],
) -> None:
    from ipa_app.engine.prepared import PreparedJob
    from ipa_app.engine.previews import TimeBudget
    from ipa_app.models.memory import memory_errors

    def lower(fitting: int) -> None:
        nonlocal batch_limit
        batch_limit = min(batch_limit, fitting)
        on_short(batch_limit)

    budget, since = TimeBudget(), time.monotonic()
    waiting: list[tuple[PreparedJob, BatchItem]] = []
    for job in jobs:
        with job.owning_errors(), memory_errors():
            prepared = PreparedJob(job, model, detector=detector)
            waiting += [(prepared, item) for item in prepared.items()]
    while waiting := [(prepared, item) for prepared, item in waiting if not prepared.job.done]:
        chunks = waiting[0][1].chunks
        alike = [each for each in waiting if each[1].chunks == chunks]
        batch = alike[:batch_limit]
        waiting = alike[batch_limit:] + [each for each in waiting if each[1].chunks != chunks]
        _draw_batch(batch, model, budget=budget, has_time=has_time, on_short=lower)
        on_drawn([prepared.job for prepared, _ in batch], time.monotonic() - since)
        if waiting:
            before_next(len(batch))
            since = time.monotonic()


def _draw_batch(
    batch: Sequence[tuple[PreparedJob, BatchItem]],
    model: LoadedModel,
    *,
    budget: TimeBudget,
    has_time: Callable[[], bool],
    on_short: Callable[[int], None],
) -> None:
    """Draw one batch, in parts where it cannot be drawn whole.

    When one of several jobs spoils it, they are drawn apart, so that only that one fails; and where memory does not
    suffice for all of a job's pictures at once, it is for half of them.
    """
    from ipa_app.models.memory import OutOfMemoryError

    owners = list(dict.fromkeys(prepared for prepared, _ in batch))
    parts: list[Sequence[tuple[PreparedJob, BatchItem]]] = []
    try:
        if len(batch) == 1:
            with owners[0].job.owning_errors():
                _draw(batch, model, budget=budget, has_time=has_time)
        else:
            _draw(batch, model, budget=budget, has_time=has_time)
    except Exception as error:
        is_short = isinstance(error, OutOfMemoryError)
        if is_short:
            on_short(len(batch) // 2)
        if len(owners) > 1:  # whose error it is shows, and is logged, when each is drawn alone
            parts = [[(each, item) for each, item in batch if each is owner] for owner in owners]
        elif is_short:
            parts = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
        else:
            with owners[0].job.owning_errors():
                raise
    for part in parts:
        _draw_batch(part, model, budget=budget, has_time=has_time, on_short=on_short)


def _draw(
    batch: Sequence[tuple[PreparedJob, BatchItem]],
    model: LoadedModel,
    *,
    budget: TimeBudget,
    has_time: Callable[[], bool],
) -> None:
    from ipa_app.engine.drawing import draw
    from ipa_app.engine.previews import Previewer
    from ipa_app.models.memory import memory_errors

    owners = list(dict.fromkeys(prepared for prepared, _ in batch))

    def on_step(step: int) -> None:
        if all(prepared.job.cancelled for prepared in owners):
            raise Cancelled
        if len(owners) == 1:  # as a live job is, which may have to give way
            owners[0].job.check_cancelled()
        for prepared in owners:
            prepared.report(step, pictures=sum(each is prepared for each, _ in batch))

    def show(pictures: Sequence[Image.Image]) -> None:
        for prepared in owners:
            prepared.look([picture for picture, (each, _) in zip(pictures, batch, strict=True) if each is prepared])

    previewer = None
    # Nobody shall see in a preview what the safety checker would hold back.
    if model.safety is None and all(prepared.job.wants_previews for prepared in owners):
        previewer = Previewer(budget=budget, wanted=has_time, show=show)
    on_step(0)
    with memory_errors():
        items = [item for _, item in batch]
        pictures = draw(model, items, plan=owners[0].job.plan, on_step=on_step, previewer=previewer)
    for (prepared, _), picture in zip(batch, pictures, strict=True):
        if prepared.job.cancelled:
            prepared.job.fail(Cancelled())
        else:
            with prepared.job.owning_errors():
                prepared.add(picture)
