"""Live mode: letting go of the strength draws again, on the seed of the last picture."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from ipa_app.imaging.png import read_settings
from ipa_app.ui.extras import connect_drawing
from ipa_app.ui.listeners import AT_ONCE, CHECKED
from ipa_app.ui.parts import Parts
from ipa_app.ui.running import Runner
from ipa_app.ui.studio import Studio

Update = dict[Any, Any]


def connect_live(parts: Parts, *, runner: Runner) -> None:
    """Connect the strength's slider.

    Letting go of it hands a ticket to the tab that is open; the ticket's change is what draws, so that only that tab's
    inputs are sent.
    """
    task = gr.State(parts.tabs[0].task)
    tickets = {tab.task: gr.State(None) for tab in parts.tabs}
    seed = gr.State(-1)
    for tab in parts.tabs:
        tab.tab.select(_constant(tab.task), None, task, **AT_ONCE)
        connect_drawing(parts, tickets[tab.task].change, tab=tab, runner=runner, instead={"seed": seed})

    def redraw(live: bool, scale: float, task: str, job: str | None, shown: Sequence[str]) -> Any:
        last = seed_to_redraw(shown, scale=scale) if live else None
        if last is None:
            return gr.skip()
        _make_way(runner.studio, job)
        return {tickets[task]: uuid.uuid4().hex, seed: last}

    parts.panel.scale.release(
        redraw,
        [parts.panel.live, parts.panel.scale, task, parts.results.job, parts.results.shown],
        [*tickets.values(), seed],
        trigger_mode="always_last",
        **CHECKED,
    )


def seed_to_redraw(shown: Sequence[str], *, scale: float) -> int | None:
    """The seed of the first of the pictures shown.

    None where there is none yet, where it has been cleared away, and where it already has this strength: clicks on the
    slider that change nothing count as letting go of it, too.
    """
    settings = read_settings(shown[0]) if shown else None
    if settings is None or settings.get("scale") == scale:
        return None
    seed = settings.get("seed")
    return seed if isinstance(seed, int) else None


def _make_way(studio: Studio, job: str | None) -> None:
    """Stop what is still being drawn, and wait until its own handler has said so on the page."""
    studio.cancel(job)
    studio.wait_until_over(job)


def _constant(value: str) -> Callable[[], str]:
    return lambda: value
