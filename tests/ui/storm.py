"""Many visitors who request pictures, stop them, leave and come back at any moment, and a record of what each got.

Everything goes through the studio, as from the page and the API; no part of it is mocked.
"""

from __future__ import annotations

import random
import threading
import uuid
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from gradio.context import LocalContext

from ipa_app.engine.engine import Engine
from ipa_app.engine.job import Job
from ipa_app.engine.keeping import Order
from ipa_app.engine.observable import Left
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import GenerateResult, Progress
from ipa_app.engine.series import Part
from ipa_app.errors import Cancelled, UserError
from ipa_app.runtime import BUILD_LOCK
from ipa_app.ui.studio import Studio, save_pictures
from tests.engine.conftest import noise_picture, pixels, reference

PHASES = ("queued", "loading", "encoding", "denoising", "decoding")
BUSY = ("engine.busy", "engine.busy_with_yours", "engine.closing")
_LOADING_HELD = 12
_MOST_STEPS = 8
_BLINK_S = 0.02
_PATIENCE_S = 60.0

WISHES: Mapping[str, Mapping[str, Any]] = {
    "words": {"task": "mix", "prompt": "a cat", "seed": 1, "steps": 1},
    "many": {"task": "mix", "prompt": "a dog", "seed": 2, "count": 3, "steps": 1},
    "slow": {"task": "mix", "prompt": "a frog", "seed": 3, "steps": _MOST_STEPS},
    "picture": {"task": "variation", "references": (reference(1),), "seed": 4, "steps": 1},
    "fine": {"task": "variation", "references": (reference(2),), "adapter": "fine", "seed": 5, "count": 2, "steps": 1},
    "places": {
        "task": "mix",
        "prompt": "a cat",
        "references": (replace(reference(3), region="left", region_prompt="a red dog"),),
        "seed": 8,
        "steps": 1,
    },
    "large": {"task": "mix", "prompt": "a bear", "seed": 6, "width": 72, "height": 88, "steps": 1},
    "painted": {
        "task": "inpaint",
        "image": noise_picture(7),
        "mask": noise_picture(8).convert("L"),
        "prompt": "a hat",
        "seed": 7,
    },
    "filled": {
        "task": "inpaint",
        "image": noise_picture(7),
        "mask": noise_picture(9).convert("L"),
        "seed": 8,
        "steps": 2,
    },
}


class WatchedJobs(Engine):
    """An engine that counts how often each job ends, and does not itself keep jobs alive."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.alive: weakref.WeakSet[Job] = weakref.WeakSet()
        self.ends: Counter[str] = Counter()
        self.submitted: list[str] = []
        super().__init__(*args, **kwargs)

    def submit(self, *args: Any, **kwargs: Any) -> Job:
        job = super().submit(*args, **kwargs)
        self.alive.add(job)
        self.submitted.append(job.id)
        return job

    def _note_end(self, job: Job) -> None:
        self.ends[job.id] += 1
        super()._note_end(job)


class WatchedStudio(Studio):
    """A studio that keeps the ids of the jobs requested."""

    def __init__(self, **parts: Any) -> None:
        self.asked: list[str] = []
        super().__init__(**parts)

    def _start(self, order: Order, *, keep: bool) -> str:
        job_id = super()._start(order, keep=keep)
        self.asked.append(job_id)
        return job_id


@dataclass
class Storm:
    """Visitors, each in a thread of their own.

    Attributes:
        studio: what they talk to.
        alone: the expected pixels of each request, drawn on its own.
        wrong: unexpected errors.
        got: how often each outcome occurred.
    """

    studio: Studio
    alone: Mapping[str, Sequence[bytes]]
    wrong: list[str] = field(default_factory=list)
    got: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def rage(self, actions: int, *, visitors: int, seed: int) -> None:
        """Run about `actions` actions. The model is not loaded until some of them have finished."""
        waits = threading.Semaphore(0)
        threads = [
            threading.Thread(
                target=self._visit, args=(random.Random(f"{seed} {number}"), actions // visitors, waits), daemon=True
            )
            for number in range(visitors)
        ]
        with BUILD_LOCK:
            for thread in threads:
                thread.start()
            met = 0
            while met < _LOADING_HELD and waits.acquire(timeout=1):
                met += 1
        for thread in threads:
            thread.join()

    def _visit(self, chance: random.Random, actions: int, waits: threading.Semaphore) -> None:
        LocalContext.request.set(SimpleNamespace(session_hash=uuid.uuid4().hex))  # type: ignore[arg-type]
        for _ in range(actions):
            name, what = chance.choice(sorted(WISHES)), chance.choice(ACTIONS)
            try:
                outcome = what(self, chance, name)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told with the action that it came from
                outcome = f"{type(error).__name__}: {error}"
                with self._lock:
                    self.wrong.append(f"{what.__name__} of {name}: {outcome}")
            with self._lock:
                self.got[f"{what.__name__}: {outcome}"] += 1
            waits.release()

    def drawn(self, results: Sequence[GenerateResult], name: str) -> str:
        """Check the pictures a visitor got."""
        for result in results:
            if pixels(result) != list(self.alone[name]):
                raise AssertionError("other pictures than alone")
        return "drawn"


def _request(name: str, **changes: Any) -> GenerateRequest:
    return GenerateRequest(**{**WISHES[name], **changes})


def _until(events: Iterator[Any], phase: str) -> list[GenerateResult]:
    """Follow a job until a phase begins, or else to its end; return the results that came."""
    results = []
    for event in events:
        if isinstance(event, GenerateResult):
            results.append(event)
        elif isinstance(event, Progress) and event.phase == phase:
            break
    return results


def _refused(attempt: Callable[[], str]) -> str:
    """Make an attempt that may be refused because too much is waiting."""
    try:
        return attempt()
    except UserError as error:
        if error.message.key not in BUSY:
            raise
        return "busy"


def wait(storm: Storm, chance: random.Random, name: str) -> str:
    """Send a request and wait for the result, as a program does; then save it."""

    def attempt() -> str:
        job_id = storm.studio.submit(_request(name), previews=chance.random() < 0.5)
        results = [each for each in storm.studio.follow(job_id) if isinstance(each, GenerateResult)]
        assert len(save_pictures(results[0], job_id=job_id)) == len(results[0].images)
        return storm.drawn(results, name)

    return _refused(attempt)


def wait_for_series(storm: Storm, _chance: random.Random, name: str) -> str:
    def attempt() -> str:
        parts = [Part(title=str(number), request=_request(name)) for number in range(2)]
        job_id = storm.studio.submit_series(parts)
        results = [each for each in storm.studio.follow(job_id) if isinstance(each, GenerateResult)]
        assert len(results) == len(parts)
        return storm.drawn(results, name)

    return _refused(attempt)


def stop(storm: Storm, chance: random.Random, name: str) -> str:
    """Send a request, and stop it when a phase begins or at once."""

    def attempt() -> str:
        job_id = storm.studio.submit(_request(name, steps=chance.randint(1, _MOST_STEPS)), previews=True)
        return _stopped(storm, chance, job_id)

    return _refused(attempt)


def stop_series(storm: Storm, chance: random.Random, name: str) -> str:
    def attempt() -> str:
        parts = [Part(title=str(number), request=_request(name)) for number in range(3)]
        job_id = storm.studio.submit_series(parts)
        return _stopped(storm, chance, job_id)

    return _refused(attempt)


def _stopped(storm: Storm, chance: random.Random, job_id: str) -> str:
    try:
        with storm.studio.following(job_id) as events:
            _until(events, chance.choice(PHASES))
            storm.studio.cancel(job_id)
            list(events)
    except Cancelled:
        return "stopped"
    return "drawn"


def close_page(storm: Storm, chance: random.Random, name: str) -> str:
    """Send a request, and close the page when a phase begins, which ends following the job."""

    def attempt() -> str:
        job_id = storm.studio.submit(_request(name, steps=chance.randint(1, _MOST_STEPS)), previews=True)
        with storm.studio.following(job_id, newest=True) as events:
            _until(events, chance.choice(PHASES))
        return "closed"

    return _refused(attempt)


def hang_up(storm: Storm, chance: random.Random, name: str) -> str:
    """Send a request, and be gone the next time the server checks."""

    def attempt() -> str:
        gone = threading.Event()
        leaving = threading.Timer(chance.random() / 2, gone.set)
        leaving.start()
        try:
            job_id = storm.studio.submit(_request(name, steps=chance.randint(1, _MOST_STEPS)))
            results = list(storm.studio.follow(job_id, awaited=lambda: not gone.is_set()))
            return "drawn" if results else "nothing"
        except Left:
            return "left"
        finally:
            leaving.cancel()
            leaving.join()

    return _refused(attempt)


def reload(storm: Storm, chance: random.Random, name: str) -> str:
    """Send a request, reload the page while it is drawn, perhaps repeatedly, and still get the result."""

    def attempt() -> str:
        job_id = storm.studio.submit(_request(name), previews=True)
        for _ in range(chance.randint(1, 3)):
            try:
                with storm.studio.following(job_id, newest=True, patience=_PATIENCE_S) as events:
                    if results := _until(events, chance.choice(PHASES)):
                        return storm.drawn(results, name)
                    raise Left
            except Left:
                threading.Event().wait(chance.random() * _BLINK_S)
        results = [each for each in storm.studio.follow(job_id) if isinstance(each, GenerateResult)]
        return storm.drawn(results, name)

    return _refused(attempt)


def live(storm: Storm, chance: random.Random, name: str) -> str:
    """Send request after request: each replaces the one before; the last one is drawn."""

    def attempt() -> str:
        jobs = []
        for _ in range(chance.randint(0, 4)):
            jobs.append(storm.studio.submit(_request(name, count=1, steps=chance.randint(1, _MOST_STEPS)), live=True))
            threading.Event().wait(chance.random() * _BLINK_S)
        last = storm.studio.submit(_request(name, count=1), live=True)
        for job_id in jobs:
            with suppress(Cancelled):
                list(storm.studio.follow(job_id))
        (result,) = (each for each in storm.studio.follow(last) if isinstance(each, GenerateResult))
        assert pixels(result) == list(storm.alone[name])[:1]
        return "drawn"

    return _refused(attempt)


ACTIONS = (wait, wait_for_series, stop, stop_series, close_page, hang_up, reload, live)
