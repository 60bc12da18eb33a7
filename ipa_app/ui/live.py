"""Live mode: changing the strength, by mouse or by keyboard, draws again, on the seed of the last picture."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ipa_app.imaging.png import read_settings
from ipa_app.ui.controls import AT_ONCE, CHECKED
from ipa_app.ui.extras import connect_drawing
from ipa_app.ui.parts import Parts
from ipa_app.ui.running import Runner
from ipa_app.ui.studio import Studio

Update = dict[Any, Any]

_SCRIPT = Path(__file__).with_name("live.js")


def connect_live(parts: Parts, *, runner: Runner) -> None:
    """Connect the strength's slider.

    Changing it hands a ticket to the tab that is open; the ticket's change is what draws, so that only that tab's
    inputs are sent.
    """
    task = gr.State(parts.tabs[0].task)
    tickets = {tab.task: gr.State(None) for tab in parts.tabs}
    seed = gr.State(-1)
    for tab in parts.tabs:
        tab.tab.select(_constant(tab.task), None, task, **AT_ONCE)
        connect_drawing(parts, tickets[tab.task].change, tab=tab, runner=runner, instead={"seed": seed})

    def redraw(live: bool, scale: Any, task: str, job: str | None, shown: Sequence[str]) -> Any:
        last = seed_to_redraw(shown, scale=scale) if live else None
        if last is None:
            return gr.skip()
        _make_way(runner.studio, job)
        return {tickets[task]: uuid.uuid4().hex, seed: last}

    # A strength out of range goes on to the request, which says so in the app's own words.
    _watch().release(
        redraw,
        [parts.panel.live, parts.panel.scale, task, parts.results.job, parts.results.shown],
        [*tickets.values(), seed],
        preprocess=False,
        trigger_mode="always_last",
        **CHECKED,
    )


def seed_to_redraw(shown: Sequence[str], *, scale: Any) -> int | None:
    """The seed of the first of the pictures shown.

    None where there is none yet, where it has been cleared away, where it already has this strength, and where the
    strength is no number, because the box it is typed in is empty.
    """
    settings = read_settings(shown[0]) if shown else None
    if settings is None or settings.get("scale") == scale or not isinstance(scale, int | float):
        return None
    seed = settings.get("seed")
    return seed if isinstance(seed, int) else None


def _watch() -> gr.HTML:
    """Lay out what nobody sees: its `release` says that somebody has set the strength."""
    return gr.HTML("", js_on_load=_SCRIPT.read_text(encoding="utf-8"), visible="hidden", elem_id="live-watch")


def _make_way(studio: Studio, job: str | None) -> None:
    """Stop what is still being drawn, and wait until its own handler has said so on the page."""
    studio.cancel(job)
    studio.wait_until_over(job)


def _constant(value: str) -> Callable[[], str]:
    return lambda: value
