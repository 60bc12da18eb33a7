"""A job nobody waits for ends at the next step, however it was given up, and does not hold up others."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client
from gradio_client.client import Job as ClientJob
from gradio_client.utils import Status

from ipa_app.engine.job import Job
from ipa_app.engine.results import Progress
from ipa_app.errors import Cancelled
from ipa_app.runtime import BUILD_LOCK
from tests.engine.conftest import TIMEOUT_S, drawing
from tests.ui.serving import WatchedEngine, served_engine
from tests.ui.test_api import PROMISED, REQUIRED

# About sixteen seconds of drawing, in eight hundred steps.
LONG = {"prompt": "a cat", "steps": 100, "count": 8, "seed": 1}
SHORT = {"prompt": "a dog", "steps": 1, "seed": 2}

Served = tuple[str, WatchedEngine]


@pytest.fixture
def client(served_app: Served) -> Client:
    return Client(served_app[0], verbose=False)


def submitted(engine: WatchedEngine, before: int, count: int = 1) -> list[Job]:
    """Wait until the engine has `count` jobs beyond the first `before`, and return those."""
    waiting = threading.Event()
    while len(engine.jobs) < before + count:
        waiting.wait(0.02)
    return engine.jobs[before:]


def values(**given: Any) -> list[Any]:
    """Return the values a plain call of /mix sends."""
    return [{**PROMISED["/mix"], **given}[name] for name in PROMISED["/mix"] if given.get(name) is not REQUIRED]


def begun(client: Client) -> ClientJob:
    """Begin a long call and return it once it has an event id: before that, cancelling does not reach the server."""
    call = client.submit(api_name="/mix", **LONG)
    waiting = threading.Event()
    while call.status().code is Status.STARTING:
        waiting.wait(0.02)
    return call


def by_cancelling(url: str) -> Callable[[], Any]:
    return begun(Client(url, verbose=False)).cancel


def sent(url: str, call: str, body: str = "") -> Callable[[], Any]:
    """Send a request without waiting for the response head, which may come late; return a function that hangs up."""
    connection = socket.create_connection((httpx.URL(url).host, httpx.URL(url).port or 80))
    head = f"{call} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    return connection.close


def by_hanging_up(url: str) -> Callable[[], Any]:
    """Make the usual two requests, and return a function that closes the second's connection."""
    event = httpx.post(f"{url}gradio_api/call/mix", json={"data": values(**LONG)}).json()["event_id"]
    return sent(url, f"GET /gradio_api/call/mix/{event}")


def by_hanging_up_on_a_direct_call(url: str) -> Callable[[], Any]:
    return sent(url, "POST /gradio_api/run/mix", json.dumps({"data": values(**LONG)}))


@pytest.fixture(params=[by_cancelling, by_hanging_up, by_hanging_up_on_a_direct_call])
def begin(request: pytest.FixtureRequest) -> Callable[[str], Callable[[], Any]]:
    """A function that begins a long call and returns a function that gives it up."""
    return request.param


def test_what_is_given_up_while_it_is_drawn_ends_at_the_next_step(
    served_app: Served, client: Client, begin: Callable[[str], Callable[[], Any]]
) -> None:
    url, engine = served_app
    before = len(engine.jobs)
    give_up = begin(url)
    (job,) = submitted(engine, before)
    drawing(job)
    give_up()
    with pytest.raises(Cancelled):
        job.result(TIMEOUT_S)
    assert client.predict(api_name="/mix", **SHORT)[0]


def test_what_is_given_up_while_it_waits_leaves_the_queue(
    served_app: Served, begin: Callable[[str], Callable[[], Any]]
) -> None:
    url, engine = served_app
    before = len(engine.jobs)
    stop_first = by_cancelling(url)
    (first,) = submitted(engine, before)
    drawing(first)
    give_up = begin(url)
    second = submitted(engine, before, 2)[1]
    give_up()
    with pytest.raises(Cancelled):
        second.result(TIMEOUT_S)
    assert not first.done
    stop_first()
    with pytest.raises(Cancelled):
        first.result(TIMEOUT_S)


def test_what_is_given_up_while_its_model_is_loaded_ends(tiny_bundle_dir: Path) -> None:
    # Holding the build lock keeps the model loading for as long as the test needs.
    with BUILD_LOCK, served_engine(tiny_bundle_dir) as (url, engine):
        give_up = by_hanging_up(url)
        (job,) = submitted(engine, 0)
        next(event for event in job.events() if isinstance(event, Progress) and event.phase == "loading")
        give_up()
        with pytest.raises(Cancelled):
            job.result(TIMEOUT_S)


def test_cancelling_one_of_two_calls_leaves_the_other(served_app: Served, client: Client) -> None:
    engine = served_app[1]
    before = len(engine.jobs)
    given_up = begun(client)
    (job,) = submitted(engine, before)
    drawing(job)
    kept = client.submit(api_name="/mix", **SHORT)
    submitted(engine, before, 2)
    given_up.cancel()
    files, settings = kept.result(timeout=TIMEOUT_S)
    assert len(files) == 1
    assert settings["seeds"] == [2]
    with pytest.raises(Cancelled):
        job.result(TIMEOUT_S)
    # The client still works.
    assert client.predict(api_name="/mix", **SHORT)[1]["seeds"] == [2]


def tab_that_generates(url: str) -> httpx.Client:
    """Return a tab of the page in which Generate was pressed with words alone; closing the client closes the tab."""
    config = httpx.get(f"{url}config").json()
    components = {each["id"]: each["props"] for each in config["components"]}
    button = next(key for key, props in components.items() if props.get("elem_id") == "mix-generate")
    pressed = next(
        each for each in config["dependencies"] if [button, "click"] in each["targets"] and len(each["inputs"]) > 10
    )
    entered = {"mix-prompt": LONG["prompt"], "steps": LONG["steps"], "count": LONG["count"]}
    data = [entered.get(components[key].get("elem_id"), components[key].get("value")) for key in pressed["inputs"]]
    tab = httpx.Client(params={"session_hash": "tab"}, timeout=TIMEOUT_S)
    sent = {"data": data, "fn_index": pressed["id"], "session_hash": "tab", "trigger_id": button}
    tab.post(f"{url}gradio_api/queue/join", json=sent).raise_for_status()
    tab.send(tab.build_request("GET", f"{url}gradio_api/queue/data"), stream=True)
    return tab


def test_a_closed_tab_keeps_nobody_waiting(served_app: Served, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipa_app.ui.studio._RELOADED_S", 0.0)
    url, engine = served_app
    before = len(engine.jobs)
    tab = tab_that_generates(url)
    (job,) = submitted(engine, before)
    drawing(job)
    tab.close()
    assert client.predict(api_name="/mix", **SHORT)[0]
    with pytest.raises(Cancelled):
        job.result(TIMEOUT_S)
