"""The engine: a queue of requests, and one thread for each place of a device, which has them drawn."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Sequence, Sized
from functools import partial
from typing import TYPE_CHECKING

from ipa_app.engine.device import Device, LocalDevice
from ipa_app.engine.job import Job, JobObserver
from ipa_app.engine.metrics import Metrics
from ipa_app.engine.observable import InternalError
from ipa_app.engine.pace import Pace
from ipa_app.engine.plan import Plan, make_plan
from ipa_app.engine.queue import FairQueue, Limits
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.series import Part, Series
from ipa_app.engine.tasks.pose_search import PoseSearch
from ipa_app.errors import Cancelled, UserError
from ipa_app.messages import Message
from ipa_app.models.manager import ModelManager
from ipa_app.models.offered import Models
from ipa_app.pose.detect import PoseDetector
from ipa_app.pose.detector import PoseOptions

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)


class Engine:
    """Takes requests from any thread and has a device draw them in turn. The device sees the engine as `Turns`.

    Attributes:
        metrics: its numbers, for the operator.
        device: draws the pictures.
    """

    def __init__(
        self,
        manager: Models,
        *,
        limits: Limits | None = None,
        batch_limit: int | None = None,
        device: Device | None = None,
    ) -> None:
        """Start a thread for each place of the device.

        Args:
            manager: where models come from.
            limits: how much may wait; anything beyond is refused.
            batch_limit: as for `LocalDevice`; used only if device is None.
            device: draws the pictures; None draws in this process with the models of a `ModelManager`.
        """
        self.metrics = Metrics()
        self._manager = manager
        self._make_job = partial(Job, on_cancel=self._drop, on_phase=self.metrics.phase_took, on_end=self._note_end)
        self._detector = PoseDetector()
        self.device = device or self._own_device(manager, batch_limit=batch_limit)
        self._pace = Pace()
        self._waiting: FairQueue[Job] = FairQueue(limits or Limits())
        # With the number of pictures that each still lacks.
        self._running: dict[Job, int] = {}
        self._refusal: Message | None = None
        self._closed = False
        self._changed = threading.Condition()
        self.metrics.watch(waiting=lambda: self._count(self._waiting), drawing=lambda: self._count(self._running))
        self.metrics.watch_replicas(self.device.reports)
        self._threads = [
            threading.Thread(target=self._run, name="engine", daemon=True) for _ in range(self.device.places)
        ]
        for thread in self._threads:
            thread.start()

    def _own_device(self, manager: Models, *, batch_limit: int | None) -> Device:
        if not isinstance(manager, ModelManager):
            raise TypeError("models that are held elsewhere need a device that draws there")
        return LocalDevice(manager, detector=self._detector, batch_limit=batch_limit)

    @property
    def manager(self) -> Models:
        """Where models come from."""
        return self._manager

    @property
    def trouble(self) -> Message | None:
        """Why nothing more is drawn; None while requests are accepted."""
        return self._refusal

    def submit(
        self,
        request: GenerateRequest,
        *,
        previews: bool = False,
        visitor: str | None = None,
        bulk: bool = False,
        live: bool = False,
        alone: bool = False,
        observer: JobObserver | None = None,
        admitted: bool = False,
    ) -> Job:
        """Put a request into the queue; a random seed is drawn now.

        Args:
            request: what to draw.
            previews: whether its progress includes previews of the pictures, which makes drawing at most a tenth
                slower; there are none while anybody else waits.
            visitor: as for `Job`.
            bulk: as for `Job`.
            live: as for `Job`; for one picture. Cancels the visitor's previous live job, whether waiting or drawn.
            alone: as for `Job`.
            observer: as for `Job`.
            admitted: whether it was accepted once, before it was stopped to wait again, and must not be refused now.

        Raises:
            UserError: there is no such model, it is not downloaded, it cannot do this, or too many requests wait.
        """
        with self.metrics.counting_refusals():
            self._manager.check_available(request.model)
            plan = make_plan(request.with_seed(), self._manager.entry(request.model))
            job = self._make_job(plan, previews=previews, visitor=visitor, bulk=bulk, live=live, observer=observer)
            # Asked here, where nobody else waits for the answer: finding it may mean looking at a picture.
            job.may_search = self.device.lets_pass and not live and plan.task.may_search(plan)
            job.alone = alone
            self._let_wait(job, admitted=admitted)
            return job

    def check_room(self, visitor: str, size: int, *, live: bool = False) -> None:
        """Check that a visitor's request with pictures of `size` bytes may wait, before the pictures are opened.

        Raises:
            UserError: no more requests are accepted, or too much waits.
        """
        with self.metrics.counting_refusals(), self._changed:
            if self._refusal:
                raise UserError(self._refusal)
            self._waiting.check_room(visitor, size, live=live)

    def _let_wait(self, job: Job, *, admitted: bool) -> None:
        plan, request = job.plan, job.plan.request
        with self._changed:
            if self._refusal:
                raise UserError(self._refusal)
            self._enqueue(job, admitted=admitted)
            logger.info(
                "Request %s: %s of %d with %s, %d x %d in %d steps, waits with %d others.",
                *(job.id, request.task, request.count, request.model, plan.width, plan.height, plan.drawn_steps),
                len(self._waiting) - 1,
            )
            self._announce_positions()
            self._changed.notify_all()

    def _enqueue(self, job: Job, *, admitted: bool = False) -> None:
        """Add a job to the queue, and stop what it replaces or what gives way to it; called with the lock held."""
        visitor, size = job.visitor, job.memory_size
        if job.live:
            replaced = self._waiting.add_live(job, visitor=visitor, size=size)
            if replaced is not None:
                replaced.cancel()
                replaced.fail(Cancelled())
            for other in self._running:
                if other.live and other.visitor == visitor:
                    other.cancel()
        else:
            count, bulk = job.plan.request.count, job.bulk
            self._waiting.add(job, visitor=visitor, pictures=count, size=size, bulk=bulk, admitted=admitted)
            self._make_way()

    def _make_way(self) -> None:
        """Make as many live jobs as needed give way to others, the latest first; called with the lock held."""
        at_work = [job for job in self._running if not job.done]
        others = sum(not job.live for job in (*at_work, *self._waiting))
        live = [job for job in at_work if job.live and not job.gives_way]
        for job in live[max(0, self.device.places - others) :]:
            job.give_way()

    def _wait_again(self, job: Job) -> None:
        """Put a live job that gave way back into the queue; called with the lock held."""
        if job.cancelled:
            job.fail(Cancelled())
        else:
            job.wait_again()
            with job.owning_errors():
                self._enqueue(job)

    def find_pose(self, photo: Image.Image, *, model: str, options: PoseOptions) -> PoseSearch:
        """Start searching for the pose in a photo, or in a picture of a toy character, and return the search.

        It does not wait in the queue, and the model need not be loaded.

        Args:
            photo: mode "RGB".
            model: the one to draw with; toy characters are recognised if it draws them.
            options: how people are detected.

        Raises:
            UserError: there is no such model.
        """
        toy_reader = self._manager.entry(model).pose_reader
        return PoseSearch(photo, detector=self._detector, options=options, toy_reader=toy_reader)

    def submit_series(
        self,
        parts: Sequence[Part],
        *,
        previews: bool = False,
        visitor: str | None = None,
        observers: Sequence[JobObserver] | None = None,
        admitted: bool = False,
        stopped: Series | None = None,
    ) -> Series:
        """Put the requests of a series into the queue one after the other: all of them, or none.

        Args:
            parts: its requests.
            previews: as for `submit`.
            visitor: who owns them all; by default a visitor of its own.
            observers: as for `submit`, one for each.
            admitted: as for `submit`.
            stopped: as for `Series.submitted`.

        Raises:
            UserError: as for `submit`, about any of them.
        """
        visitor = visitor or uuid.uuid4().hex
        submit = partial(self.submit, previews=previews, visitor=visitor, bulk=True, admitted=admitted)
        return Series.submitted(parts, submit, observers=observers, stopped=stopped)

    def finish(self, limit_s: float) -> None:
        """Accept no more requests, fail those that wait, and give those being drawn `limit_s` seconds to end."""
        with self._changed:
            self._refusal = self._refusal or Message("engine.closing")
            waiting, drawing = self._empty_queue(), tuple(self._running)
        for job in waiting:
            job.fail(UserError("engine.closing"))
        with self._changed:
            self._changed.wait_for(lambda: all(job.done for job in drawing), limit_s)
        for job in drawing:
            job.fail(UserError("engine.closing"))
            job.cancel()

    def close(self) -> None:
        """Cancel everything and stop the threads and the device."""
        with self._changed:
            self._refusal, self._closed = Message("engine.closing"), True
            jobs = [*self._waiting, *self._running]
            self._changed.notify_all()
        for job in jobs:
            job.cancel()
        for thread in self._threads:
            thread.join(timeout=30)
        self.device.close()

    def _run(self) -> None:
        """Draw until the engine is closed. If anything else ends this thread, all waiting and running jobs fail."""
        try:
            while (job := self._next()) is not None:
                self.device.draw(job, self)
                with self._changed:
                    self._leave(job)
                    if job.gives_way and not job.done:
                        self._wait_again(job)
                    self._announce_positions()
                    self._changed.notify_all()
                del job  # frees its pictures while waiting for the next one
        finally:
            self._end()

    def _leave(self, put_back: Job | None = None) -> None:
        """Drop from the running jobs those that are done and the one put back; called with the lock held."""
        self._running = {job: left for job, left in self._running.items() if job is not put_back and not job.done}

    def _end(self) -> None:
        with self._changed:
            if self._refusal is None:
                logger.critical("The thread that draws has ended; please start the app again.")
                self._refusal = Message("engine.dead")
            jobs = [*self._empty_queue(), *self._running]
            self._running = {}
        for job in jobs:
            job.fail(Cancelled() if job.cancelled else InternalError())

    def _empty_queue(self) -> list[Job]:
        """Remove everything from the queue, so that no thread begins it; called with the lock held."""
        waiting = list(self._waiting)
        for job in waiting:
            self._waiting.remove(job)
        return waiting

    def cut_in(self, job: Job, *, room: Callable[[Plan], int] | None = None) -> Job | None:
        """Take from the queue a job to be drawn before the next pictures of another; see `Turns`."""
        with self._changed:
            self._leave()
            other = self._waiting.cut_in(partial(self._may_cut_in, job=job, room=room), bulk=room is not None)
            if other is not None:
                self._begin(other)
                self._announce_positions()
        return other

    def next_batch(self, pictures: int) -> None:
        """Resume what was interrupted by those who cut in, after so many of its pictures."""
        with self._changed:
            self._waiting.next_batch(pictures)
            self._announce_positions()

    def nobody_else_waits(self, jobs: Sequence[Job]) -> bool:
        """Whether every waiting job is live or belongs to the visitors of these jobs."""
        visitors = {job.visitor for job in jobs}
        with self._changed:
            return all(job.live or job.visitor in visitors for job in self._waiting)

    def _next(self) -> Job | None:
        """Wait for the next request and return it; None when the engine is closed."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) or self._closed)
            if self._closed:
                return None
            self._begin(job := self._waiting.begin())
            self._announce_positions()
            return job

    def _begin(self, job: Job) -> None:
        """Add a job that has left the queue to the running ones; called with the lock held."""
        self._running[job] = job.plan.request.count
        job.begin()
        logger.info("Request %s: it is its turn.", job.id)

    def companions(self, job: Job, *, room: int) -> list[Job]:
        """Take from the queue the jobs that can be drawn in one batch with a job, in the order of the queue.

        Never live jobs, nor any that may search first, as the others would have to wait, nor what is drawn alone.
        """
        with self._changed:
            taken = []
            for other in self._waiting:
                fits = other.plan.batch_key == job.plan.batch_key and other.plan.request.count <= room
                if fits and _may_join(other, job):
                    room -= other.plan.request.count
                    taken.append(other)
            for other in taken:
                self._waiting.join(other)
                self._begin(other)
            self._announce_positions()
        return taken

    def _drop(self, job: Job) -> None:
        """Remove a cancelled request from the queue; one that is being drawn notices by itself."""
        with self._changed:
            if self._waiting.remove(job):
                job.fail(Cancelled())
                self._announce_positions()

    def drawn(self, jobs: Sequence[Job], seconds: float) -> None:
        """Record how long a batch took.

        Args:
            jobs: the job of each of its pictures.
            seconds: that it took.
        """
        with self._changed:
            if any(job.error is None and not job.gives_way for job in jobs):
                self._pace.measured(jobs[0].plan, seconds=seconds, pictures=len(jobs))
            self._leave()
            for job, count in Counter(jobs).items():
                if job in self._running:
                    self._running[job] = max(self._running[job] - count, 0)
            self._announce_positions()
            self._changed.notify_all()

    def _note_end(self, job: Job) -> None:
        """Log how a request ended, without a word of what was asked for."""
        logger.info("Request %s: %s.", job.id, self.metrics.ended(job.error))

    def _announce_positions(self) -> None:
        """Report to waiting jobs how many are ahead of them and for how long; called with the lock held."""
        places = self._waiting.places()
        waits = self._pace.waits(places, self._running, at_once=self.device.places, passes=self._may_cut_in)
        for index, (place, wait_s) in enumerate(zip(places, waits, strict=True)):
            place.item.move_to(index + len(self._running), wait_s=wait_s)

    def _may_cut_in(self, other: Job, job: Job, *, room: Callable[[Plan], int] | None = None) -> bool:
        """Whether a request can be drawn before the next pictures of a job: in one batch, with the same model."""
        begins_at_once = _may_join(other, job) and other.plan.entry.name == job.plan.entry.name
        most = 1 if room is None else room(other.plan)
        return self.device.lets_pass and begins_at_once and other.plan.request.count <= most

    def _count(self, counted: Sized) -> int:
        with self._changed:
            return len(counted)


def _may_join(other: Job, job: Job) -> bool:
    """Whether a job can be drawn before another is done, as far as it is for the two to say."""
    return not (other.live or other.may_search or other.alone or job.alone)
