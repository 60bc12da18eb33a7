"""Small pieces of HTML: the model's state in the header, the status line, and how a picture was made."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import Progress
from ipa_app.engine.tasks import TASKS
from ipa_app.messages import Message, titled
from ipa_app.models.state import ModelState
from ipa_app.options import options
from ipa_app.ui.about import memory_text
from ipa_app.ui.controls import style_title
from ipa_app.ui.language.markup import attribute, said

UNTIL_CHANGED = "data-until-changed"
"""The attribute of a status that the page's script clears when an input changes."""
_PHASES = {"queued": "progress.waiting", "denoising": "progress.drawing"}


def status_line(*messages: str, kind: str = "idle", fraction: float | None = None, until_changed: bool = False) -> str:
    """Return the status line.

    Args:
        messages: sentences; a plain string is not translated.
        kind: "idle", "busy", "done" or "failed".
        fraction: how much is done, 0..1; None if that is unknown.
        until_changed: whether the status is cleared as soon as an input changes.
    """
    bar = ""
    if kind == "busy":
        bar = _bar(fraction)
    over = f" {UNTIL_CHANGED}" if until_changed else ""
    return f'<div class="ipa-status ipa-{kind}" role="status"{over}>{said(*messages)}{bar}</div>'


def _bar(fraction: float | None) -> str:
    label = attribute("aria-label", Message("progress.bar"))
    if fraction is None:
        return f'<div class="ipa-bar ipa-bar-unknown" role="progressbar"{label}><span></span></div>'
    percent = f"{100 * min(max(fraction, 0.0), 1.0):.0f}"
    bar = f'<div class="ipa-bar" role="progressbar" aria-valuenow="{percent}"{label}>'
    return f'{bar}<span style="width:{percent}%"></span></div>'


def progress_line(progress: Progress) -> str:
    """Return the status line for the engine's progress."""
    doing = progress.message or Message("doing.drawing")
    key = _PHASES.get(progress.phase, "progress.alone")
    if doing.key == "doing.drawing":
        key = "progress.alone"
    fraction = progress.step / progress.steps if progress.steps else None
    return status_line(Message(key, doing=doing), kind="busy", fraction=fraction)


def notes_html(notes: Iterable[Message]) -> str:
    """Return the notes beside an upload: how it was understood, or why it was not."""
    return "".join(said(note, tag="p", css_class="ipa-note", role="status") for note in notes)


def model_pill(state: ModelState, *, title: str) -> str:
    """Return the model's state for the header: in one line, with details in its tooltip.

    The reason of a failure is shown beside it.
    """
    text = Message(f"model.state.{state.phase}", title=title)
    if state.phase == "downloading" and state.progress:
        text = Message("model.state.downloading_share", title=title, percent=f"{100 * state.progress:.0f}")
    now = (state.message,) if state.message else ()
    reason = said(*now, css_class="ipa-reason") if state.phase == "failed" else ""
    more = attribute("title", text, *(memory_text(state.memory) if state.memory else now))
    return f'<div class="ipa-pill ipa-{state.phase}" role="status"{more}><i></i>{said(text)}</div>{reason}'


def made_html(settings: Mapping[str, Any]) -> str:
    """Return the list of the main settings of a picture, under their labels on the page.

    Args:
        settings: the settings in a result's file, of any content.
    """
    rows = "".join(f"<dt>{said(label)}</dt><dd>{_value(value)}</dd>" for label, value in _made(settings))
    return f'<dl class="ipa-made">{rows}</dl>' if rows else ""


_LISTED = ("negative_prompt", "style", "model", "speed", "scale", "seed", "steps", "guidance_scale")


def _made(settings: Mapping[str, Any]) -> Iterator[tuple[Message, Any]]:
    if (task := settings.get("task")) in tuple(TASKS):
        yield Message("page.library.filter.task"), Message(f"page.{task}.tab")
    if prompt := settings.get("prompt"):
        yield Message("page.prompt_label"), prompt
    if settings.get("references") and (adapter := settings.get("adapter")):
        yield Message("page.adapter.label"), titled(f"adapter.title.{adapter}", adapter)
    for name in _LISTED:
        option, value = options(GenerateRequest)[name], settings.get(name)
        label = Message.declared(f"option.{option.api}.label", option.label or option.title)
        if value in option.choices:
            shown = option.shown[option.choices.index(value)]
            yield label, Message.declared(f"option.{option.api}.shown.{value}", shown)
        elif value not in (None, ""):
            yield label, style_title(value) if name == "style" else value
    if settings.get("width") and settings.get("height"):
        yield Message("page.made.size"), f"{settings['width']} × {settings['height']}"


def _value(value: Any) -> str:
    # Typed text is not translated.
    return said(value) if isinstance(value, Message) else f'<span class="ipa-typed">{html.escape(str(value))}</span>'
