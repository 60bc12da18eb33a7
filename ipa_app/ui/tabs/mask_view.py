"""Looking at the mask before anything is drawn: the picture with everything tinted that would change.

A mask in a file is shown as soon as it is there, as it may have been meant otherwise; a painted one on demand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ipa_app.engine.tasks.area import mark_area, show_area
from ipa_app.engine.tasks.inpaint import Inpaint, InpaintOptions
from ipa_app.errors import UserError
from ipa_app.imaging.masks import editor_mask
from ipa_app.options import options
from ipa_app.ui.controls import AT_ONCE, CHECKED
from ipa_app.ui.failures import explained
from ipa_app.ui.form import build_request
from ipa_app.ui.parts import Parts
from ipa_app.ui.pictures import keep_picture
from ipa_app.ui.running import Runner
from ipa_app.ui.status import notes_html

_FILES = ("image", "mask")
_SHOWN_OF = (*(each.api for each in options(InpaintOptions).values()), "painted", "width", "height", "model")


@dataclass(frozen=True, kw_only=True)
class MaskView:
    """The button that shows the mask as it will be used, and where.

    `box` holds all of it: the notes, and `understood` with the picture where the mask could be understood.
    """

    show: gr.Button
    box: gr.Column
    notes: gr.HTML
    understood: gr.Column
    picture: gr.Image


def keep_mask(editor_value: dict[str, Any] | None) -> str | None:
    """Save what was painted as a black and white PNG and return its path; None when nothing was painted."""
    try:
        mask = editor_mask(editor_value)[1]
    except UserError:
        return None
    return keep_picture(mask)


def connect_mask_view(view: MaskView, parts: Parts, runner: Runner) -> None:
    """Let the mask be shown. What was shown goes away when the mask would look different."""
    inputs = parts.inputs_of(parts.tab_of(Inpaint.name))
    shown_of = {name: inputs[name] for name in _SHOWN_OF}
    outputs = [view.box, view.notes, view.understood, view.picture]

    def show(**sent: object) -> dict[Any, Any]:
        with explained():
            return _shown(view, runner, sent)

    def show_file(**sent: object) -> dict[Any, Any]:
        if any(sent[name] is None for name in _FILES):
            return {view.box: gr.update(visible=False)}
        with explained():
            try:
                return _shown(view, runner, sent)
            except UserError as error:
                why = {view.notes: notes_html([error.message]), view.understood: gr.update(visible=False)}
                return {view.box: gr.update(visible=True), **why}

    # As for drawing: strokes need the editor's own decoding, all other inputs must reach us undecoded.
    kept = gr.State(None)
    pressed = view.show.click(keep_mask, shown_of["painted"], kept, **AT_ONCE).success
    pressed(show, inputs_kwargs={**shown_of, "painted": kept}, outputs=outputs, preprocess=False, **CHECKED)
    files = [shown_of[name].change for name in _FILES]
    beside = {name: component for name, component in shown_of.items() if name != "painted"}
    gr.on(
        files,
        show_file,
        inputs_kwargs=beside,
        outputs=outputs,
        preprocess=False,
        trigger_mode="always_last",
        **CHECKED,
    )
    changes = [component.change for name, component in beside.items() if name not in _FILES]
    gr.on(changes, lambda: gr.update(visible=False), None, view.box, trigger_mode="always_last", **AT_ONCE)


def _shown(view: MaskView, runner: Runner, sent: Mapping[str, object]) -> dict[Any, Any]:
    """Show the mask of what the form holds, as an update of the page."""
    request = build_request(Inpaint.name, sent)
    area = mark_area(runner.studio.plan(request))
    return {
        view.box: gr.update(visible=True),
        view.notes: notes_html((*request.notes, *area.notes)),
        view.understood: gr.update(visible=True),
        view.picture: keep_picture(show_area(area), format="jpeg"),
    }
