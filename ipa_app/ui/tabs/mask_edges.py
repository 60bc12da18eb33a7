"""What can be changed about a mask after it was painted, and how far the picture is continued beyond its edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from ipa_app.engine.requests import EXTENSIONS, GenerateRequest
from ipa_app.options import options
from ipa_app.ui import texts
from ipa_app.ui.sliders import slider
from ipa_app.ui.tabs.shared import MaskView, help_text, subheading


@dataclass(frozen=True, kw_only=True)
class MaskEdges:
    """The accordion, its inputs by the request's field, and where the outcome can be looked at."""

    fold: gr.Accordion
    inputs: dict[str, Any]
    view: MaskView


def mask_edges() -> MaskEdges:
    """Lay out the accordion; as it opens, it changes nothing."""
    with gr.Accordion(texts.EDGES_ACCORDION, open=False, elem_id="edges-panel") as fold:
        inputs = {**_mask_inputs(), **_area_inputs(), **_extensions()}
        show = gr.Button(texts.MASK_SHOW, size="sm", elem_id="mask-show")
    # Beside the accordion, as a mask in a file is shown while this is closed.
    return MaskEdges(fold=fold, inputs=inputs, view=_view(show))


def _mask_inputs() -> dict[str, Any]:
    return {
        "mask_invert": gr.Checkbox(label=texts.MASK_INVERT_LABEL, value=False, elem_id="mask-invert"),
        "mask_grow": slider(
            texts.MASK_GROW_LABEL,
            texts.MASK_GROW_HELP,
            span=_span("mask_grow"),
            step=0.5,
            value=0,
            elem_id="mask-grow",
        ),
        "mask_feather": slider(
            texts.MASK_FEATHER_LABEL,
            texts.MASK_FEATHER_HELP,
            span=_span("mask_feather"),
            step=0.5,
            value=1,
            elem_id="mask-feather",
        ),
    }


def _area_inputs() -> dict[str, Any]:
    return {
        "area": gr.Radio(
            label=texts.AREA_LABEL,
            info=texts.AREA_HELP,
            choices=list(texts.AREA_CHOICES),
            value="masked",
            elem_id="inpaint-area",
        ),
        "mask_padding": slider(
            texts.MASK_PADDING_LABEL,
            texts.MASK_PADDING_HELP,
            span=_span("mask_padding"),
            step=5,
            value=25,
            elem_id="mask-padding",
        ),
    }


def _extensions() -> dict[str, Any]:
    subheading(texts.EXTEND_HEADING)
    help_text(texts.EXTEND_HELP)
    sliders = {}
    for pair in (EXTENSIONS[:2], EXTENSIONS[2:]):
        with gr.Row():
            for side in pair:
                sliders[side] = slider(
                    texts.EXTEND_LABELS[side],
                    span=_span(side),
                    step=5,
                    value=0,
                    elem_id=side.replace("_", "-"),
                    min_width=120,
                )
    return sliders


def _span(name: str) -> tuple[float, float]:
    declared = options(GenerateRequest)[name]
    return declared.least, declared.most


def _view(show: gr.Button) -> MaskView:
    with gr.Column(visible=False, elem_id="mask-view") as box:
        notes = gr.HTML("", padding=False, elem_id="mask-notes")
        with gr.Column() as understood:
            picture = gr.Image(
                label=texts.MASK_SHOW,
                show_label=False,
                height=320,
                buttons=["fullscreen"],
                interactive=False,
                elem_id="mask-shown",
                elem_classes="ipa-picture",
            )
            help_text(texts.MASK_SHOWN)
    return MaskView(show=show, box=box, notes=notes, understood=understood, picture=picture)
