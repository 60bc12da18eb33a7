"""Small pieces of HTML: the model's state in the header, and the line that says what is being done."""

from __future__ import annotations

import html
from collections.abc import Iterable

from ipa_app.engine.results import Progress
from ipa_app.models.state import ModelState
from ipa_app.ui import texts
from ipa_app.ui.about import memory_text

_MODEL_PHASES = {
    "absent": texts.MODEL_ABSENT,
    "downloading": texts.MODEL_DOWNLOADING,
    "loading": texts.MODEL_LOADING,
    "ready": texts.MODEL_READY,
    "failed": texts.MODEL_FAILED,
}


def status_line(text: str, *, kind: str = "idle", fraction: float | None = None) -> str:
    """Return the status line.

    Args:
        text: plain text; it is escaped.
        kind: "idle", "busy", "done" or "failed".
        fraction: how much is done, 0..1; None where that is not known.
    """
    bar = ""
    if kind == "busy":
        known = fraction is not None
        width = f"{100 * min(max(fraction or 0.0, 0.0), 1.0):.0f}%"
        style = f' style="width:{width}"' if known else ""
        bar = f'<div class="ipa-bar{"" if known else " ipa-bar-unknown"}"><span{style}></span></div>'
    return f'<div class="ipa-status ipa-{kind}" role="status"><span>{html.escape(text)}</span>{bar}</div>'


def progress_line(progress: Progress) -> str:
    """Return the status line for what the engine reports."""
    phase = texts.PHASES.get(progress.phase)
    text = progress.message[:1].upper() + progress.message[1:]
    if phase and text != phase:
        text = f"{phase}: {progress.message}"
    return status_line(text, kind="busy", fraction=progress.step / progress.steps if progress.steps else None)


def notes_html(notes: Iterable[str]) -> str:
    """Return what is said beside an upload: how it was understood, or why it was not. Plain text; it is escaped."""
    return "".join(f'<p class="ipa-note" role="status">{html.escape(note)}</p>' for note in notes)


def model_pill(state: ModelState, *, title: str) -> str:
    """Return the model's state for the header, with more on it where the mouse rests; a failure's reason is shown."""
    text = _MODEL_PHASES[state.phase].format(title=title)
    if state.phase == "downloading" and state.progress:
        text = f"{text} {100 * state.progress:.0f}%"
    reason = f'<span class="ipa-reason">{html.escape(state.message)}</span>' if state.phase == "failed" else ""
    more = memory_text(state.memory) if state.memory else state.message
    return (
        f'<div class="ipa-pill ipa-{state.phase}" role="status" title="{html.escape(more)}">'
        f"<i></i><span>{html.escape(text)}</span></div>{reason}"
    )
