"""Small pieces of HTML: the model's state in the header, and the line that says what is being done."""

from __future__ import annotations

from collections.abc import Iterable

from ipa_app.engine.results import Progress
from ipa_app.messages import Message
from ipa_app.models.state import ModelState
from ipa_app.ui.about import memory_text
from ipa_app.ui.language.markup import attribute, said

_PHASES = {"queued": "progress.waiting", "denoising": "progress.drawing"}


def status_line(*messages: str, kind: str = "idle", fraction: float | None = None) -> str:
    """Return the status line.

    Args:
        messages: sentences; one that is no `Message` is said as it is.
        kind: "idle", "busy", "done" or "failed".
        fraction: how much is done, 0..1; None where that is not known.
    """
    bar = ""
    if kind == "busy":
        bar = _bar(fraction)
    return f'<div class="ipa-status ipa-{kind}" role="status">{said(*messages)}{bar}</div>'


def _bar(fraction: float | None) -> str:
    label = attribute("aria-label", Message("progress.bar"))
    if fraction is None:
        return f'<div class="ipa-bar ipa-bar-unknown" role="progressbar"{label}><span></span></div>'
    percent = f"{100 * min(max(fraction, 0.0), 1.0):.0f}"
    bar = f'<div class="ipa-bar" role="progressbar" aria-valuenow="{percent}"{label}>'
    return f'{bar}<span style="width:{percent}%"></span></div>'


def progress_line(progress: Progress) -> str:
    """Return the status line for what the engine reports."""
    doing = progress.message or Message("doing.drawing")
    key = _PHASES.get(progress.phase, "progress.alone")
    if doing.key == "doing.drawing":
        key = "progress.alone"
    fraction = progress.step / progress.steps if progress.steps else None
    return status_line(Message(key, doing=doing), kind="busy", fraction=fraction)


def notes_html(notes: Iterable[Message]) -> str:
    """Return what is said beside an upload: how it was understood, or why it was not."""
    return "".join(said(note, tag="p", css_class="ipa-note", role="status") for note in notes)


def model_pill(state: ModelState, *, title: str) -> str:
    """Return the model's state for the header, in one line, and whole where the mouse rests, with more on it.

    A failure's reason is shown.
    """
    text = Message(f"model.state.{state.phase}", title=title)
    if state.phase == "downloading" and state.progress:
        text = Message("model.state.downloading_share", title=title, percent=f"{100 * state.progress:.0f}")
    now = (state.message,) if state.message else ()
    reason = said(*now, css_class="ipa-reason") if state.phase == "failed" else ""
    more = attribute("title", text, *(memory_text(state.memory) if state.memory else now))
    return f'<div class="ipa-pill ipa-{state.phase}" role="status"{more}><i></i>{said(text)}</div>{reason}'
