"""What a press of a button that draws does at once, before the server answers."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import Any

import gradio as gr
import pytest

from ipa_app.ui.controls import Update
from ipa_app.ui.running import Runner
from tests.browser.hands import IN_SIGHT, press, rest, slow_line

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SENDING = "document.querySelector('#status').innerText.startsWith('Sending')"


@pytest.mark.parametrize("button", ["#variation-generate", "#variation-scale-strip"])
def test_a_press_goes_to_the_progress_while_it_draws(open_page: Any, shoot: Any, may_end: Event, button: str) -> None:
    page = open_page(width=390, height=844, touch=True)
    page.set_default_timeout(20_000)
    assert not page.evaluate(IN_SIGHT, "#status")
    page.evaluate("button => document.querySelector(button).click()", button)
    page.wait_for_function(IN_SIGHT, arg="#status", timeout=10_000)
    page.wait_for_timeout(6000)  # longer than anything is kept in sight for its own sake
    may_end.set()
    page.wait_for_selector("#status .ipa-done")
    page.wait_for_function("document.querySelector('#status').getBoundingClientRect().bottom < innerHeight / 2")
    shoot(page)


@pytest.mark.parametrize("button", ["#variation-generate", "#more-like-this"])
def test_over_a_slow_line_a_press_is_seen_to_be_noticed(open_page: Any, shoot: Any, button: str) -> None:
    page = open_page()
    page.fill("#count input[type=number]", "1")
    press(page, "#variation-generate")
    rest(page)
    slow_line(page, latency_ms=1500)
    page.click(button)
    page.wait_for_function(SENDING, timeout=1000)
    shoot(page)
    for drawing in ("#variation-generate", "#variation-scale-strip", "#more-like-this"):
        assert page.is_disabled(drawing)
    assert page.is_disabled("#variation-stop")
    page.wait_for_selector("#status .ipa-done")
    assert page.is_enabled(button)


def test_what_was_refused_before_it_began_can_be_sent_again(open_page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Iterator[Update]:
        raise gr.Error("It is full.")
        yield

    page = open_page()
    page.fill("#count input[type=number]", "1")
    with monkeypatch.context() as full:
        full.setattr(Runner, "in_turn", refuse)
        page.click("#variation-generate")
        page.wait_for_selector(".toast-body")
        page.wait_for_selector("#variation-generate:enabled")
        assert page.inner_text("#status") == "Ready when you are."
    press(page, "#variation-generate")
