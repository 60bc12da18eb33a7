"""Inpaint: paint over part of a picture and have it redrawn after the reference.

The picture keeps its own full size on the server; the editor shows a handy copy to paint on, and only the
painted mask is taken from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
from PIL import Image

from ipa_app.engine.tasks.inpaint import EXTENSIONS
from ipa_app.errors import blaming
from ipa_app.imaging.mask_files import read_mask
from ipa_app.imaging.masks import fit_mask
from ipa_app.imaging.opening import Opened, open_image
from ipa_app.imaging.transparency import note_of_transparency, on_white, opacity_of
from ipa_app.messages import Message
from ipa_app.models.entry import ModelEntry
from ipa_app.ui.controls import AT_ONCE, CHECKED, picture_input
from ipa_app.ui.examples import Example
from ipa_app.ui.failures import explained
from ipa_app.ui.form import open_upload
from ipa_app.ui.pictures import keep_picture
from ipa_app.ui.status import notes_html
from ipa_app.ui.tabs.mask_edges import mask_edges
from ipa_app.ui.tabs.mask_view import connect_mask_view, keep_mask
from ipa_app.ui.tabs.shared import Tab, TaskTab, finish_tab, help_text, subheading
from ipa_app.ui.uploads import file_path

_COPY_SIDE = 768
_BRUSH = 72
_LARGE_SHARE = 0.5


def inpaint_tab(entry: ModelEntry) -> TaskTab:
    """Lay out the tab and its chain from uploaded picture to editor; it is the same for all models."""
    del entry
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
            placeholder=Message("page.prompt_examples.inpaint"),
        )
    outputs = [upload, paint, note, editor, shown]
    image.change(_paintable_copy, [image, shown], outputs, preprocess=False, **CHECKED)
    other.click(lambda: None, None, image, **AT_ONCE)
    return replace(
        finished,
        inputs={"image": image, "mask": mask_file, "painted": editor, **edges.inputs},
        folds={"mask": mask_fold, **dict.fromkeys(edges.inputs, edges.fold)},
        kept={"painted": keep_mask},
        connect=partial(connect_mask_view, edges.view),
        from_example=_from_example,
    )


def read_mask_input(
    sent: Mapping[str, Any], values: Mapping[str, Any], opened: Mapping[str, Opened]
) -> tuple[dict[str, Any], list[Message]]:
    """Open what was painted on the page, which means what it shows, or a file, which may be anything.

    The page has saved what was painted, which counts where there is no file.
    """
    mask, picture = sent.get("mask") or sent.get("painted"), opened.get("image")
    if mask is None or picture is None:
        return {}, []
    may_be_empty = any(values.get(side) for side in EXTENSIONS)
    with blaming("mask"):
        if isinstance(mask, str):
            drawn = open_image(mask, min_side=1)
            return {"mask": fit_mask(drawn, picture.image.size, may_be_empty=may_be_empty)}, []
        read = read_mask(file_path(mask, field="mask"), picture, may_be_empty=may_be_empty)
    # Who swaps a mask has seen how much of the picture it marks.
    return {"mask": read.mask}, [*read.notes, *([] if values.get("mask_invert") else _note_of_size(read.mask))]


def _note_of_size(mask: Image.Image) -> list[Message]:
    """Say how much is marked where that is most of the picture, as it is where a mask was meant the other way round."""
    share = mask.histogram()[255] / (mask.width * mask.height)
    if share <= _LARGE_SHARE:
        return []
    return [Message("mask.all") if share == 1 else Message("mask.large", percent=round(100 * share))]


def _from_example(example: Example) -> dict[str, Any]:
    files = {"image": example.image, "mask": example.mask}
    return {name: str(file) for name, file in files.items() if file is not None}


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


TAB = Tab(
    lay_out=inpaint_tab,
    about=(
        "Redraw the white part of a mask; every other pixel of the picture stays as it is.\n\n"
        "With `extend_...` the picture is continued beyond its edges as well; then `mask` may be None."
    ),
    beside=("painted",),
    opens=("mask",),
    read=read_mask_input,
)
