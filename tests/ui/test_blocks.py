"""What the page tells the browser and programs about itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio.queueing import Queue
from gradio_client import Client, handle_file
from PIL import Image

from ipa_app.engine.tasks import TASKS
from ipa_app.ui.blocks import StudioBlocks
from ipa_app.ui.operations import _wait_until_told
from ipa_app.ui.pictures import keep_picture
from tests.engine.conftest import TIMEOUT_S
from tests.ui.serving import served_page
from tests.waiting import until

Slow = tuple[StudioBlocks, str, threading.Event]


@pytest.fixture
def slow() -> Iterator[Slow]:
    """A page with one endpoint, the address of its calls, and an event that lets them end."""
    may_end = threading.Event()

    def wait(words: str) -> str:
        may_end.wait(TIMEOUT_S)
        return words

    with StudioBlocks(analytics_enabled=False) as page:
        words = gr.Textbox(label="Words")
        words.change(wait, words, words, api_name="wait", concurrency_limit=None)
    with served_page(page) as url:
        yield page, f"{url}gradio_api/call/wait", may_end
        may_end.set()


def post(call: str) -> str:
    answer = httpx.post(call, json={"data": ["a cat"]}, timeout=TIMEOUT_S).raise_for_status()
    return f"{call}/{answer.json()['event_id']}"


def hang_up(call: str) -> None:
    """Begin to fetch a result, and close the connection once the answer has begun."""
    with httpx.stream("GET", call, timeout=TIMEOUT_S) as answer:
        answer.raise_for_status()


def test_nothing_is_kept_of_calls_that_are_over(slow: Slow) -> None:
    page, call, may_end = slow
    given_up, fetched = post(call), post(call)
    hang_up(given_up)
    may_end.set()
    assert "event: complete" in httpx.get(fetched, timeout=TIMEOUT_S).text
    assert "event: complete" in httpx.get(post(call), timeout=TIMEOUT_S).text
    # The latest may be there until the next one ends.
    until(lambda: len(page._queue.pending_event_ids_session) <= 1)
    until(lambda: not page._queue.event_ids_to_events)


def test_what_was_given_up_cannot_be_waited_for_and_is_not_waited_for(
    slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, call, may_end = slow
    given_up = post(call)
    hang_up(given_up)
    until(lambda: not page._knows(given_up.rpartition("/")[2]))
    assert httpx.get(given_up, timeout=TIMEOUT_S).status_code == 404
    assert "There is no call" in httpx.get(given_up, timeout=TIMEOUT_S).json()["error"]
    monkeypatch.setattr("ipa_app.ui.operations._FETCHING_S", 0)
    monkeypatch.setattr("ipa_app.ui.operations._TELLING_S", TIMEOUT_S)
    began = time.monotonic()
    _wait_until_told(page)
    assert time.monotonic() - began < TIMEOUT_S
    may_end.set()


def test_whose_hanging_up_gradio_sees_before_it_is_cancelled_is_not_waited_for_either(slow: Slow) -> None:
    page, call, may_end = slow
    name = post(call).rpartition("/")[2]
    assert page.is_awaited
    # In that case the messages of the session stay.
    page._queue.event_ids_to_events[name].alive = False
    assert not page.is_awaited
    may_end.set()


def test_what_was_not_fetched_yet_is_waited_for_and_can_be_fetched(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    page, call, may_end = slow
    posted = post(call)
    may_end.set()
    until(lambda: not page._queue.event_ids_to_events)
    monkeypatch.setattr("ipa_app.ui.operations._FETCHING_S", 0)
    monkeypatch.setattr("ipa_app.ui.operations._TELLING_S", 0.5)
    began = time.monotonic()
    _wait_until_told(page)
    assert time.monotonic() - began >= 0.5
    assert "event: complete" in httpx.get(posted, timeout=TIMEOUT_S).text
    assert httpx.get(posted, timeout=TIMEOUT_S).status_code == 404


def test_only_what_programs_can_send_or_get_is_described(app_url: str) -> None:
    config = httpx.get(f"{app_url}config", timeout=TIMEOUT_S).json()
    described = {component["id"] for component in config["components"] if "api_info" in component}
    public = [each for each in config["dependencies"] if each["api_visibility"] == "public"]
    assert described == {block for each in public for block in (*each["inputs"], *each["outputs"])}
    assert len(public) == len(TASKS) + 1


def test_where_no_progress_is_shown_no_component_is_asked_for_what_it_holds(app_url: str) -> None:
    config = httpx.get(f"{app_url}config", timeout=TIMEOUT_S).json()
    hidden = [each for each in config["dependencies"] if each["show_progress"] == "hidden"]
    assert hidden
    assert all(each["show_progress_on"] == [] for each in hidden)


def test_a_page_that_nobody_uses_leaves_the_processor_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with StudioBlocks(analytics_enabled=False) as page:
        gr.Textbox(label="Words")
    looks, is_enough = [], threading.Event()
    length = Queue.__len__

    def counted(queue: Queue) -> int:
        if queue is page._queue:
            looks.append(time.monotonic())
            if len(looks) == 50:
                is_enough.set()
        return length(queue)

    monkeypatch.setattr(Queue, "__len__", counted)
    with served_page(page):
        assert is_enough.wait(TIMEOUT_S)
    assert looks[49] - looks[0] > 0.4  # Gradio's own loop takes a twentieth of a second for these


def test_of_a_session_that_asks_for_it_all_files_that_come_and_go_are_known(tmp_path: Path) -> None:
    made: list[str] = []

    def make(_sent: object) -> str:
        made.append(keep_picture(Image.new("RGB", (8, 8), (len(made), 0, 0))))
        return made[-1]

    def known(files: set[str] | None) -> list[str] | None:
        return None if files is None else sorted(Path(file).name for file in files)

    with StudioBlocks(analytics_enabled=False) as page:
        page.files_of_session = gr.State(None)
        sent, shown, told = gr.File(), gr.Image(format="png"), gr.JSON()
        pressed, hidden = gr.Button().click, {"api_visibility": "undocumented"}
        pressed(set, None, page.files_of_session, api_name="begin", **hidden)
        pressed(make, sent, shown, preprocess=False, api_name="make", **hidden)
        pressed(known, page.files_of_session, told, api_name="known", **hidden)
    with served_page(page) as url:
        visitor, other = (Client(url, verbose=False, download_files=str(tmp_path)) for _ in range(2))
        visitor.predict(api_name="/begin")
        for name in ("first.png", "second.png"):
            Image.new("RGB", (8, 8)).save(tmp_path / name)
            for client in (visitor, other):
                client.predict(handle_file(tmp_path / name), api_name="/make")
        assert visitor.predict(api_name="/known") == ["first.png", "image.png", "image.png", "second.png"]
        assert other.predict(api_name="/known") is None


@pytest.mark.parametrize("sent", [None, "x", {"path": 3}, [[1]], {"points": 1, "x": "\x00"}])
def test_what_no_page_sends_is_refused_in_a_sentence_without_a_traceback(
    sent: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with StudioBlocks(analytics_enabled=False) as page:
        gallery, number, text = gr.Gallery(), gr.Slider(0, 1), gr.Textbox()
        hidden: Any = {"api_visibility": "undocumented"}

        def taken(*values: object) -> str:
            return str(values)

        def told(event: gr.EventData) -> str:
            return event.name

        gallery.change(taken, [gallery, number], text, api_name="taking", **hidden)
        text.select(told, None, text, api_name="telling", **hidden)
    with served_page(page) as url:
        for name, data in (("taking", [sent, sent]), ("telling", [])):
            body = {"data": data, "event_data": sent if name == "telling" and not isinstance(sent, dict) else None}
            answer = httpx.post(f"{url}gradio_api/run/{name}", json=body, timeout=TIMEOUT_S)
            assert "does not fit this page" in answer.json()["error"]
    assert "Traceback" not in caplog.text
    lines = [record.getMessage() for record in caplog.records if record.name == "ipa_app.ui.blocks"]
    assert [line.partition(" is not understood")[0] for line in lines] == ["A call of taken", "A call of told"]
