"""What can be changed about a mask after it was painted, and how far the picture is continued beyond its edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from ipa_app.engine.tasks.inpaint import EXTENSIONS
from ipa_app.messages import Message
from ipa_app.ui.controls import control, controls
from ipa_app.ui.tabs.mask_view import MaskView
from ipa_app.ui.tabs.shared import help_text, subheading


@dataclass(frozen=True, kw_only=True)
class MaskEdges:
    """The accordion, its inputs by the request's field, and where the outcome can be looked at."""

    fold: gr.Accordion
    inputs: dict[str, Any]
    view: MaskView


def mask_edges() -> MaskEdges:
    """Lay out the accordion; as it opens, it changes nothing."""
    with gr.Accordion(Message("page.inpaint.edges_accordion"), open=False, elem_id="edges-panel") as fold:
        inputs = controls("mask_invert", "mask_grow", "mask_feather")
        inputs["area"] = control("area", elem_id="inpaint-area")
        inputs |= {**controls("mask_padding"), **_extensions()}
        show = gr.Button(Message("page.inpaint.mask_show"), size="sm", elem_id="mask-show")
    # Beside the accordion, as a mask in a file is shown while this is closed.
    return MaskEdges(fold=fold, inputs=inputs, view=_view(show))


def _extensions() -> dict[str, Any]:
    subheading(Message("page.inpaint.extend_heading"))
    help_text(Message("page.inpaint.extend_help"))
    sliders = {}
    for pair in (EXTENSIONS[:2], EXTENSIONS[2:]):
        with gr.Row():
            sliders |= controls(*pair, min_width=120)
    return sliders


def _view(show: gr.Button) -> MaskView:
    with gr.Column(visible=False, elem_id="mask-view") as box:
        notes = gr.HTML("", padding=False, elem_id="mask-notes")
        with gr.Column() as understood:
            picture = gr.Image(
                label=Message("page.inpaint.mask_show"),
                show_label=False,
                height=320,
                buttons=["fullscreen"],
                interactive=False,
                elem_id="mask-shown",
                elem_classes="ipa-picture",
            )
            help_text(Message("page.inpaint.mask_shown"))
    return MaskView(show=show, box=box, notes=notes, understood=understood, picture=picture)
