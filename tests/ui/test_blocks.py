"""What the page says of itself to the browser and to programs."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import gradio as gr
import httpx
import pytest
from gradio.queueing import Queue
from gradio_client import Client, handle_file
from PIL import Image

from ipa_app.engine.tasks import TASKS
from ipa_app.ui.blocks import StudioBlocks
from ipa_app.ui.pictures import keep_picture
from tests.engine.conftest import TIMEOUT_S
from tests.ui.serving import served_page


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
    assert looks[49] - looks[0] > 0.4  # Gradio alone takes a twentieth of a second


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
