"""Whose turn it is in the engine: nobody waits long for a visitor who asks for much, and all are told how long."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path
from statistics import median
from types import ModuleType

import pytest
from PIL import Image

from ipa_app.engine.engine import Engine
from ipa_app.engine.job import Job
from ipa_app.engine.metrics import Metrics
from ipa_app.engine.observable import InternalError
from ipa_app.engine.queue import Limits
from ipa_app.engine.requests import GenerateRequest, Reference
from ipa_app.engine.results import GenerateResult, Progress
from ipa_app.engine.series import scale_strip
from ipa_app.errors import Cancelled, UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from tests.engine.conftest import TIMEOUT_S, Generate, drawing, pixels, reference

SINGLE = {"task": "mix", "prompt": "a dog", "steps": 2}
MANY = {"task": "mix", "prompt": "a cat", "steps": 30, "count": 8, "seed": 5}


class Ended:
    """A record of the order in which jobs ended."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._changed = threading.Condition()
        self._watching: list[threading.Thread] = []

    def watch(self, name: str, job: Job) -> None:
        end = job._on_end

        def on_end(ended: Job) -> None:
            end(ended)
            with self._changed:
                self.names.append(name)
                self._changed.notify_all()

        job._on_end = on_end

    def wait(self, count: int) -> list[str]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.names) >= count, TIMEOUT_S)
            return self.names


def told(job: Job) -> list[str]:
    """Return the messages to a waiting visitor, in order."""
    return [str(event.message) for event in job.events() if isinstance(event, Progress) and event.phase == "queued"]


def test_a_single_picture_comes_between_those_of_a_request_of_many_and_changes_nothing(
    own_engine: Engine, generate: Generate
) -> None:
    many = drawing(own_engine.submit(GenerateRequest(**MANY)))
    singles = [own_engine.submit(GenerateRequest(**SINGLE, seed=seed)) for seed in (1, 2)]
    for seed, job in zip((1, 2), singles, strict=True):
        assert pixels(job.result(TIMEOUT_S)) == pixels(generate(**SINGLE, seed=seed))
    assert not many.done
    assert "letting someone's single picture go first" in told(many)
    assert pixels(many.result(TIMEOUT_S)) == pixels(generate(**MANY))


def test_nobody_comes_between_the_pictures_of_what_is_drawn_alone(own_engine: Engine) -> None:
    ended = Ended()
    many = drawing(own_engine.submit(GenerateRequest(**{**MANY, "steps": 10, "count": 3}), alone=True))
    ended.watch("many", many)
    ended.watch("single", own_engine.submit(GenerateRequest(**SINGLE)))
    assert ended.wait(2) == ["many", "single"]


def test_a_single_picture_of_somebody_whose_request_is_stopped_meanwhile_is_drawn(own_engine: Engine) -> None:
    many = drawing(own_engine.submit(GenerateRequest(**MANY)))
    single = own_engine.submit(GenerateRequest(**{**SINGLE, "steps": 60}))
    drawing(single)
    many.cancel()
    assert single.result(TIMEOUT_S).images
    with pytest.raises(Cancelled):
        many.result(TIMEOUT_S)


def test_who_lets_another_pass_is_stopped_at_once(own_engine: Engine) -> None:
    many = drawing(own_engine.submit(GenerateRequest(**MANY)))
    single = drawing(own_engine.submit(GenerateRequest(**{**SINGLE, "steps": 100})))
    many.cancel()
    with pytest.raises(Cancelled):
        many.result(TIMEOUT_S)
    assert not single.done
    assert single.result(TIMEOUT_S).images


def test_one_that_comes_between_is_stopped_alone(own_engine: Engine) -> None:
    many = drawing(own_engine.submit(GenerateRequest(**MANY)))
    single = drawing(own_engine.submit(GenerateRequest(**{**SINGLE, "steps": 100})))
    single.cancel()
    with pytest.raises(Cancelled):
        single.result(TIMEOUT_S)
    assert many.result(TIMEOUT_S).images


def test_a_visitor_of_a_hundred_requests_holds_the_others_up_for_a_round(own_engine: Engine) -> None:
    ended = Ended()
    blocker = drawing(own_engine.submit(GenerateRequest(**{**SINGLE, "steps": 100})))
    request = GenerateRequest(task="mix", prompt="a cat", steps=1)
    with own_engine._changed:  # so that all of them are queued before the first one starts
        for _ in range(100):
            ended.watch("hog", own_engine.submit(request, visitor="hog"))
        for number in range(19):
            ended.watch(f"visitor {number}", own_engine.submit(request, visitor=f"visitor {number}"))
    blocker.cancel()
    names = ended.wait(119)
    waits = [place for place, name in enumerate(names, start=1) if name != "hog"]
    assert median(waits) <= 20
    assert max(waits) <= 2 * 20


def test_a_series_takes_turns_with_others(own_engine: Engine) -> None:
    ended = Ended()
    blocker = drawing(own_engine.submit(GenerateRequest(**{**SINGLE, "steps": 100})))
    wish = GenerateRequest(task="variation", references=(reference(),), steps=1)
    series = own_engine.submit_series(scale_strip(wish), visitor="a")
    for title, job in series._jobs:
        ended.watch(str(title), job)
    single = own_engine.submit(GenerateRequest(task="mix", prompt="a dog", steps=1), visitor="b")
    ended.watch("single", single)
    blocker.cancel()
    assert ended.wait(6)[0] == "single"
    assert len([event for event in series.events() if isinstance(event, GenerateResult)]) == 5


def test_a_batch_takes_its_companions_in_their_order(tiny_bundle_dir: Path) -> None:
    manager = ModelManager({"toybox": entry_from_folder(tiny_bundle_dir, name="toybox")}, device="cpu")
    engine = Engine(manager, batch_limit=4)
    ended = Ended()
    try:
        blocker = drawing(engine.submit(GenerateRequest(**{**SINGLE, "steps": 100})))
        request = GenerateRequest(task="mix", prompt="a cat", steps=3)
        for visitor in ("a", "a", "a", "a", "b", "c", "d"):
            ended.watch(visitor, engine.submit(request, visitor=visitor))
        blocker.cancel()
        names = ended.wait(7)
        assert sorted(names[:4]) == ["a", "b", "c", "d"]
    finally:
        engine.close()


def test_who_waits_is_told_the_place_and_how_long_it_takes(own_engine: Engine) -> None:
    own_engine.submit(GenerateRequest(**SINGLE)).result(TIMEOUT_S)
    blocker = drawing(own_engine.submit(GenerateRequest(**{**SINGLE, "steps": 100})))
    # No request with this number of steps has been drawn; the seconds per step are known all the same.
    first, second = (own_engine.submit(GenerateRequest(**{**SINGLE, "steps": 7})) for _ in range(2))
    assert [job.position for job in (first, second)] == [1, 2]
    blocker.cancel()
    second.result(TIMEOUT_S)
    assert told(first)[0].startswith("1 request ahead, about ")
    assert [line.split(",")[0] for line in told(second)][:2] == ["2 requests ahead", "1 request ahead"]


def test_how_long_is_not_said_where_it_is_not_known(own_engine: Engine) -> None:
    blocker = drawing(own_engine.submit(GenerateRequest(**{**SINGLE, "steps": 100})))
    waiting = own_engine.submit(GenerateRequest(**SINGLE))
    assert next(waiting.events()).message == "1 request ahead"
    blocker.cancel()
    assert waiting.result(TIMEOUT_S).images


def test_an_end_tells_those_who_wait_and_gives_time_to_what_is_drawn(manager: ModelManager) -> None:
    engine = Engine(manager)
    request = drawing(engine.submit(GenerateRequest(**{**SINGLE, "steps": 60})))
    waiting = engine.submit(GenerateRequest(**SINGLE))
    engine.finish(TIMEOUT_S)
    assert request.result(0).images
    for refused in (lambda: waiting.result(0), lambda: engine.submit(GenerateRequest(**SINGLE))):
        with pytest.raises(UserError, match="The app is shutting down"):
            refused()
    assert engine.trouble == "The app is shutting down; please try again in a minute."
    engine.close()


def test_what_is_drawn_beyond_the_time_given_is_told_as_well(manager: ModelManager) -> None:
    engine = Engine(manager)
    job = drawing(engine.submit(GenerateRequest(**MANY)))
    engine.finish(0)
    with pytest.raises(UserError, match="The app is shutting down"):
        job.result(0)
    engine.close()


class EndsTheThread(Image.Image):
    """A picture that ends the thread that looks at it."""

    def convert(self, *args: object, **kwargs: object) -> Image.Image:
        raise SystemExit


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_thread_that_has_ended(manager: ModelManager, caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(manager)
    assert engine.trouble is None
    blocker = drawing(engine.submit(GenerateRequest(**{**SINGLE, "steps": 100})))
    deadly = engine.submit(GenerateRequest(task="variation", references=(Reference(image=EndsTheThread()),)))
    waiting = engine.submit(GenerateRequest(**SINGLE))
    blocker.cancel()
    for job in (deadly, waiting):
        with pytest.raises(InternalError):
            job.result(TIMEOUT_S)
    with pytest.raises(UserError, match="Drawing has stopped working"):
        engine.submit(GenerateRequest(**SINGLE))
    assert str(engine.trouble).startswith("Drawing has stopped working")
    assert "please start the app again" in caplog.text
    engine.close()


def test_the_log_follows_a_request_by_its_number_and_never_says_what_it_asked_for(
    own_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        job = own_engine.submit(GenerateRequest(task="mix", prompt="my secret", negative_prompt="hidden", steps=1))
        job.result(TIMEOUT_S)
        own_engine.close()
    lines = [record.getMessage() for record in caplog.records if job.id in record.getMessage()]
    assert [line.split(": ")[1].split(" ")[0] for line in lines] == ["mix", "it", "done."]
    assert "secret" not in caplog.text
    assert "hidden" not in caplog.text


def test_numbers_for_an_operator(manager: ModelManager) -> None:
    engine, other = Engine(manager, limits=Limits(each=1)), Engine(manager)
    blocker = drawing(engine.submit(GenerateRequest(**{**SINGLE, "steps": 100}), visitor="a"))
    engine.submit(GenerateRequest(**SINGLE), visitor="a")
    with pytest.raises(UserError, match="You already have 1 request waiting"):
        engine.submit(GenerateRequest(**SINGLE), visitor="a")
    text = engine.metrics.text().decode()
    assert "ipa_waiting 1.0" in text
    assert "ipa_drawing 1.0" in text
    assert 'ipa_refused_total{reason="engine.busy_with_yours"} 1.0' in text
    assert "ipa_waiting 0.0" in other.metrics.text().decode(), "each engine has its own"
    blocker.cancel()
    engine.close()
    text = engine.metrics.text().decode()
    assert 'ipa_requests_total{outcome="stopped"}' in text
    assert 'ipa_phase_seconds_count{phase="denoising"}' in text
    for name in ("memory_bytes", "threads", "open_files"):
        assert float(text.split(f"\nipa_{name} ")[1].split()[0]) > 0
    other.close()


def test_numbers_while_pytorch_is_being_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    monkeypatch.setitem(sys.modules, "torch.cuda", ModuleType("torch.cuda"))
    assert b"ipa_device_memory_bytes 0.0" in Metrics().text()
