"""What the page says of itself to the browser and to programs."""

from __future__ import annotations

import threading
import time

import gradio as gr
import httpx
import pytest
from gradio.queueing import Queue

from ipa_app.engine.tasks import TASKS
from ipa_app.ui.blocks import StudioBlocks
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
