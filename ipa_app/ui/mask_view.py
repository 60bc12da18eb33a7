"""Looking at the mask before anything is drawn: the picture with everything tinted that would change.

A mask in a file is shown as soon as it is there, as it may have been meant otherwise; a painted one on demand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.options import options
from ipa_app.ui.failures import explained
from ipa_app.ui.form import build_request
from ipa_app.ui.kept import keep_picture
from ipa_app.ui.listeners import AT_ONCE, CHECKED
from ipa_app.ui.parts import Parts
from ipa_app.ui.status import notes_html
from ipa_app.ui.studio import Studio
from ipa_app.ui.tabs.inpaint import keep_mask
from ipa_app.ui.tabs.shared import MaskView

_FILES = ("image", "mask")
_OF_MASK = tuple(each.api for each in options(GenerateRequest).values() if each.tasks == ("inpaint",))
_SHOWN_OF = (*_OF_MASK, "painted", "width", "height", "model")


def connect_mask_view(parts: Parts, *, studio: Studio) -> None:
    """Let the mask be shown. What was shown goes away when the mask would look different."""
    for tab in parts.tabs:
        if tab.mask_view is not None:
            _connect(tab.mask_view, task=tab.task, inputs=parts.inputs_of(tab), studio=studio)


def _connect(view: MaskView, *, task: str, inputs: dict[str, Any], studio: Studio) -> None:
    shown_of = {name: inputs[name] for name in _SHOWN_OF}
    outputs = [view.box, view.notes, view.understood, view.picture]

    def shown(sent: Mapping[str, object]) -> dict[Any, Any]:
        request = build_request(task, sent)
        picture, notes = studio.show_mask(request)
        return {
            view.box: gr.update(visible=True),
            view.notes: notes_html((*request.notes, *notes)),
            view.understood: gr.update(visible=True),
            view.picture: keep_picture(picture, format="jpeg"),
        }

    def show(**sent: object) -> dict[Any, Any]:
        with explained():
            return shown(sent)

    def show_file(**sent: object) -> dict[Any, Any]:
        if any(sent[name] is None for name in _FILES):
            return {view.box: gr.update(visible=False)}
        with explained():
            try:
                return shown(sent)
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
