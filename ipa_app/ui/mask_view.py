"""Looking at the mask before anything is drawn: the picture with everything tinted that would change."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ipa_app.engine.requests import MASK_FIELDS
from ipa_app.ui.failures import explained
from ipa_app.ui.form import build_request
from ipa_app.ui.kept import keep_picture
from ipa_app.ui.listeners import AT_ONCE, CHECKED
from ipa_app.ui.parts import Parts
from ipa_app.ui.studio import Studio
from ipa_app.ui.tabs.inpaint import keep_mask
from ipa_app.ui.tabs.shared import MaskView

_SHOWN_OF = ("image", "mask", "painted", "width", "height", "model", *MASK_FIELDS)


def connect_mask_view(parts: Parts, *, studio: Studio) -> None:
    """Let the button show the mask. What it showed goes away when the mask would look different."""
    for tab in parts.tabs:
        if tab.mask_view is not None:
            _connect(tab.mask_view, task=tab.task, inputs=parts.inputs_of(tab), studio=studio)


def _connect(view: MaskView, *, task: str, inputs: dict[str, Any], studio: Studio) -> None:
    shown_of = {name: inputs[name] for name in _SHOWN_OF}

    def show(*, mask: Any, painted: Any, **values: Any) -> Any:
        with explained():
            request = build_request(task=task, mask=mask or painted, **values)
            return gr.update(visible=True), keep_picture(studio.show_mask(request), format="jpeg")

    # As for drawing: strokes need the editor's own decoding, all other inputs must reach us undecoded.
    kept = gr.State(None)
    pressed = view.show.click(keep_mask, shown_of["painted"], kept, **AT_ONCE).success
    pressed(
        show, inputs_kwargs={**shown_of, "painted": kept}, outputs=[view.box, view.picture], preprocess=False, **CHECKED
    )
    changes = [component.change for name, component in shown_of.items() if name != "painted"]
    gr.on(changes, lambda: gr.update(visible=False), None, view.box, trigger_mode="always_last", **AT_ONCE)
