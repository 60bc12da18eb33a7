"""The operator's requests to a running app, and how it shuts down."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from gradio_client import Client
from gradio_client.client import Job as ClientJob

from ipa_app.engine.engine import Engine
from ipa_app.errors import UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.runtime import BUILD_LOCK
from ipa_app.ui.operations import operator_routes
from tests.engine.conftest import TIMEOUT_S
from tests.ui.serving import WatchedEngine, served_engine
from tests.ui.test_giving_up import SHORT
from tests.waiting import until

ROOT = Path(__file__).parents[2]


def test_a_process_that_can_draw_is_healthy_until_it_closes(served_app: tuple[str, WatchedEngine]) -> None:
    url, engine = served_app
    engine.manager.get("toybox", TIMEOUT_S)
    answer = httpx.get(f"{url}healthz")
    assert (answer.status_code, answer.text) == (200, "This process can draw.")
    other = Engine(engine.manager)
    (route, _) = operator_routes(other, model="toybox")
    other.close()
    assert route.path == "/healthz"
    closing = route.endpoint(None)
    assert closing.status_code == 503
    assert closing.body.decode() == "The app is shutting down; please try again in a minute."


def test_a_process_whose_models_cannot_be_loaded_is_not_healthy(tiny_bundle_dir: Path) -> None:
    with served_engine(tiny_bundle_dir, device="cuda:99") as (url, engine):
        with pytest.raises(UserError) as failed:
            engine.manager.get("toybox", TIMEOUT_S)
        answer = httpx.get(f"{url}healthz")
        assert (answer.status_code, answer.text) == (503, str(failed.value))
    assert "IPA_DEVICE is cuda:99, which this computer does not have" in answer.text


def test_one_whose_first_model_is_still_being_loaded_says_so(tiny_bundle_dir: Path) -> None:
    with BUILD_LOCK, served_engine(tiny_bundle_dir) as (url, engine):
        answer = httpx.get(f"{url}healthz")
        title = engine.manager.entry("toybox").title
        assert (answer.status_code, answer.text) == (200, f"{title} is being loaded; requests wait for it.")


def test_one_that_draws_with_another_model_is_healthy(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    other = entry_from_folder(tiny_bundle_dir, name="other")
    with served_engine(broken, others=[other]) as (url, engine):
        with pytest.raises(UserError):
            engine.manager.get("toybox", TIMEOUT_S)
        assert httpx.get(f"{url}healthz").status_code == 503
        engine.manager.get("other", TIMEOUT_S)
        assert httpx.get(f"{url}healthz").status_code == 200


def test_numbers_are_counted(served_app: tuple[str, WatchedEngine]) -> None:
    url, _ = served_app
    Client(url, verbose=False).predict(api_name="/mix", **SHORT)
    # Its pictures arrive a moment before it is counted.
    until(lambda: 'ipa_requests_total{outcome="done"}' in httpx.get(f"{url}metrics").text)
    assert "ipa_waiting 0.0" in httpx.get(f"{url}metrics").text


def test_sessions_are_visitors_and_calls_without_one_are_by_address(served_app: tuple[str, WatchedEngine]) -> None:
    url, engine = served_app
    before = len(engine.jobs)
    for client in [Client(url, verbose=False)] * 2 + [Client(url, verbose=False)]:
        client.predict(api_name="/mix", **SHORT)
    for _ in range(2):
        call = httpx.post(f"{url}gradio_api/call/v2/mix", json=SHORT, timeout=TIMEOUT_S).raise_for_status().json()
        httpx.get(f"{url}gradio_api/call/v2/mix/{call['event_id']}", timeout=TIMEOUT_S).raise_for_status()
    one, same, other, address, same_address = (job.visitor for job in engine.jobs[before:])
    assert one == same != other
    assert address == same_address == "address 127.0.0.1"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextmanager
def running_app(
    bundle: Path, temporary: Path, *, library: Path | None = None
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `python app.py` over a tiny model, and yield once it can draw; it has no library unless one is given."""
    port = free_port()
    environment = {
        **os.environ,
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(temporary),
        "IPA_MODELS": str(bundle),
        "IPA_HUB_MODELS": "",
        "IPA_DEVICE": "cpu",
        "IPA_EXACT": "1",
        "IPA_LIBRARY": "" if library is None else str(library),
    }
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    lines: list[str] = []
    serving, waiting = threading.Event(), threading.Event()
    reader = threading.Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True)
    reader.start()
    url = f"http://127.0.0.1:{port}/"
    try:
        while process.poll() is None and not serving.is_set():
            try:
                httpx.get(f"{url}healthz").raise_for_status()
                serving.set()
            except httpx.HTTPError:
                waiting.wait(0.2)
        assert process.poll() is None, "".join(lines)
        yield url, process
    finally:
        process.kill()
        process.wait()


def settings_of(model: Path, temporary: Path, **settings: str) -> dict[str, str]:
    """The environment of an app over a tiny model, with these settings."""
    return {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "GRADIO_SERVER_PORT": str(free_port()),
        "GRADIO_TEMP_DIR": str(temporary),
        "IPA_MODELS": str(model),
        "IPA_HUB_MODELS": "",
        "IPA_DEVICE": "cpu",
        "IPA_LIBRARY": "",
        **settings,
    }


def ended_at_once(model: Path, temporary: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run an app that cannot be served, with these settings, until it exits."""
    environment = settings_of(model, temporary, **settings)
    command = [sys.executable, "app.py"]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert ended.returncode == 1
    return ended


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"GRADIO_SERVER_PORT": "abc"}, "GRADIO_SERVER_PORT is 'abc'; it must be a whole number of at least 1."),
        (
            {"GRADIO_SERVER_NAME": "nonsense.invalid"},
            "GRADIO_SERVER_NAME is 'nonsense.invalid', which is not an address of this computer: please name one, use "
            "0.0.0.0 for all of them, or leave it unset to accept connections from this computer only.",
        ),
        (
            {"GRADIO_SERVER_NAME": "[::1]"},
            "GRADIO_SERVER_NAME is '[::1]', which is an IPv6 address, but Gradio listens on IPv4 only: please name an "
            "IPv4 address of this computer, use 0.0.0.0 for all of them, or leave it unset to accept connections from "
            "this computer only.",
        ),
        (
            {"GRADIO_ROOT_PATH": "studio"},
            "GRADIO_ROOT_PATH is 'studio'; it must be a path that begins with /, as /studio does, or a whole address, "
            "as https://example.org/studio is.",
        ),
        (
            {"IPA_LIBRARY": "~nobody-of-that-name/x"},
            "IPA_LIBRARY is '~nobody-of-that-name/x', but there is no home folder for it to start from.",
        ),
        (
            {"GRADIO_TEMP_DIR": "~nobody-of-that-name/x"},
            "GRADIO_TEMP_DIR is '~nobody-of-that-name/x', but there is no home folder for it to start from.",
        ),
    ],
    ids=["port", "name", "IPv6", "root path", "library", "temporary folder"],
)
def test_a_setting_that_cannot_be_ends_the_start_with_a_sentence(
    tiny_bundle_dir: Path, tmp_path: Path, settings: dict[str, str], told: str
) -> None:
    ended = ended_at_once(tiny_bundle_dir, tmp_path, **settings)
    assert ended.stderr.splitlines()[-1] == told
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_a_port_that_is_taken_ends_the_start_with_a_sentence(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = ended_at_once(tiny_bundle_dir, tmp_path, GRADIO_SERVER_PORT=str(port))
    assert ended.stderr.splitlines()[-1] == (
        f"Port {port}, set by GRADIO_SERVER_PORT, is not available: please check whether another program uses it, or "
        "choose another port."
    )
    assert "Running on" not in ended.stdout


def heeds_sigterm(process: subprocess.Popen[str]) -> bool:
    """Whether a process has a handler for SIGTERM, without which the first one of a container never hears of it."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says which signals a process handles")
def test_a_process_that_is_told_to_end_while_it_starts_ends(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    environment = settings_of(tiny_bundle_dir, tmp_path)
    command = [sys.executable, "app.py"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: heeds_sigterm(process))
            process.terminate()
            assert process.wait(TIMEOUT_S) == 0
            assert "Running on" not in process.communicate()[0]
        finally:
            process.kill()


@pytest.mark.slow
def test_an_empty_setting_is_none(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    empty = dict.fromkeys(("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "GRADIO_TEMP_DIR", "GRADIO_ROOT_PATH"), "")
    environment = settings_of(tiny_bundle_dir, tmp_path, **empty)
    command = [sys.executable, "app.py"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert "http://127.0.0.1:" in process.stdout.readline()
        finally:
            process.kill()


def begun(job: ClientJob) -> ClientJob:
    waiting = threading.Event()
    while not job.status().progress_data and not job.done():
        waiting.wait(0.05)
    return job


@pytest.mark.slow
def test_a_process_that_is_told_to_end_finishes_what_it_draws_and_tells_those_who_wait(
    tiny_bundle_dir: Path, tmp_path: Path
) -> None:
    with running_app(tiny_bundle_dir, tmp_path) as (url, process):
        order = {"model": tiny_bundle_dir.name, "prompt": "a cat", "steps": 100, "count": 2, "seed": 1}
        # An unreferenced client is closed.
        clients = [Client(url, verbose=False, download_files=str(tmp_path)) for _ in range(2)]
        first, waiting = (begun(client.submit(api_name="/mix", **order)) for client in clients)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(Exception, match="The app is shutting down; please try again in a minute"):
            waiting.result(TIMEOUT_S)
        assert first.result(TIMEOUT_S)[1]["seeds"] == [1, 2]
        assert process.wait(TIMEOUT_S) == 0, clients
