"""Requests that are refused before they reach Gradio, and those that must not be."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ipa_app.pose.skeleton import MOST_PEOPLE
from ipa_app.ui import gate, uploads
from ipa_app.ui.allowance import Allowance
from ipa_app.ui.gate import Gate
from tests.engine.conftest import TIMEOUT_S
from tests.ui.serving import served
from tests.waiting import until

LIMIT = 200_000
Disk = namedtuple("Disk", ["total", "used", "free"])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set low limits."""
    for name in ("LARGEST_BODY", "LARGEST_UPLOADS", "_LOOK_EVERY"):
        monkeypatch.setattr(gate, name, LIMIT)
    monkeypatch.setattr(gate, "_FRAMING", 0)
    monkeypatch.setattr(gate, "largest_added", lambda: LIMIT)


def pieces(count: int) -> Iterator[bytes]:
    """Yield a body in chunks, so that no header gives its length."""
    for _ in range(count):
        yield b"x" * 50_000


def multipart(count: int) -> Iterator[bytes]:
    yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    yield from pieces(count)
    yield b"\r\n--b--\r\n"


def upload(url: str, count: int) -> httpx.Response:
    headers = {"content-type": "multipart/form-data; boundary=b"}
    return httpx.post(f"{url}gradio_api/upload", content=multipart(count), headers=headers, timeout=TIMEOUT_S)


def uploaded_files() -> set[Path]:
    return {path for path in Path(uploads.get_upload_folder()).rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "component_server"),
        ("POST", "component_server/"),
        ("POST", "process_recording"),
        ("POST", "stream/1"),
        ("POST", "stream/1/close"),
        ("GET", "stream/1/1/1/playlist.m3u8"),
        ("POST", "vibe-edit/"),
        ("POST", "vibe-code"),
        ("POST", "vibe-starter-queries"),
        ("GET", "deep_link?session_hash=a"),
        ("GET", "file=http://127.0.0.1:1/a.png"),
        ("GET", "file/https://127.0.0.1:1/a.png"),
        ("GET", "proxy=http://127.0.0.1:1/a.png"),
        ("GET", "../monitoring/summary"),
    ],
)
def test_what_the_page_never_asks_for_is_not_there(app_url: str, method: str, path: str) -> None:
    answer = httpx.request(method, f"{app_url}gradio_api/{path}", timeout=TIMEOUT_S)
    assert answer.status_code == 404
    assert "The app does not offer this" in answer.text


def test_no_painting_area_has_to_send_its_strokes_beside_the_queue(app_url: str) -> None:
    config = httpx.get(f"{app_url}config", timeout=TIMEOUT_S).json()
    editors = {each["id"] for each in config["components"] if each["type"] == "imageeditor"}
    heard = {(part, event) for each in config["dependencies"] for part, event in each["targets"] if part in editors}
    assert editors
    # An editor with such a listener would send its pictures by a route that is not served.
    assert not {event for _, event in heard} & {"change", "input"}


@pytest.mark.parametrize("path", ["queue/join", "call/mix", "run/mix", "cancel"])
@pytest.mark.usefixtures("small")
def test_a_body_without_an_end_is_refused(app_url: str, path: str) -> None:
    headers = {"content-type": "application/json"}
    for content in (pieces(20), b"x" * 20 * 50_000):
        answer = httpx.post(f"{app_url}gradio_api/{path}", content=content, headers=headers, timeout=TIMEOUT_S)
        assert answer.status_code == 413
        assert answer.json() == {
            "error": "What was sent is too large: it may be at most 200 kB; please send pictures as uploads."
        }


@pytest.mark.parametrize("path", ["queue/join", "call/mix", "call/v2/mix", "run/models"])
def test_a_body_of_very_many_values_is_refused_before_they_are_made(app_url: str, path: str) -> None:
    for values in ("[]," * gate.MOST_VALUES, "0," * gate.MOST_VALUES, '{"a":0},' * (gate.MOST_VALUES // 2)):
        answer = httpx.post(f"{app_url}gradio_api/{path}", content=f'{{"data": [{values} 0]}}', timeout=TIMEOUT_S)
        assert answer.status_code == 413
        assert answer.json() == {"error": "What was sent is too large: it may hold at most 50,000 values."}


def test_the_largest_skeleton_is_taken(app_url: str) -> None:
    points = [1234.5678901234567] * 3
    person = {"pose_keypoints_2d": points * 18, "face_keypoints_2d": points * 70, "hand_left_keypoints_2d": points * 42}
    skeleton = json.dumps({"people": [person] * MOST_PEOPLE, "canvas_width": 2048, "canvas_height": 2048})
    answer = httpx.post(f"{app_url}gradio_api/run/models", json={"data": [skeleton]}, timeout=TIMEOUT_S)
    assert "One value too many" in answer.text


def test_a_call_of_the_usual_size_is_taken(app_url: str) -> None:
    answer = httpx.post(f"{app_url}gradio_api/call/v2/mix", content=pieces(19), timeout=TIMEOUT_S)
    assert answer.status_code == 422


@pytest.mark.usefixtures("small")
def test_uploads_that_are_too_large_together_are_refused_and_leave_nothing(app_url: str) -> None:
    before = uploaded_files()
    answer = upload(app_url, 20)
    assert answer.status_code == 413
    assert answer.text == (
        "These files are too large together: they may be at most 200 kB; please upload fewer at once."
    )
    files = [("files", (f"{number}.png", b"x" * 90_000)) for number in range(3)]
    assert httpx.post(f"{app_url}gradio_api/upload", files=files, timeout=TIMEOUT_S).status_code == 413
    assert uploaded_files() == before


def test_an_address_uploads_so_much_an_hour(monkeypatch: pytest.MonkeyPatch, tiny_bundle_dir: Path) -> None:
    monkeypatch.setenv("IPA_UPLOAD_MEGABYTES", "1")
    with served(tiny_bundle_dir, server_name="0.0.0.0") as address:
        url = f"http://127.0.0.1:{httpx.URL(address).port}/"
        before = uploaded_files()
        assert [upload(url, count).status_code for count in (9, 9)] == [200, 200]
        kept = uploaded_files()
        answer = upload(url, 9)  # in chunks
        assert answer.status_code == 429
        assert answer.text == (
            "1 MB have been uploaded from your network address within an hour, which is the limit: "
            "please try again later."
        )
        files = [("files", ("a.png", b"x" * 900_000))]
        assert httpx.post(f"{url}gradio_api/upload", files=files, timeout=TIMEOUT_S).status_code == 429
        assert uploaded_files() == kept >= before


def test_who_has_the_app_for_themselves_uploads_as_much_as_they_like(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle_dir: Path
) -> None:
    monkeypatch.setenv("IPA_UPLOAD_MEGABYTES", "1")
    with served(tiny_bundle_dir) as url:
        assert [upload(url, 18).status_code for _ in range(3)] == [200, 200, 200]


def test_an_upload_ends_where_the_room_does(monkeypatch: pytest.MonkeyPatch, app_url: str) -> None:
    left = iter([10**9, 10**8])  # others use it up meanwhile
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda _: Disk(10**10, 0, next(left, 10**8)))
    before = uploaded_files()
    answer = upload(app_url, 60)
    assert answer.status_code == 507
    assert answer.text == "The app's disk is full: please make room there, then try again."
    assert uploaded_files() == before


def test_an_upload_that_is_broken_off_leaves_nothing(app_url: str) -> None:
    before, url = uploaded_files(), httpx.URL(app_url)
    head = "POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n"
    with socket.create_connection((url.host, url.port)) as sending:
        sending.sendall(f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode())
        for piece in multipart(20):
            sending.sendall(piece[:50_000] if piece.startswith(b"x") else piece.replace(b"\r\n--b--\r\n", b""))
        until(lambda: uploaded_files() != before)
    until(lambda: uploaded_files() == before)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "localhost.evil.example", "evil@localhost.x"])
def test_a_name_that_somebody_led_here_is_not_answered_to(app_url: str, host: str) -> None:
    for path in ("", "config", "gradio_api/info"):
        answer = httpx.get(f"{app_url}{path}", headers={"host": host}, timeout=TIMEOUT_S)
        assert answer.status_code == 403
        assert "please open it as localhost" in answer.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:7860", "127.0.0.1:1", "[::1]:7860", "192.168.0.7:7860"])
def test_names_and_addresses_of_this_machine_are_answered_to(app_url: str, host: str) -> None:
    assert httpx.get(f"{app_url}config", headers={"host": host}, timeout=TIMEOUT_S).status_code == 200


def test_names_that_the_operator_gives_are_answered_to(monkeypatch: pytest.MonkeyPatch, tiny_bundle_dir: Path) -> None:
    monkeypatch.setenv("IPA_HOSTS", "studio.example, other.example")
    with served(tiny_bundle_dir) as url:
        answers = [httpx.get(url, headers={"host": name}) for name in ("studio.example", "other.example:80", "third")]
    assert [answer.status_code for answer in answers] == [200, 200, 403]


def test_who_lets_others_come_is_called_by_any_name(tiny_bundle_dir: Path) -> None:
    with served(tiny_bundle_dir, server_name="0.0.0.0") as url:
        port = httpx.URL(url).port
        answer = httpx.get(f"http://127.0.0.1:{port}/config", headers={"host": "studio.example"})
    assert answer.status_code == 200


FOREIGN = {"origin": "https://evil.example"}


@pytest.mark.parametrize(
    ("headers", "is_taken"),
    [
        ({}, True),
        ({"origin": "http://127.0.0.1:7860"}, True),
        ({"origin": "http://localhost:3000"}, True),
        ({"origin": "null"}, False),
        (FOREIGN, False),
        ({**FOREIGN, "sec-fetch-site": "cross-site"}, False),
        ({**FOREIGN, "x-forwarded-host": "studio.example"}, False),
        # Proxies: one forwards the host by which the page was reached; with another, the browser reports same-origin.
        ({"origin": "https://studio.example", "x-forwarded-host": "a.example, studio.example:443"}, True),
        ({"origin": "https://studio.example", "sec-fetch-site": "same-origin"}, True),
    ],
)
def test_pages_of_others_send_nothing(app_url: str, headers: dict[str, str], is_taken: bool) -> None:
    call = {"session_hash": "a", "fn_index": 0, "event_id": "none"}
    answer = httpx.post(f"{app_url}gradio_api/cancel", json=call, headers=headers, timeout=TIMEOUT_S)
    assert (answer.status_code != 403) is is_taken
    if not is_taken:
        assert "sent by another site's page" in answer.json()["error"]
    # GET requests are left to Gradio's own rules.
    assert httpx.get(f"{app_url}config", headers=headers, timeout=TIMEOUT_S).status_code == 200


def test_what_is_answered_in_parts_is_passed_on_in_parts() -> None:
    sent: list[Any] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for number in range(3):
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
            assert len(sent) == number + 1

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps({}).encode()}

    async def send(event: Any) -> None:
        sent.append(event)

    page = type("Page", (), {"root_path": "", "server_name": "127.0.0.1", "share": False})
    served_by = type("App", (), {"get_blocks": staticmethod(lambda: page)})
    scope = {"type": "http", "method": "POST", "path": "/x", "headers": [(b"host", b"localhost")], "app": served_by}
    asyncio.run(Gate(app, environment={}, allowance=Allowance(LIMIT))(scope, receive, send))
    assert len(sent) == 3
