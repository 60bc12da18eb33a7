"""Presentation mode, for showing the app to others: large pictures, few controls, and a start screen that returns.

The page is in this mode as long as its address ends in `#presentation`; with `#presentation=60` the start screen
returns after 60 idle seconds instead of 20. Results do not get into the library, nothing from earlier visits is shown,
and a visitor's uploads and results are deleted before the next visitor begins.
"""

from __future__ import annotations

import html
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.utils import get_upload_folder, is_in_or_equal

from ipa_app.messages import Message
from ipa_app.ui.blocks import StudioBlocks
from ipa_app.ui.controls import AS_TEXT, AT_ONCE, ONE_BY_ONE
from ipa_app.ui.examples import Example
from ipa_app.ui.language.markup import attribute, said
from ipa_app.ui.results import KEPT_RUNNING
from ipa_app.ui.uploads import paths_in

if TYPE_CHECKING:
    from ipa_app.ui.parts import Parts

_log = logging.getLogger(__name__)
_SCRIPT = Path(__file__).with_name("presentation.js")
_IDLE_S = 20
_MOST_SHOWN = 5
IS_PRESENTED = '(location.hash.split("=")[0] === "#presentation")'
AS_PRESENTED = f"(running, history, presented, turn) => [{KEPT_RUNNING}, history, {IS_PRESENTED}, turn]"
"""The script that collects the inputs of the page's load event, in either mode."""


@dataclass(frozen=True, kw_only=True)
class PresentationPanel:
    """The button and the start screen, and the hidden switch that holds whether the page is in this mode.

    The state `files` holds the set of files that a visit has sent and received; None outside this mode.
    """

    screen: gr.HTML
    is_on: gr.Checkbox
    files: gr.State


def presentation_panel(examples: Sequence[Example]) -> PresentationPanel:
    """Lay out the button and the start screen, which shows some of the examples."""
    name = Message("page.presentation.name")
    shown = "".join(_picture(example, number) for number, example in enumerate(_shown(examples), start=1))
    screen = gr.HTML(
        value="",
        html_template=(
            f'<button type="button" class="ipa-round ipa-present"{attribute("aria-label", name)}'
            f"{attribute('title', Message('page.presentation.help'))}>▶</button>{_asked(name)}"
            f'<dialog class="ipa-start"{attribute("aria-label", Message("page.title"))}><form method="dialog">'
            f"<h2>{Message('page.title')}</h2>{said(Message('page.tagline'), tag='p')}<div>{shown}</div>"
            f'<button class="ipa-begin" autofocus>{said(Message("page.presentation.begin"))}</button></form></dialog>'
        ),
        js_on_load=_SCRIPT.read_text(encoding="utf-8"),
        apply_default_css=False,
        padding=False,
        elem_id="presentation",
        idle_s=_IDLE_S,
    )
    return PresentationPanel(screen=screen, is_on=gr.Checkbox(visible=False), files=gr.State(None))


def _asked(name: Message) -> str:
    """Return the dialog that asks for confirmation when the button is pressed: it may be a visitor who presses it."""
    warning = Message("page.presentation.warning", seconds=_IDLE_S)
    stay, go = said(Message("page.presentation.stay")), said(Message("page.presentation.go"))
    return (
        f'<dialog class="ipa-leads"{attribute("aria-label", name)}><form method="dialog">{said(name, tag="h2")}'
        f'{said(warning, tag="p")}<button value="" autofocus>{stay}</button> <button value="go">{go}</button>'
        "</form></dialog>"
    )


def _shown(examples: Sequence[Example]) -> list[Example]:
    """Return the examples for the start screen, without repeating a picture."""
    return list({example.file: example for example in examples}.values())[:_MOST_SHOWN]


def _picture(example: Example, number: int) -> str:
    title = Message("page.presentation.begin_with", number=number, picture=example.title)
    name = attribute("aria-label", title)
    # Lazily, so that a start screen that is not shown loads nothing.
    image = f'<img loading="lazy" alt="" src="gradio_api/file={html.escape(str(example.file))}">'
    return f'<button value="{number}"{name}>{image}</button>'


def connect_presentation(parts: Parts, *, page: StudioBlocks, examples: Sequence[Example]) -> None:
    """Set the page's mode, start with a pressed picture, and forget a visitor when the start screen returns."""
    panel = parts.presentation
    pictures = {str(number): str(example.file) for number, example in enumerate(_shown(examples), start=1)}

    def begin(event: gr.EventData) -> Any:
        return pictures.get(str(event.number), gr.skip())

    panel.screen.select(begin, None, parts.panel.references.slots[0].image, **ONE_BY_ONE)
    page.load(None, None, panel.is_on, js=f"() => {IS_PRESENTED}", **AT_ONCE)
    page.load(_begin, panel.is_on, panel.files, js=f"() => {IS_PRESENTED}", **AT_ONCE)
    page.files_of_session = panel.files
    own = [part for tab in parts.tabs for part in parts.inputs_of(tab).values()]
    brought = [part for part in own if isinstance(part, gr.Image | gr.ImageEditor)]
    made = [parts.results.download_picked, parts.results.download, parts.results.enlarged, parts.results.recipe]
    told = gr.Textbox(visible=False)
    named = panel.screen.apply(None, list(dict.fromkeys([*brought, *made])), told, js=AS_TEXT, **AT_ONCE)
    forgotten = named.then(forget, [told, panel.files], None, preprocess=False, **AT_ONCE)
    forgotten.then(None, js="() => location.reload()", **AT_ONCE)


def _begin(presented: bool) -> set[str] | None:
    return set() if presented else None


def forget(told: str, files: Iterable[str] | None) -> None:
    """Delete a visitor's uploads and results from the folder of served files.

    Each page has its own files there, even if their content is the same, so nobody else loses any.

    Args:
        told: the values of the page's components, as JSON; the server may not have seen all of them yet.
        files: the files that the visit has sent and received.
    """
    for path in dict.fromkeys((*paths_in(json.loads(told)), *(files or ()))):
        if is_in_or_equal(path, get_upload_folder()):
            try:
                Path(path).unlink(missing_ok=True)
            except OSError:
                _log.exception("A file of the visitor before could not be deleted.")
