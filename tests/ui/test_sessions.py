"""The data kept for visitors does not grow with their number."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from threading import Event

import gradio as gr
import httpx
import pytest
from gradio.state_holder import StateHolder
from gradio_client import Client

from ipa_app.ui.blocks import StudioBlocks
from ipa_app.ui.sessions import Sessions
from tests.engine.conftest import TIMEOUT_S
from tests.ui.serving import served_page
from tests.waiting import until


@pytest.fixture
def gone() -> list[str]:
    """The states of sessions that were dropped."""
    return []


@pytest.fixture
def sessions(gone: list[str]) -> tuple[Sessions, gr.State]:
    """Sessions with room for three, and a state."""
    with StudioBlocks(analytics_enabled=False) as page:
        state = gr.State("", delete_callback=gone.append)
        gr.Textbox("a text")
    page.state_session_capacity = 3
    held = Sessions()
    held.set_blocks(page)
    return held, state


@pytest.fixture
def visit(sessions: tuple[Sessions, gr.State]) -> Callable[[str], object]:
    held, state = sessions

    def visit(name: str) -> object:
        session = held[name]
        value = session[state._id]
        session[state._id] = name
        return value

    return visit


def test_a_session_keeps_its_states(visit: Callable[[str], object]) -> None:
    assert [visit("a"), visit("b"), visit("a")] == ["", "", "a"]


def test_where_there_are_too_many_the_least_used_goes_and_its_states_are_told(
    sessions: tuple[Sessions, gr.State], visit: Callable[[str], object], gone: list[str]
) -> None:
    for name in ("a", "b", "c", "a", "d", "e"):
        visit(name)
    assert gone == ["b", "c"]
    assert list(sessions[0].session_data) == ["a", "d", "e"]


def test_one_whose_page_is_closed_goes_first(
    sessions: tuple[Sessions, gr.State], visit: Callable[[str], object], gone: list[str]
) -> None:
    for name in ("a", "b", "c"):
        visit(name)
    sessions[0]["c"].is_closed = True
    visit("d")
    assert gone == ["c"]


def test_one_that_holds_nothing_goes_before_all_others(
    sessions: tuple[Sessions, gr.State], visit: Callable[[str], object], gone: list[str]
) -> None:
    visit("a")
    sessions[0]["empty"]
    visit("b")
    visit("c")
    assert gone == []
    assert list(sessions[0].session_data) == ["a", "b", "c"]


def test_an_open_page_keeps_its_states_whatever_names_are_made_up() -> None:
    gone: list[str] = []
    with StudioBlocks(analytics_enabled=False) as page:
        text, state = gr.Textbox("a text"), gr.State("", delete_callback=gone.append)
        gr.Button().click(lambda text, state: (state, text), [text, state], [text, state], api_name="remember")

    def said_before(url: str, text: str, session: str) -> str:
        call = {"data": [text, None], "session_hash": session}
        answer = httpx.post(f"{url}gradio_api/run/remember", json=call, timeout=TIMEOUT_S)
        return answer.raise_for_status().json()["data"][0]

    with served_page(page, state_session_capacity=3) as url:
        beats = [f"{url}gradio_api/heartbeat/{name}" for name in ("a", "b", "c", "d")]
        with ExitStack() as pages:
            for name, beat in zip("abcd", beats, strict=True):
                pages.enter_context(httpx.stream("GET", beat, timeout=TIMEOUT_S))
                said_before(url, name, name)
            assert gone == ["a"]  # pages are dropped as well: there is no room for four
            for number in range(20):
                said_before(url, "x", f"made up {number}")
            assert set(gone) == {"a", "x"}
            assert [said_before(url, "again", name) for name in "bcd"] == ["b", "c", "d"]
        until(lambda: said_before(url, "y", "other") and "again" in gone)


def test_who_only_calls_holds_nothing_and_goes_before_whoever_left_a_state() -> None:
    gone: list[str] = []
    with StudioBlocks(analytics_enabled=False) as page:
        text, state = gr.Textbox("a text"), gr.State("", delete_callback=gone.append)
        page.files_of_session = gr.State(None)
        gr.Button().click(lambda text: text, text, state, api_name="remember")
        gr.Button().click(lambda text: text, text, text, api_name="repeat")

    with served_page(page, state_session_capacity=3) as url:
        for session, name in (("visitor", "remember"), *((f"program {number}", "repeat") for number in range(6))):
            call = {"data": ["a word"], "session_hash": session}
            httpx.post(f"{url}gradio_api/run/{name}", json=call, timeout=TIMEOUT_S).raise_for_status()
        assert gone == []


def test_a_page_that_comes_back_is_open_again(
    sessions: tuple[Sessions, gr.State], visit: Callable[[str], object], gone: list[str]
) -> None:
    visit("a")
    sessions[0]["a"].is_closed = True
    with sessions[0].open("a"):
        for name in ("b", "c", "d"):
            visit(name)
    assert gone == ["b"]


def test_components_are_not_described_for_each_session(sessions: tuple[Sessions, gr.State]) -> None:
    assert list(sessions[0]["a"].components) == []
    by_gradio = StateHolder()
    by_gradio.set_blocks(sessions[0].blocks)
    # So that an upgrade of Gradio shows whether there is still anything to leave out.
    assert list(by_gradio["a"].components)


def test_calls_and_pages_of_a_served_app_have_such_sessions() -> None:
    with StudioBlocks(analytics_enabled=False) as page:
        text = gr.Textbox("a text")
        gr.Button().click(str.upper, text, text, api_name="upper")
    with served_page(page) as url:
        client = Client(url, verbose=False)
        assert [client.predict(word, api_name="/upper") for word in ("a", "b")] == ["A", "B"]
        assert page.app.state_holder is page.state_holder
        sessions = page.state_holder.session_data.values()
        assert [list(session.components) for session in sessions] == [[]]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "run/models"),
        ("POST", "call/models"),
        ("POST", "call/v2/models"),
        ("POST", "queue/join"),
        ("GET", "queue/data?session_hash={}"),
        ("GET", "heartbeat/{}"),
        ("GET", "upload_progress?upload_id={}"),
        ("POST", "upload?upload_id={}"),
    ],
)
def test_names_without_an_end_are_refused_and_not_kept(app_url: str, method: str, path: str) -> None:
    name, url = "a" * 65, f"{app_url}gradio_api/{path}"
    call = {"data": [], "fn_index": 0, "session_hash": name} if method == "POST" and "upload" not in path else None
    answer = httpx.request(method, url.format(name), json=call, timeout=TIMEOUT_S)
    assert answer.status_code == 422
    asked_for = "upload_id" if "upload" in path else "session_hash"
    assert answer.json()["error"] == f"{asked_for} has 65 characters; it may have at most 64."


@pytest.mark.parametrize("path", ["heartbeat/{}", "upload_progress?upload_id={}"])
@pytest.mark.parametrize("name", ["%0a", "a%00b", "%7F"])
def test_names_with_line_breaks_or_the_like_are_refused(
    app_url: str, path: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = httpx.get(f"{app_url}gradio_api/{path}".format(name), timeout=TIMEOUT_S)
    assert answer.status_code == 422
    assert answer.json()["error"].endswith(" may only have characters that can be printed.")
    assert caplog.text == ""


def test_who_waits_for_messages_of_no_session_is_told_so_and_nothing_has_failed(
    app_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = httpx.get(f"{app_url}gradio_api/queue/data?session_hash=made-up", timeout=TIMEOUT_S)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    (line,) = answer.text.splitlines()[::2]
    told = json.loads(line.removeprefix("data: "))
    assert (told["msg"], told["session_not_found"]) == ("unexpected_error", True)
    assert caplog.text == ""


def test_a_session_that_ends_while_two_wait_for_its_messages_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    may_end = Event()
    with StudioBlocks(analytics_enabled=False) as page:
        text = gr.Textbox("a text")
        gr.Button().click(lambda text: may_end.wait(TIMEOUT_S) and text, text, text, api_name="wait")
    with served_page(page) as url, ExitStack() as lines:
        call = {"data": [""], "fn_index": 0, "session_hash": "left"}
        httpx.post(f"{url}gradio_api/queue/join", json=call, timeout=TIMEOUT_S).raise_for_status()
        for _ in range(2):
            asked = httpx.stream("GET", f"{url}gradio_api/queue/data?session_hash=left", timeout=TIMEOUT_S)
            lines.enter_context(asked)
        lines.close()
        until(lambda: "left" not in page._queue.pending_messages_per_session)
        may_end.set()
    assert caplog.text == ""


def test_names_of_the_usual_length_are_taken(app_url: str) -> None:
    call = {"data": [], "session_hash": "a" * 64}
    assert httpx.post(f"{app_url}gradio_api/run/models", json=call, timeout=TIMEOUT_S).status_code == 200


def test_pages_of_the_app_say_that_they_are_open(app_url: str) -> None:
    """Gradio's page holds a connection open for its session only if told to, and only then counts as open."""
    assert httpx.get(f"{app_url}config", timeout=TIMEOUT_S).json()["connect_heartbeat"]
