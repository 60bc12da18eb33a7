"""The engine: a queue of requests, and the one thread that draws them on this process's device."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ipa_app.engine.job import Job
from ipa_app.engine.plan import make_plan
from ipa_app.engine.remote import RemoteDraw, follow
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.series import Part, Series
from ipa_app.engine.tasks.pose_search import PoseSearch
from ipa_app.engine.worker import EXACT_BATCH_LIMIT, carry_out, wait_for_model
from ipa_app.errors import Cancelled, UserError
from ipa_app.pose.detect import PoseDetector
from ipa_app.pose.detector import PoseOptions

if TYPE_CHECKING:
    from PIL import Image

    from ipa_app.models.loaded import LoadedModel
    from ipa_app.models.manager import ModelManager

logger = logging.getLogger(__name__)


class Engine:
    """Takes requests from any thread and draws them in turn, those that fit together in one batch."""

    def __init__(
        self,
        manager: ModelManager,
        *,
        max_waiting: int = 32,
        batch_limit: int = EXACT_BATCH_LIMIT,
        remote_draw: RemoteDraw | None = None,
    ) -> None:
        """Start the worker.

        Args:
            manager: where models come from.
            max_waiting: most requests that may wait; further ones are turned away.
            batch_limit: most pictures drawn in one batch; more than 1 gives up byte-equality for speed.
            remote_draw: draws in another process, one request at a time; None draws here.
        """
        self._manager = manager
        self._remote_draw = remote_draw
        self._max_waiting = max_waiting
        self._batch_limit = batch_limit
        self._detector = PoseDetector()
        self._waiting: list[Job] = []
        self._running: list[Job] = []
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def manager(self) -> ModelManager:
        """Where models come from."""
        return self._manager

    def submit(self, request: GenerateRequest, *, previews: bool = False, party: str | None = None) -> Job:
        """Put a request into the queue; a random seed is drawn now.

        Args:
            request: what to draw.
            previews: whether its progress shows the pictures while they are drawn, which takes a tenth longer at
                most; never while anybody else waits.
            party: as for `Job`.

        Raises:
            UserError: there is no such model, it is not downloaded, it cannot do this, or too many requests wait.
        """
        self._manager.check_available(request.model)
        plan = make_plan(request.with_seed(), self._manager.entry(request.model))
        job = Job(plan, on_cancel=self._drop, previews=previews, party=party)
        with self._changed:
            if self._closed:
                raise UserError("engine.closing")
            if len(self._waiting) >= self._max_waiting:
                raise UserError("engine.busy", count=self._max_waiting)
            self._waiting.append(job)
            self._announce_positions()
            self._changed.notify_all()
        return job

    def find_pose(self, photo: Image.Image, *, model: str, options: PoseOptions) -> PoseSearch:
        """Begin to look for the pose in a photo, or in a picture of a toy character, and give the search.

        It does not wait in the queue, and the model need not be loaded.

        Args:
            photo: mode "RGB".
            model: the one to draw with; toy characters are recognised where it draws such.
            options: how people are looked for.

        Raises:
            UserError: there is no such model.
        """
        toy_reader = self._manager.entry(model).pose_reader
        return PoseSearch(photo, detector=self._detector, options=options, toy_reader=toy_reader)

    def submit_series(self, parts: Sequence[Part], *, previews: bool = False) -> Series:
        """Put the requests of a series into the queue one behind the other: all of them, or none.

        Raises:
            UserError: as for `submit`, about any of them.
        """
        jobs: list[tuple[str, Job]] = []
        party = uuid.uuid4().hex
        try:
            for part in parts:
                jobs.append((part.title, self.submit(part.request, previews=previews, party=party)))
        except UserError:
            for _, job in reversed(jobs):
                job.cancel()
            raise
        return Series(jobs)

    def close(self) -> None:
        """Cancel everything and stop the worker."""
        with self._changed:
            self._closed = True
            jobs = [*self._waiting, *self._running]
            self._changed.notify_all()
        for job in jobs:
            job.cancel()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        """Draw until the engine is closed."""
        while (job := self._next()) is not None:
            model = wait_for_model(job, self._manager)
            if model is not None:
                self._work(job, model)
            with self._changed:
                self._running = []
                self._announce_positions()

    def _work(self, job: Job, model: LoadedModel) -> None:
        if self._remote_draw is not None:
            follow(job, self._remote_draw, previews=job.wants_previews and self._nobody_else_waits([job]))
            return
        jobs = [job, *self._companions(job)]
        carry_out(
            jobs,
            model,
            detector=self._detector,
            batch_limit=self._batch_limit,
            has_time=lambda: self._nobody_else_waits(jobs),
        )

    def _nobody_else_waits(self, jobs: Sequence[Job]) -> bool:
        """Whether all that wait belong to the parties of these jobs."""
        parties = {job.party for job in jobs}
        with self._changed:
            return all(job.party in parties for job in self._waiting)

    def _next(self) -> Job | None:
        """Wait for the request whose turn it is; None when the engine is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            self._running = [self._waiting.pop(0)]
            self._announce_positions()
            return self._running[0]

    def _companions(self, job: Job) -> list[Job]:
        """Take from the queue what can be drawn in one batch with a job, in the order of the queue."""
        room = self._batch_limit - job.plan.request.count
        with self._changed:
            taken = []
            for other in list(self._waiting):
                if other.plan.batch_key == job.plan.batch_key and other.plan.request.count <= room:
                    room -= other.plan.request.count
                    self._waiting.remove(other)
                    taken.append(other)
            self._running += taken
            self._announce_positions()
        return taken

    def _drop(self, job: Job) -> None:
        """Take a cancelled request out of the queue; one that is being drawn notices by itself."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                job.fail(Cancelled())
                self._announce_positions()

    def _announce_positions(self) -> None:
        """Report to those who wait how many are before them."""
        for index, job in enumerate(self._waiting):
            job.move_to(index + len(self._running))
