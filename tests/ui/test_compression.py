"""What the server sends is compressed where that helps, without delaying any part of it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import httpx
import pytest

from ipa_app.ui.blocks import StudioBlocks
from tests.engine.conftest import TIMEOUT_S
from tests.ui.serving import served_page

GZIP = {"Accept-Encoding": "gzip"}


class Gate:
    """An endpoint that yields a word, and the next one only once it is released."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def words(self) -> Iterator[str]:
        yield "first"
        assert self.opened.wait(TIMEOUT_S)
        yield "second"


@pytest.fixture
def gate() -> Iterator[tuple[str, Gate]]:
    gate = Gate()
    with StudioBlocks(analytics_enabled=False) as page:
        gr.Button().click(gate.words, None, gr.Textbox(), api_name="words")
    with served_page(page) as url:
        yield url, gate
        gate.opened.set()


@pytest.mark.parametrize("path", ["", "config"])
def test_the_page_and_its_configuration_are_compressed(app_url: str, path: str) -> None:
    with httpx.stream("GET", f"{app_url}{path}", headers=GZIP, timeout=TIMEOUT_S) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        text = answer.read()
        assert answer.num_bytes_downloaded < len(text) / 4
    plain = httpx.get(f"{app_url}{path}", headers={"Accept-Encoding": "identity"}, timeout=TIMEOUT_S)
    assert "content-encoding" not in plain.headers
    assert plain.content == text


def test_events_arrive_one_by_one(gate: tuple[str, Gate]) -> None:
    url, words = gate
    call = f"{url}gradio_api/call/words"
    event = httpx.post(call, json={"data": []}, timeout=TIMEOUT_S).json()["event_id"]
    with httpx.stream("GET", f"{call}/{event}", headers=GZIP, timeout=TIMEOUT_S) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = (line for line in answer.iter_lines() if line.startswith("data:"))
        assert next(lines) == 'data: ["first"]'
        words.opened.set()
        assert next(lines) == 'data: ["second"]'


def test_a_result_comes_as_the_very_file_that_was_written(app_url: str) -> None:
    call = f"{app_url}gradio_api/call/v2/mix"
    event = httpx.post(call, json={"prompt": "a cat", "steps": 1}, timeout=TIMEOUT_S).json()["event_id"]
    told = httpx.get(f"{app_url}gradio_api/call/mix/{event}", timeout=TIMEOUT_S).text
    ((made,), _) = json.loads(re.findall("event: complete\ndata: (.*)", told)[0])
    answer = httpx.get(made["url"], headers=GZIP, timeout=TIMEOUT_S)
    assert "content-encoding" not in answer.headers
    assert answer.headers["content-type"] == "image/png"
    assert answer.content == Path(made["path"]).read_bytes()


def test_a_script_is_compressed_and_kept_by_browsers(app_url: str) -> None:
    script = re.findall(r'src="\./(assets/index-[^"]+\.js)"', httpx.get(app_url, timeout=TIMEOUT_S).text)[0]
    with httpx.stream("GET", f"{app_url}{script}", headers={"Accept-Encoding": "br"}, timeout=TIMEOUT_S) as answer:
        assert answer.headers["content-encoding"] == "br"
        assert answer.headers["content-type"].startswith("text/javascript")
        assert "immutable" in answer.headers["cache-control"]
        text = answer.read()
        assert answer.num_bytes_downloaded < len(text) / 2
    for encoding in ("gzip", "identity"):
        other = httpx.get(f"{app_url}{script}", headers={"Accept-Encoding": encoding}, timeout=TIMEOUT_S)
        assert (other.headers.get("content-encoding", "identity"), other.content) == (encoding, text)
    for name in ("gone.js", "..%2Findex.html", "%00"):
        assert httpx.get(f"{app_url}assets/{name}", timeout=TIMEOUT_S).status_code in (403, 404)
