"""Hand-written calls, such as no client sends, are understood or answered in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.engine.conftest import TIMEOUT_S
from tests.ui.promised_api import LAST, NEWEST, PROMISED


@pytest.mark.parametrize("number", [99999, -1])
def test_a_number_that_no_function_has_is_said_to_be_none(app_url: str, number: int) -> None:
    call = {"data": [], "fn_index": number, "session_hash": "numbers"}
    for path in ("queue/join", "run/predict"):
        answer = httpx.post(f"{app_url}gradio_api/{path}", json=call, timeout=TIMEOUT_S)
        assert (answer.status_code, answer.json()["error"]) == (404, f"There is no function {number} to call.")


@pytest.mark.parametrize("number", [0, 99999])
def test_a_path_that_names_an_endpoint_leads_there_whatever_number_is_sent(app_url: str, number: int) -> None:
    answer = httpx.post(f"{app_url}gradio_api/run/models", json={"data": [], "fn_index": number}, timeout=TIMEOUT_S)
    assert "toybox" in answer.json()["data"][0]


@pytest.mark.parametrize("odd", [{"url": 5}, {"mime_type": 5}, {"size": "large"}, {"orig_name": 5}, {"is_stream": 5}])
def test_of_a_file_its_path_is_enough_whatever_else_is_said(
    app_url: str, pictures: dict[str, str], odd: dict[str, object]
) -> None:
    files = {"files": Path(pictures["plain.png"]).read_bytes()}
    (path,) = httpx.post(f"{app_url}gradio_api/upload", files=files).json()
    call = {**PROMISED["/variation"], "reference": {"path": path, **odd}, "steps": 1}
    answer = httpx.post(f"{app_url}gradio_api/run/variation", json={"data": list(call.values())}, timeout=TIMEOUT_S)
    assert answer.status_code == 200, answer.text


def test_an_upload_of_a_files_name_is_said_to_hold_no_file(app_url: str) -> None:
    for fields in ({"files": (None, "my_toy.png")}, {"file": ("my_toy.png", b"a picture")}):
        answer = httpx.post(f"{app_url}gradio_api/upload", files=fields)
        assert answer.status_code == 422
        assert "-F files=@my_toy.png" in answer.json()["error"]


@pytest.mark.parametrize(
    ("name", "body", "status", "told"),
    [
        ("mix", "{}", 422, "prompt is missing"),
        ("mix", '{"prompt": "a cat", "cfg": 3}', 422, "There is no parameter 'cfg'"),
        ("mix", "a cat", 422, "A call must be a JSON object"),
        ("paint", '{"prompt": "a cat"}', 404, "There is no endpoint 'paint'"),
        ("mix", '{"prompt": "a cat", "scale": 9}', 200, None),
    ],
)
def test_a_call_by_names_that_cannot_be_understood_fails_at_the_first_step(
    app_url: str, name: str, body: str, status: int, told: str | None
) -> None:
    """docs/api.md promises these statuses; any other failure comes as an event at the second step."""
    answer = httpx.post(
        f"{app_url}gradio_api/call/v2/{name}", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == status
    if told:
        assert answer.json()["error"].startswith(told)
    else:
        address = f"{app_url}gradio_api/call/v2/{name}/{answer.json()['event_id']}"
        assert "event: error" in httpx.get(address, timeout=60).text


def test_scale_nan_is_refused(app_url: str) -> None:
    added_later = [0, 1, "crop", 0.5, 0.5, None, None, 1, *LAST.values(), "", "best", *NEWEST.values()]
    values = json.dumps(["a cat", None, "base", float("nan"), "", 1, -1, 0, 0, 0, 0, "toybox", *added_later])
    call = f"{app_url}gradio_api/call/mix"
    event = httpx.post(call, content=f'{{"data": {values}}}', headers={"content-type": "application/json"}).json()
    answer = httpx.get(f"{call}/{event['event_id']}", timeout=60).text
    assert "event: error" in answer
    assert "nan" in answer


@pytest.mark.parametrize("path", ["/etc/hostname", "secret" * 50, "/" + "secret/" * 700, "secret\0", "secret\ud800"])
def test_a_path_that_was_never_uploaded_is_refused(app_url: str, path: str, caplog: pytest.LogCaptureFixture) -> None:
    stolen = {"path": path, "meta": {"_type": "gradio.FileData"}}
    call = f"{app_url}gradio_api/call/variation"
    values = [*{**PROMISED["/variation"], "reference": stolen}.values()]
    body = json.dumps({"data": values})  # allows a lone surrogate, which httpx cannot encode
    event = httpx.post(call, content=body, headers={"content-type": "application/json"}).json()
    answer = httpx.get(f"{call}/{event['event_id']}", timeout=60).text
    assert "reference is a file that was not uploaded here" in answer
    assert "secret" not in caplog.text
