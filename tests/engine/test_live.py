"""Live requests: a visitor's newest one replaces the one before, and nobody else waits for any of them."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import Cancelled
from ipa_app.models.catalog import BUNDLED, entry_from_folder
from ipa_app.models.manager import ModelManager
from tests.engine.conftest import TIMEOUT_S, Generate, drawing, pixels
from tests.engine.test_turns import MANY, SINGLE, Ended

LIVE = {"task": "mix", "prompt": "a fox", "seed": 3, "steps": 60}


def test_the_newest_replaces_what_waits_and_what_is_drawn(own_engine: Engine, generate: Generate) -> None:
    blocker = drawing(own_engine.submit(GenerateRequest(**MANY), visitor="b"))
    waiting = [
        own_engine.submit(GenerateRequest(**{**LIVE, "seed": seed}), visitor="a", live=True) for seed in range(9)
    ]
    assert [job.done for job in waiting] == [True] * 8 + [False]
    blocker.cancel()
    newest = own_engine.submit(GenerateRequest(**LIVE), visitor="a", live=True)
    drawing(newest)
    last = own_engine.submit(GenerateRequest(**{**LIVE, "prompt": "a frog"}), visitor="a", live=True)
    for overtaken in (*waiting, newest):
        with pytest.raises(Cancelled):
            overtaken.result(TIMEOUT_S)
    assert pixels(last.result(TIMEOUT_S)) == pixels(generate(**{**LIVE, "prompt": "a frog"}))


def test_a_live_picture_gives_way_to_others_and_is_the_same_afterwards(
    own_engine: Engine, generate: Generate, caplog: pytest.LogCaptureFixture
) -> None:
    wish = {**LIVE, "steps": 100}
    with caplog.at_level(logging.INFO):
        live = drawing(own_engine.submit(GenerateRequest(**wish), visitor="a", live=True))
        single = own_engine.submit(GenerateRequest(**SINGLE), visitor="b")
        for job in (single, live):
            job.result(TIMEOUT_S)
        own_engine.close()  # so that everything has been logged
    names = {live.id: "live", single.id: "single"}
    lines = [record.getMessage().removeprefix("Request ").split(": ") for record in caplog.records]
    told = [(names[job], what) for job, what in lines if job in names and "waits" not in what]
    turn, done = "it is its turn.", "done."
    assert told == [("live", turn), ("single", turn), ("single", done), ("live", turn), ("live", done)]
    assert pixels(live.result()) == pixels(generate(**wish))


def test_others_wait_for_no_live_picture_however_many_are_asked_for(own_engine: Engine) -> None:
    ended = Ended()
    blocker = drawing(own_engine.submit(GenerateRequest(**MANY), visitor="b"))
    for number in range(20):
        ended.watch("live", own_engine.submit(GenerateRequest(**{**LIVE, "seed": number}), visitor="a", live=True))
    many = own_engine.submit(GenerateRequest(**{**MANY, "steps": 2, "count": 3}), visitor="c")
    ended.watch("many", many)
    blocker.cancel()
    many.result(TIMEOUT_S)
    # Nineteen of the live requests were replaced.
    assert ended.wait(21)[:20] == ["live"] * 19 + ["many"]


def test_a_live_picture_is_in_no_batch_with_others(own_engine: Engine) -> None:
    blocker = drawing(own_engine.submit(GenerateRequest(**LIVE), visitor="b"))
    live = own_engine.submit(GenerateRequest(**LIVE), visitor="a", live=True)
    assert own_engine.companions(blocker, room=3) == []
    blocker.cancel()
    assert live.result(TIMEOUT_S).images


def test_two_live_visitors_each_get_their_own(own_engine: Engine, generate: Generate) -> None:
    wishes = {"a": {**LIVE, "steps": 3}, "b": {**LIVE, "steps": 3, "prompt": "a frog"}}
    for _ in range(3):
        jobs = {who: own_engine.submit(GenerateRequest(**wish), visitor=who, live=True) for who, wish in wishes.items()}
        for who, job in jobs.items():
            assert pixels(job.result(TIMEOUT_S)) == pixels(generate(**wishes[who]))


@pytest.mark.slow
def test_with_more_steps_a_picture_of_a_seed_looks_alike() -> None:
    engine = Engine(ModelManager({"toybox": entry_from_folder(BUNDLED, name="toybox")}, "cpu"))

    def drawn(**given: int) -> np.ndarray:
        request = GenerateRequest(task="mix", prompt="a blue bear on the beach", **{"seed": 3, **given})
        return np.asarray(engine.submit(request).result(TIMEOUT_S).images[0], float)

    try:
        live, kept, another = drawn(), drawn(steps=12), drawn(seed=4)
    finally:
        engine.close()
    assert np.abs(live - kept).mean() < np.abs(live - another).mean() / 2


def test_a_live_picture_that_gave_way_can_be_stopped(own_engine: Engine) -> None:
    live = drawing(own_engine.submit(GenerateRequest(**{**LIVE, "steps": 100}), visitor="a", live=True))
    blocker = drawing(own_engine.submit(GenerateRequest(**{**SINGLE, "steps": 100}), visitor="b"))
    assert not live.done
    live.cancel()
    with pytest.raises(Cancelled):
        live.result(TIMEOUT_S)
    assert not blocker.done
    blocker.cancel()
