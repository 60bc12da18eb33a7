"""Running requests: one code path for the page's buttons and the public endpoints."""

from __future__ import annotations

import re
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder
from PIL import Image

from ipa_app.engine.engine import Engine
from ipa_app.engine.job import Job
from ipa_app.engine.keeping import Keeper, KeptOrder, Order
from ipa_app.engine.metadata import pack_inputs
from ipa_app.engine.observable import Left, Observable
from ipa_app.engine.plan import Plan, make_plan
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import GenerateResult, Progress
from ipa_app.engine.series import FailedPart, Part, Series
from ipa_app.engine.tasks.pose_search import PoseSearch
from ipa_app.errors import UserError
from ipa_app.imaging.result_files import file_suffix, write_result
from ipa_app.library.pictures import Pictures
from ipa_app.library.sets import NamedFiles
from ipa_app.messages import Message
from ipa_app.models.catalog import Catalog, ModelEntry
from ipa_app.models.offered import Models
from ipa_app.pose.detector import PoseOptions
from ipa_app.pose.sheet import PoseSheet
from ipa_app.ui.about import all_described, word_notes
from ipa_app.ui.failures import explain, is_disk_full
from ipa_app.ui.visitor import visitor

MOST_FOLLOWERS = 4
"""Per job: each follower takes a thread and one of the places that all visitors share."""
JOB_FOLDER, ZIP_FOLDER = "job-", "zip-"
"""Prefixes of the folders of results, among the files that are served."""
_RELOADED_S = 5.0
"""Seconds that a page may be away before its job lets others pass: a reloaded page is back by then."""
_KEEP_UNSAVED_S = 3600.0
"""Seconds that pictures are held for which the disk had no room, or that nobody has fetched yet."""


class UnsavedError(UserError):
    """The disk was too full to save pictures that were drawn."""

    def __init__(self) -> None:
        super().__init__("page.disk_full_pictures")


@dataclass
class _Running:
    """A job or a search of a visitor.

    Attributes:
        job: the job itself.
        kept: the order, from which the job can be queued again; None for a search, which does not wait in the queue.
        began: when it began, in seconds of the monotonic clock.
        is_left_over: whether an earlier process left it, so that it began before.
        followers: the number of followers.
        left: whether its last follower left some seconds ago, and may come back.
        stepped_aside: whether it was stopped after that, as others waited.
        leaving: the timer that forgets it, unless somebody follows it again before.
    """

    job: Job | Series | PoseSearch | Observable[GenerateResult]
    kept: KeptOrder | None = None
    began: float = field(default_factory=time.monotonic)
    is_left_over: bool = False
    followers: int = 0
    left: bool = False
    stepped_aside: bool = False
    leaving: threading.Timer | None = None


class Studio:
    """The interface for the page and the API: the engine, the models, and the visitors' running jobs."""

    def __init__(self, *, engine: Engine, manager: Models, keeper: Keeper | None = None) -> None:
        self.engine = engine
        self.manager = manager
        self._keeper = keeper or Keeper()
        self._jobs: dict[str, _Running] = {}
        self._lock = threading.Lock()

    def submit(self, request: GenerateRequest, *, previews: bool = False, live: bool = False, keep: bool = True) -> str:
        """Queue a request and return its job's id, by which it can be followed and cancelled.

        With `previews`, some of its progress has a preview. A `live` request replaces the visitor's previous live one,
        and comes after all that are not live. Without `keep`, nothing of it gets into the library.
        """
        part = Part(title="", request=self._noted(request.with_seed()))
        return self._start(Order(parts=(part,), visitor=visitor(), previews=previews, live=live), keep=keep)

    def submit_series(self, parts: Sequence[Part], *, previews: bool = False, keep: bool = True) -> str:
        """Queue the requests of a series and return one id, by which they are followed and cancelled together."""
        parts = tuple(replace(part, request=self._noted(part.request)) for part in parts)
        return self._start(Order(parts=parts, visitor=visitor(), is_series=True, previews=previews), keep=keep)

    def take_up(self) -> None:
        """Queue what an earlier process left, under its old ids; it is drawn even if nobody comes back for it."""
        taken = self._keeper.left_over()
        for kept in taken:
            try:
                if kept.refusal:
                    raise kept.refusal
                job = self._queued(kept, admitted=True)
            except Exception as error:  # no order keeps the others from being drawn, or the app from starting
                refusal = error if isinstance(error, UserError) else UserError(explain(error))
                if not kept.refusal:
                    kept.refuse(refusal)
                job = Observable[GenerateResult]()
                job.fail(refusal)
            self._add(kept.id, _Running(job, kept, is_left_over=True))
        self._forget_later([kept.id for kept in taken])

    @property
    def sets(self) -> NamedFiles | None:
        """The saved sets of references; None without a library."""
        return self._keeper.sets

    @property
    def library(self) -> Pictures | None:
        """The pictures of earlier visits; None if there is no library, or it may not be shown."""
        return self._keeper.shown

    def note_on_keeping(self, job_id: str) -> Message | None:
        """Return a note on problems with keeping a job's pictures in the library; None if there are none."""
        kept = self._jobs[job_id].kept
        return kept.note() if kept else None

    def _noted(self, request: GenerateRequest) -> GenerateRequest:
        """Return a request with notes on how its words will be read."""
        return replace(request, notes=(*request.notes, *word_notes(request, entry=self.entry(request.model))))

    def _start(self, order: Order, *, keep: bool) -> str:
        kept = self._keeper.keep(order) if keep and not order.live else KeptOrder(order)
        try:
            job = self._queued(kept)
        except UserError:
            kept.drop()
            raise
        with self._lock:
            self._jobs[kept.id] = _Running(job, kept)
            self._let_pass()
        return kept.id

    def _add(self, job_id: str, running: _Running) -> None:
        with self._lock:  # another thread may be iterating over the jobs
            self._jobs[job_id] = running

    def _queued(self, kept: KeptOrder, *, admitted: bool = False, stopped: Series | None = None) -> Job | Series:
        """Put an order into the engine's queue, for the first time or again; of a series, the unfinished parts."""
        order, observers = kept.order, kept.observers
        shared: Any = {"previews": order.previews, "visitor": order.visitor, "admitted": admitted}
        if order.is_series:
            return self.engine.submit_series(order.parts, observers=observers, stopped=stopped, **shared)
        (part,) = order.parts
        return self.engine.submit(part.request, live=order.live, alone=part.alone, observer=observers[0], **shared)

    def _let_pass(self) -> None:
        """Stop abandoned jobs if any other job, live ones aside, waits or runs; call with the lock held."""
        jobs = [each for each in self._jobs.values() if each.kept and not each.kept.order.live and not each.job.done]
        if any(not each.left for each in jobs):
            for each in jobs:
                if each.left and not each.stepped_aside:
                    each.stepped_aside = True
                    each.job.cancel()

    def plan(self, request: GenerateRequest) -> Plan:
        """Plan a request without submitting it.

        Raises:
            UserError: there is no such model, or it cannot do this.
        """
        return make_plan(request, self.manager.entry(request.model))

    def knows(self, job_id: str) -> bool:
        """Whether a job can be followed: it runs, or ended recently and its result may not have been seen."""
        return job_id in self._jobs

    def can_be_followed(self, job_id: str, *, most: int = MOST_FOLLOWERS) -> bool:
        """Whether a job exists and has fewer than `most` followers."""
        running = self._jobs.get(job_id)
        return running is not None and running.followers < most

    def took(self, job_id: str) -> float | None:
        """Return the seconds from a job's submission to its end; None before that, or if an earlier process left it."""
        running = self._jobs[job_id]
        ended = running.job.ended
        return None if ended is None or running.is_left_over else ended - running.began

    def follow(
        self, job_id: str, *, awaited: Callable[[], bool] = lambda: True
    ) -> Iterator[Progress | GenerateResult | FailedPart | PoseSheet]:
        """Yield all events of `following`, for callers that do nothing before the first one."""
        with self.following(job_id, awaited=awaited) as events:
            yield from events

    @contextmanager
    def following(
        self,
        job_id: str,
        *,
        awaited: Callable[[], bool] = lambda: True,
        newest: bool = False,
        rest_s: float = 0.0,
        patience: float = 0.0,
    ) -> Iterator[Iterator[Progress | GenerateResult | FailedPart | PoseSheet]]:
        """Yield the events of a job: its progress from the beginning, then its result; of a series, each when ready.

        When the last follower leaves, the job is cancelled: nobody is left to see the pictures.

        Args:
            job_id: the id of a job that `knows` knows.
            awaited: called several times a second; returns whether this follower is still there.
            newest: whether to skip progress that newer progress has overtaken.
            rest_s: seconds to pause after progress; the end of the job cuts them short.
            patience: seconds to wait for another follower before the job is cancelled; after a few it lets others pass.

        Raises:
            Cancelled: the job was stopped.
            Left: this follower has gone away.
            UserError: the request failed, and why; or the job has too many followers.
        """
        running, wait = self._join(job_id), 0.0
        try:
            yield running.job.events(awaited, newest=newest, rest_s=rest_s)
        except (GeneratorExit, Left, UnsavedError) as error:
            wait = _KEEP_UNSAVED_S if isinstance(error, UnsavedError) else patience
            raise
        finally:
            with self._lock:
                running.followers -= 1
                if not running.followers:
                    self._leave_later(running, job_id, min(wait, _RELOADED_S), wait - _RELOADED_S)

    def _leave_later(self, running: _Running, job_id: str, wait: float, further: float = 0.0) -> None:
        """Call `_leave` after some seconds, unless somebody follows the job by then; call with the lock held."""
        running.leaving = threading.Timer(wait, self._leave, [job_id, further])
        running.leaving.daemon = True
        running.leaving.start()

    def _join(self, job_id: str) -> _Running:
        with self._lock:
            running = self._jobs[job_id]
            if running.followers >= MOST_FOLLOWERS:
                raise UserError("page.followed_by_many", most=MOST_FOLLOWERS)
            if running.stepped_aside and running.kept:
                stopped = running.job if isinstance(running.job, Series) else None
                running.job = self._queued(running.kept, admitted=True, stopped=stopped)
            running.followers += 1
            running.left = running.stepped_aside = False
            if running.leaving:
                running.leaving.cancel()
        return running

    def _leave(self, job_id: str, further: float) -> None:
        """Let others pass a job that nobody follows, and forget it after `further` seconds without a follower."""
        with self._lock:
            running = self._jobs.get(job_id)
            if running is None or running.followers:
                return
            if further > 0:
                running.left = True
                self._let_pass()
                self._leave_later(running, job_id, further)
                return
            del self._jobs[job_id]
        # If the process is ending, its followers may come back to the next one, so the order stays.
        if self.engine.trouble is None:
            _drop(running)
        running.job.cancel()

    def _forget_later(self, job_ids: Sequence[str]) -> None:
        """Forget jobs once they are done and nobody follows them, checked every `_KEEP_UNSAVED_S` seconds."""
        if job_ids:
            later = threading.Timer(_KEEP_UNSAVED_S, self._forget_unclaimed, [job_ids])
            later.daemon = True
            later.start()

    def _forget_unclaimed(self, job_ids: Sequence[str]) -> None:
        with self._lock:
            known = [job_id for job_id in job_ids if job_id in self._jobs]
            for job_id in known:
                if self._jobs[job_id].job.done and not self._jobs[job_id].followers:
                    del self._jobs[job_id]
        self._forget_later([job_id for job_id in known if job_id in self._jobs])

    def cancel(self, job_id: str | None, *, older_than: float = 0.0) -> None:
        """Stop a job that waits or was submitted at least `older_than` seconds ago; ignore it if over or unknown."""
        running = self._jobs.get(job_id or "")
        waits = running is not None and isinstance(running.job, Job) and running.job.waits
        if running is not None and (waits or time.monotonic() - running.began >= older_than):
            _drop(running)
            running.job.cancel()

    def find_pose(self, photo: Image.Image, *, model: str, options: PoseOptions) -> str:
        """Start to look for the pose in a photo (mode "RGB"), and return an id by which it is followed and cancelled.

        With a model that draws toy characters, those are recognised too. The last event is the pose.

        Raises:
            UserError: there is no such model.
        """
        search = self.engine.find_pose(photo, model=model, options=options)
        self._add(search.id, _Running(search))
        return search.id

    @property
    def catalog(self) -> Catalog:
        """The models by name, and those that are left out."""
        return self.manager.catalog

    def entry(self, model: str) -> ModelEntry:
        """Return a model's catalogue entry; for an unknown name, the first one."""
        return self.manager.entry(model if model in self.catalog else next(iter(self.catalog)))

    def models(self) -> dict[str, dict[str, Any]]:
        """Describe every model and its state, for programs; those left out are "failed", and their message says why."""
        return all_described(self.manager)


def _drop(running: _Running) -> None:
    """Drop a job's order for good."""
    if running.kept:
        running.kept.drop()


def save_pictures(result: GenerateResult, *, job_id: str) -> list[str]:
    """Write the result's pictures as files in the requested format.

    Each contains its settings and the pictures that it was made from. They are among the files that Gradio serves and
    later deletes.

    Returns:
        The files' paths, in the order of the seeds.

    Raises:
        UnsavedError: the disk is full.
    """
    with _saving():
        return _save_pictures(result, job_id=job_id)


def _save_pictures(result: GenerateResult, *, job_id: str) -> list[str]:
    folder = Path(get_upload_folder()) / f"{JOB_FOLDER}{re.sub(r'[^0-9A-Za-z-]', '', job_id)}"
    folder.mkdir(parents=True, exist_ok=True)
    inputs, output_format = pack_inputs(result.inputs), result.settings["output_format"]
    paths = []
    for image, seed in zip(result.images, result.seeds, strict=True):
        path = folder / f"{result.settings['task']}-{seed}{file_suffix(output_format)}"
        write_result(image, path, {**result.settings, "seed": seed}, inputs=inputs, output_format=output_format)
        paths.append(str(path))
    return paths


def save_zip(paths: Sequence[str]) -> str:
    """Put result files into a ZIP file, numbered, and return its path.

    They are stored without compression, as picture files are compressed already.

    Raises:
        UnsavedError: the disk is full.
    """
    target = Path(get_upload_folder()) / f"{ZIP_FOLDER}{uuid.uuid4().hex}" / "pictures.zip"
    with _saving():
        target.parent.mkdir(parents=True)
    with _saving(), zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for number, path in enumerate(paths, start=1):
            archive.write(path, f"{number}-{Path(path).name}")
    return str(target)


@contextmanager
def _saving() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise UnsavedError from error
        raise
