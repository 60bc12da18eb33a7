"""Inpaint: paint over part of a picture and have it redrawn after the reference.

The picture keeps its own full size on the server; the editor shows a handy copy to paint on, and only the
painted mask is taken from it.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from ipa_app.errors import UserError
from ipa_app.imaging.masks import editor_mask
from ipa_app.imaging.transparency import note_of_transparency, on_white, opacity_of
from ipa_app.messages import Message
from ipa_app.ui.controls import picture_input
from ipa_app.ui.failures import explained
from ipa_app.ui.form import open_upload
from ipa_app.ui.kept import keep_picture
from ipa_app.ui.listeners import AT_ONCE, CHECKED
from ipa_app.ui.status import notes_html
from ipa_app.ui.tabs.mask_edges import mask_edges
from ipa_app.ui.tabs.shared import TaskTab, finish_tab, help_text, subheading
from ipa_app.ui.uploads import file_path

_COPY_SIDE = 768
_BRUSH = 72


def inpaint_tab() -> TaskTab:
    """Lay out the tab and its chain from uploaded picture to editor."""
    with gr.Tab(Message("page.inpaint.tab"), id="inpaint", elem_id="tab-inpaint") as tab:
        help_text(Message("page.inpaint.help"))
        subheading(Message("page.inpaint.image_label"))
        with gr.Column(elem_id="inpaint-upload") as upload:
            image = picture_input(
                label=Message("page.inpaint.image_label"), elem_id="inpaint-image", height=300, is_kept=True
            )
        with gr.Column(visible=False, elem_id="inpaint-paint") as paint:
            note = gr.HTML("", padding=False, elem_id="inpaint-note")
            editor = _editor()
            other = gr.Button(Message("page.inpaint.other_picture"), size="sm", elem_id="inpaint-other")
        shown = gr.State(None)  # in the tab: beside it, Gradio miscounts the tabs and shows the next one twice
        with gr.Accordion(
            Message("page.inpaint.mask_accordion"), open=False, elem_id="inpaint-mask-panel"
        ) as mask_fold:
            help_text(Message("page.inpaint.mask_label"))
            mask_file = picture_input(
                label=Message("page.inpaint.mask_label"), elem_id="inpaint-mask", height=160, is_kept=True
            )
        edges = mask_edges()
        finished = finish_tab(
            task="inpaint",
            tab=tab,
            label=Message("page.prompt_optional_label"),
            inputs={"image": image, "mask": mask_file, "painted": editor, **edges.inputs},
            folds={"mask": mask_fold, **dict.fromkeys(edges.inputs, edges.fold)},
            mask_view=edges.view,
        )
    outputs = [upload, paint, note, editor, shown]
    image.change(_paintable_copy, [image, shown], outputs, preprocess=False, **CHECKED)
    other.click(lambda: None, None, image, **AT_ONCE)
    return finished


def keep_mask(editor_value: dict[str, Any] | None) -> str | None:
    """Save what was painted as a black and white PNG and return its path; None when nothing was painted."""
    try:
        mask = editor_mask(editor_value)[1]
    except UserError:
        return None
    return keep_picture(mask)


def _editor() -> gr.ImageEditor:
    return gr.ImageEditor(
        label=Message("page.inpaint.editor_label"),
        show_label=False,
        elem_id="inpaint-editor",
        type="pil",
        image_mode="RGBA",
        sources=(),
        transforms=(),
        layers=False,
        brush=gr.Brush(colors=["#ff2d78"], color_mode="fixed", default_size=_BRUSH),
        eraser=gr.Eraser(default_size=_BRUSH),
        canvas_size=(_COPY_SIDE, _COPY_SIDE),
        height=460,
        buttons=["fullscreen"],
        interactive=True,
    )


def _paintable_copy(payload: Any, shown: str | None) -> tuple[Any, Any, Any, Any, str | None]:
    """Show the editor with a copy of the picture, of a size that is handy to paint on, and how that was understood.

    The page tells of a picture once more when it hides it; the strokes that are there by then must stay.
    """
    with explained():
        if payload is None:
            return gr.update(visible=True), gr.update(visible=False), "", None, None
        path = file_path(payload, field="image")
        if path == shown:
            return gr.skip(), gr.skip(), gr.skip(), gr.skip(), shown
        opened = open_upload(payload, field="image", name=Message("upload.this"))
        copy = on_white(opened.image)
        factor = _COPY_SIDE / max(copy.size)
        copy = copy.resize((max(1, round(copy.width * factor)), max(1, round(copy.height * factor))))
        value = {"background": keep_picture(copy), "layers": [], "composite": None}
        notes = [*opened.notes, *([note_of_transparency(Message("upload.this"))] if opacity_of(opened.image) else [])]
        return gr.update(visible=False), gr.update(visible=True), notes_html(notes), value, path
