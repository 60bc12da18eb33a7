"""A job outlives the page that started it, long enough for the page to be reloaded."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from ipa_app.engine.queue import Limits
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import GenerateResult
from ipa_app.errors import UserError
from ipa_app.ui import running
from ipa_app.ui import studio as studio_module
from ipa_app.ui.orders import SERIES
from ipa_app.ui.running import Runner
from ipa_app.ui.studio import MOST_FOLLOWERS, Studio
from tests.engine.conftest import noise_picture
from tests.seen import text_of
from tests.ui.page_parts import Opened, inputs_after
from tests.waiting import until


@pytest.fixture
def entered(page: Opened, tmp_path: Path) -> dict[str, Any]:
    parts, _ = page
    noise_picture(3).save(tmp_path / "reference.png")
    update = {
        parts.panel.references.slots[0].image: str(tmp_path / "reference.png"),
        parts.settings.inputs["steps"]: 30,
    }
    return inputs_after(parts, "variation", update)


def left_while_running(runner: Runner, updates: Iterator[dict[Any, Any]]) -> dict[str, Any]:
    """Leave the page at the first progress; return what the browser keeps."""
    kept = None
    for update in updates:
        kept = update.get(runner.results.running) or kept
        if kept and runner.results.status in update:
            break
    updates.close()  # type: ignore[attr-defined]
    assert kept
    return json.loads(kept)


def test_the_page_that_is_loaded_anew_gets_the_pictures(page: Opened, runner: Runner, entered: dict[str, Any]) -> None:
    kept = left_while_running(runner, runner.run("variation")(**entered))
    page[1]._jobs[kept["job"]].began -= 1000
    first, *_, last = runner.resume(kept, [])
    assert first[runner.stop_buttons[0]]["interactive"]
    assert len(last[runner.results.gallery]["value"]) == entered["count"]
    assert last[runner.results.running] == ""
    (seconds,) = re.findall(r"in ([\d.]+) seconds", text_of(last[runner.results.status]))
    assert 1000 < float(seconds) < 1200, "since it was asked for, not since the page was loaded anew"


@pytest.mark.parametrize("name", [None, "scale-strip"])
def test_the_time_that_the_page_is_away_for_after_the_end_does_not_count(
    page: Opened, runner: Runner, entered: dict[str, Any], name: str | None
) -> None:
    kept = left_while_running(runner, runner.run("variation", SERIES[name] if name else None)(**entered))
    running = page[1]._jobs[kept["job"]]
    until(lambda: running.job.done)
    passed = time.monotonic()
    time.sleep(2)
    *_, last = runner.resume(kept, [])
    (seconds,) = re.findall(r"in ([\d.]+) seconds", text_of(last[runner.results.status]))
    assert float(seconds) < passed - running.began + 0.1


def test_a_series_comes_back_as_one(runner: Runner, entered: dict[str, Any]) -> None:
    kept = left_while_running(runner, runner.run("variation", SERIES["scale-strip"])(**entered))
    *_, last = runner.resume(kept, [])
    assert [caption for _, caption in last[runner.results.gallery]["value"]] == ["0", "0.25", "0.5", "0.75", "1"]


def stopped(studio: Studio) -> list[str]:
    """Return the metrics' count of stopped requests, as its lines of text."""
    lines = studio.engine.metrics.text().decode().splitlines()
    return [line for line in lines if line.startswith('ipa_requests_total{outcome="stopped"}')]


def test_whoever_comes_back_soon_finds_the_job_going_on_though_others_wait(
    page: Opened, runner: Runner, entered: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studio_module, "_RELOADED_S", 3600.0)  # long enough for a busy machine
    before = stopped(page[1])
    kept = left_while_running(runner, runner.run("variation")(**{**entered, "count": 1}))
    other = page[1].submit(GenerateRequest(task="mix", prompt="a cat", steps=1))
    *_, last = runner.resume(kept, [])
    assert last[runner.results.gallery]["value"]
    assert stopped(page[1]) == before
    list(page[1].follow(other))


def test_what_was_left_lets_others_pass_and_is_begun_anew_for_who_comes_back(
    page: Opened, runner: Runner, entered: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studio_module, "_RELOADED_S", 0.0)
    entered = {**entered, "steps": 100, "count": 2, "seed": 7}
    *_, undisturbed = runner.run("variation")(**entered)
    kept = left_while_running(runner, runner.run("variation")(**entered))
    studio, before = page[1], stopped(page[1])
    *_, other = studio.follow(studio.submit(GenerateRequest(task="mix", prompt="a cat", steps=1)))
    assert isinstance(other, GenerateResult)
    assert stopped(studio) != before
    *_, last = runner.resume(kept, [])
    pictures = [
        [Path(path).read_bytes() for path, _ in each[runner.results.gallery]["value"]] for each in (undisturbed, last)
    ]
    assert pictures[0] == pictures[1]


def test_what_was_taken_once_is_not_turned_away_where_the_queue_is_full_by_then(
    page: Opened, runner: Runner, entered: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = page[1]
    monkeypatch.setattr(studio_module, "_RELOADED_S", 0.0)
    kept = left_while_running(runner, runner.run("variation")(**{**entered, "count": 1}))
    monkeypatch.setattr(studio.engine._waiting, "_limits", Limits(total=1))
    long = GenerateRequest(task="mix", prompt="a cat", steps=100, count=8)
    drawn = studio.submit(long)
    until(lambda: studio._jobs[kept["job"]].job.done and not len(studio.engine._waiting))
    waiting = studio.submit(long)
    updates = runner.resume(kept, [])
    assert runner.results.running in [next(updates), next(updates)][1]
    studio.cancel(waiting)
    studio.cancel(drawn)
    *_, last = updates
    assert len(last[runner.results.gallery]["value"]) == 1


def test_what_was_left_goes_on_where_only_a_live_picture_waits(
    page: Opened, runner: Runner, entered: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studio_module, "_RELOADED_S", 0.0)
    before = stopped(page[1])
    kept = left_while_running(runner, runner.run("variation")(**{**entered, "steps": 100}))
    live = page[1].submit(GenerateRequest(task="mix", prompt="a cat", steps=1), live=True)
    *_, last = runner.resume(kept, [])
    assert last[runner.results.gallery]["value"]
    assert stopped(page[1]) == before
    page[1].cancel(live)


def test_a_job_that_nobody_comes_back_for_is_stopped(
    page: Opened, runner: Runner, entered: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_PATIENCE", 0.2)
    kept = left_while_running(runner, runner.run("variation")(**{**entered, "steps": 100, "count": 8}))
    until(lambda: not page[1].knows(kept["job"]))
    assert list(runner.resume(kept, [])) == [{runner.results.running: gr.skip()}]


@pytest.mark.parametrize("kept", [None, {}, {"job": "no such job"}, {"job": 3, "series": []}, "text"])
def test_what_a_browser_made_up_or_does_not_have_changes_nothing(runner: Runner, kept: Any) -> None:
    """Not even what the browser keeps: by the time this arrives, a job may have begun."""
    assert list(runner.resume(kept, [])) == [{runner.results.running: gr.skip()}]


def test_a_job_of_another_tab_is_left_to_it_until_that_is_closed(
    runner: Runner, entered: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_CLOSING_S", 0.1)
    updates = runner.run("variation")(**{**entered, "steps": 100, "count": 1})
    kept = next(json.loads(each[runner.results.running]) for each in updates if runner.results.running in each)
    kept["elsewhere"] = True
    next(updates)
    assert list(runner.resume(kept, [])) == [{runner.results.running: gr.skip()}]
    updates.close()  # type: ignore[attr-defined]
    *_, last = runner.resume(kept, [])
    assert len(last[runner.results.gallery]["value"]) == 1


def test_no_more_than_a_few_follow_one_job(page: Opened, runner: Runner, entered: dict[str, Any]) -> None:
    """A browser may ask for the same job any number of times, and each time takes a place from other visitors."""
    updates = runner.run("variation")(**{**entered, "steps": 100, "count": 1})
    kept = next(json.loads(each[runner.results.running]) for each in updates if runner.results.running in each)
    followers = [runner.resume(kept, []) for _ in range(MOST_FOLLOWERS - 1)]
    for follower in followers:
        assert runner.results.running in [next(follower), next(follower)][1]
    assert list(runner.resume(kept, [])) == [{runner.results.running: gr.skip()}]
    with pytest.raises(UserError, match="close one of them"), page[1].following(kept["job"]):
        pass
    followers.pop().close()  # type: ignore[attr-defined]
    *_, last = runner.resume(kept, [])
    assert len(last[runner.results.gallery]["value"]) == 1
    for follower in (updates, *followers):
        *_, last = follower
        assert len(last[runner.results.gallery]["value"]) == 1
