"""What a page has under way: one thing at a time, which can be stopped from its start."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from ipa_app.engine.job import Job
from ipa_app.engine.series import Series
from ipa_app.errors import UserError
from ipa_app.models.entry import AdapterEntry
from ipa_app.models.loaded import ResidentAdapters
from ipa_app.ui import running
from ipa_app.ui.orders import SERIES
from ipa_app.ui.results import Turn
from ipa_app.ui.running import Runner
from tests.engine.conftest import noise_picture
from tests.seen import text_of
from tests.ui.page_parts import Opened, inputs_after


@pytest.fixture
def entered(page: Opened, tmp_path: Path) -> dict[str, Any]:
    parts, _ = page
    noise_picture(3).save(tmp_path / "reference.png")
    first, settings = parts.panel.references.slots[0].image, parts.settings.inputs
    update = {first: str(tmp_path / "reference.png"), settings["count"]: 1, settings["steps"]: 2}
    return {**inputs_after(parts, "variation", update), "turn": Turn()}


@pytest.fixture
def submitted(page: Opened, monkeypatch: pytest.MonkeyPatch) -> list[Job | Series]:
    """All jobs and series that were put into the engine's queue."""
    jobs: list[Job | Series] = []
    _, studio = page

    def noted(submit: Callable[..., Job | Series], *args: Any, **kwargs: Any) -> Job | Series:
        jobs.append(submit(*args, **kwargs))
        return jobs[-1]

    for name in ("submit", "submit_series"):
        monkeypatch.setattr(studio.engine, name, partial(noted, getattr(studio.engine, name)))
    return jobs


def test_stop_counts_while_the_pictures_are_still_being_read(
    runner: Runner, entered: dict[str, Any], submitted: list[Job | Series], monkeypatch: pytest.MonkeyPatch
) -> None:
    build = running.build_request

    def slow(*args: Any) -> Any:
        runner.stop(entered["turn"])
        return build(*args)

    monkeypatch.setattr(running, "build_request", slow)
    *_, last = runner.run("variation")(**{**entered, "steps": 100})
    assert "Stopped." in last[runner.results.status]
    assert all(job.done for job in submitted)
    monkeypatch.setattr(running, "build_request", build)
    *_, last = runner.run("variation")(**entered)
    assert len(last[runner.results.gallery]["value"]) == 1


def test_what_is_pressed_while_something_begins_begins_nothing(
    runner: Runner, entered: dict[str, Any], submitted: list[Job | Series]
) -> None:
    first = runner.run("variation")(**entered)
    assert next(first)[runner.stop_buttons[0]]["interactive"]
    assert list(runner.run("variation", SERIES["scale-strip"])(**entered)) == [{runner.results.running: gr.skip()}]
    for update in first:
        if runner.results.gallery in update:
            break
    assert len(submitted) == 1
    # The page has been told that the job is over, but the generator that said so has not finished.
    *_, last = runner.run("variation")(**entered)
    assert (len(submitted), len(last[runner.results.gallery]["value"])) == (2, 1)
    first.close()  # type: ignore[attr-defined]
    begun = runner.run("variation")(**entered)
    next(begun)
    assert len(list(runner.run("variation")(**entered))) == 1


def test_whoever_goes_away_or_fails_leaves_the_next_one_free(runner: Runner, entered: dict[str, Any]) -> None:
    left = runner.run("variation")(**entered)
    next(left)
    left.close()  # type: ignore[attr-defined]
    with pytest.raises(gr.Error):
        list(runner.run("variation")(**{**entered, "reference": None}))
    *_, last = runner.run("variation")(**entered)
    assert len(last[runner.results.gallery]["value"]) == 1


def test_a_number_of_pictures_that_was_emptied_is_what_the_page_opens_with(
    page: Opened, runner: Runner, entered: dict[str, Any]
) -> None:
    parts, _ = page
    *_, last = runner.run("variation")(**{**entered, "count": None})
    assert len(last[parts.results.shown]) == parts.settings.inputs["count"].value == 4


def test_a_series_shows_what_came_and_names_what_failed(
    runner: Runner, entered: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    get = ResidentAdapters.get

    def refused(resident: ResidentAdapters, adapter: AdapterEntry) -> Any:
        if adapter.name == "fine":
            raise UserError.plain("The file is damaged.")
        return get(resident, adapter)

    monkeypatch.setattr(ResidentAdapters, "get", refused)
    *_, last = runner.run("variation", SERIES["both-adapters"])(**entered, compared=["base", "fine"])
    ((_, caption),) = last[runner.results.gallery]["value"]
    assert caption == "Base"
    assert not last[runner.results.compared]["visible"]
    told = text_of(last[runner.results.status])
    assert "One picture in" in told
    assert "Fine-grained could not be drawn: The file is damaged." in told
    assert last[runner.results.running] == ""
