"""Inpaint: paint over part of a picture and have it redrawn after the reference.

The picture stays at full size on the server; the editor shows a smaller copy to paint on, and only the painted mask is
taken from it. Before drawing, the mask can be adjusted and shown: as the picture with the area to be redrawn tinted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gradio as gr
from PIL import Image

from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.tasks.area import mark_area, show_area
from ipa_app.engine.tasks.inpaint import EXTENSIONS, Inpaint, InpaintOptions
from ipa_app.errors import UserError, blaming
from ipa_app.imaging.mask_files import read_mask
from ipa_app.imaging.masks import editor_mask, fit_mask, join_masks
from ipa_app.imaging.opening import Opened, open_image
from ipa_app.imaging.transparency import note_of_transparency, on_white, opacity_of
from ipa_app.messages import Message
from ipa_app.models.entry import ModelEntry
from ipa_app.options import options
from ipa_app.ui.controls import (
    AT_ONCE,
    CHECKED,
    LATEST,
    LATEST_AT_ONCE,
    Update,
    control,
    controls,
    mask_box,
    mask_editor,
    on_canvas,
    picture_input,
)
from ipa_app.ui.examples import Example
from ipa_app.ui.failures import explained
from ipa_app.ui.form import build_request, checked_values, open_upload
from ipa_app.ui.parts import Parts
from ipa_app.ui.pictures import keep_picture
from ipa_app.ui.running import Runner
from ipa_app.ui.status import notes_html
from ipa_app.ui.studio import Studio
from ipa_app.ui.tabs.shared import Tab, TaskTab, finish_tab, help_text, subheading
from ipa_app.ui.uploads import file_path, painted_files

_LARGE_SHARE = 0.5


def inpaint_tab(entry: ModelEntry) -> TaskTab:
    """Lay out the tab, and connect the uploaded picture to the editor; see `variation_tab`."""
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
        mask_fold, mask_file = mask_box(Message("page.inpaint.mask_label"), elem_id="inpaint-mask", height=160)
        edges = mask_edges()
        finished = finish_tab(
            task="inpaint",
            tab=tab,
            entry=entry,
            label=Message("page.prompt_optional_label"),
            placeholder=Message("page.prompt_examples.inpaint"),
        )
    outputs = [upload, paint, note, editor, shown]
    image.change(_paintable_copy, [image, shown], outputs, preprocess=False, **LATEST)
    other.click(lambda: None, None, image, **AT_ONCE)
    return replace(
        finished,
        inputs={"image": image, "mask": mask_file, "painted": editor, **edges.inputs},
        folds={"mask": mask_fold, **dict.fromkeys(edges.inputs, edges.fold)},
        told_by=dict.fromkeys(("image", "painted"), shown.change),
        connect=partial(connect_mask_view, edges.view),
        from_example=_from_example,
        from_request=partial(_from_request, editor),
        shape_inputs={"image": image, **{side: edges.inputs[side] for side in EXTENSIONS}},
        shape_of=_picture_to_change,
    )


def _picture_to_change(sent: Mapping[str, Any], studio: Studio) -> Image.Image | None:
    """Return the picture with its extensions, without a mask; None if there is no picture yet."""
    if sent["image"] is None:
        return None
    opened = open_upload(sent["image"], field="image")
    size = checked_values(Inpaint.name, sent, names=("width", "height", "model", *EXTENSIONS))
    request = GenerateRequest(task=Inpaint.name, image=opened.image, mask=Image.new("L", (1, 1), 255), **size)
    return mark_area(studio.plan(request)).picture


def read_mask_input(
    sent: Mapping[str, Any], values: Mapping[str, Any], opened: Mapping[str, Opened]
) -> tuple[dict[str, Any], list[Message]]:
    """Read the mask from what was painted on the page and from an uploaded file, whose meaning has to be worked out.

    If there is a file, what was painted is added to it.
    """
    mask, picture = sent.get("mask"), opened.get("image")
    if picture is None:
        return {}, []
    may_be_empty = any(values.get(side) for side in EXTENSIONS)
    with blaming("mask"):
        painted = painted_mask(sent.get("painted"))
        if mask is None:
            return {"mask": painted and fit_mask(painted, picture.image.size, may_be_empty=may_be_empty)}, []
        read = read_mask(file_path(mask, field="mask"), picture, may_be_empty=may_be_empty)
    # Whoever inverts a mask has seen how much of the picture it marks.
    notes = [*read.notes, *([] if values.get("mask_invert") else _note_of_size(read.mask))]
    return {"mask": join_masks(read.mask, painted)}, notes


def _note_of_size(mask: Image.Image) -> list[Message]:
    """Return a note if most of the picture is marked, as when a mask is the wrong way round."""
    share = mask.histogram()[255] / (mask.width * mask.height)
    if share <= _LARGE_SHARE:
        return []
    return [Message("mask.all") if share == 1 else Message("mask.large", percent=round(100 * share))]


def _from_example(example: Example) -> dict[str, Any]:
    files = {"image": example.image, "mask": example.mask}
    values: dict[str, Any] = {name: str(file) for name, file in files.items() if file is not None}
    return values | ({"painted": _canvas_of(open_image(example.image))} if example.image else {})


def _from_request(editor: gr.ImageEditor, request: GenerateRequest) -> Update:
    # Without this, the previous painting would count until the page reports the new picture.
    return {} if request.image is None else {editor: _canvas_of(request.image)}


def _canvas_of(picture: Image.Image) -> dict[str, Any]:
    return on_canvas(on_white(picture))


def _editor() -> gr.ImageEditor:
    label, colour = Message("page.inpaint.editor_label"), "#ff2d78"
    return mask_editor(label, elem_id="inpaint-editor", colour=colour, height=460)


def _paintable_copy(payload: Any, shown: str | None) -> tuple[Any, Any, Any, Any, str | None]:
    """Show the editor with a copy of the picture, at a size that is handy to paint on, and notes on the upload.

    The page reports a picture again when it hides it; strokes that were painted by then must stay.
    """
    with explained():
        if payload is None:
            return gr.update(visible=True), gr.update(visible=False), "", None, None
        path = file_path(payload, field="image")
        if path == shown:
            return gr.skip(), gr.skip(), gr.skip(), gr.skip(), shown
        opened = open_upload(payload, field="image", name=Message("upload.this"))
        value = _canvas_of(opened.image)
        notes = [*opened.notes, *([note_of_transparency(Message("upload.this"))] if opacity_of(opened.image) else [])]
        return gr.update(visible=False), gr.update(visible=True), notes_html(notes), value, path


@dataclass(frozen=True, kw_only=True)
class MaskEdges:
    """The accordion, its inputs by the request's field, and the view of the resulting mask."""

    fold: gr.Accordion
    inputs: dict[str, Any]
    view: MaskView


def mask_edges() -> MaskEdges:
    """Lay out the accordion; its initial values change nothing."""
    with gr.Accordion(Message("page.inpaint.edges_accordion"), open=False, elem_id="edges-panel") as fold:
        inputs = controls("mask_invert", "mask_grow", "mask_feather")
        inputs["area"] = control("area", elem_id="inpaint-area")
        inputs |= {**controls("mask_padding", "surroundings"), **_extensions()}
        show = gr.Button(Message("page.inpaint.mask_show"), size="sm", elem_id="mask-show")
    # Outside the accordion, as a mask from a file is shown while this is closed.
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


_FILES = ("image", "mask")
_NOTHING_PAINTED = ("mask.no_picture", "mask.nothing_painted")
_SHOWN_OF = (*(each.api for each in options(InpaintOptions).values()), "painted", "width", "height", "model")


@dataclass(frozen=True, kw_only=True)
class MaskView:
    """The button that shows the mask as it will be used, and the view.

    `box` contains the whole view: the notes, and `understood` with the picture, if the mask could be understood.
    """

    show: gr.Button
    box: gr.Column
    notes: gr.HTML
    understood: gr.Column
    picture: gr.Image


def painted_mask(sent: Any) -> Image.Image | None:
    """Return what was painted, white on black; None if nothing was.

    Args:
        sent: the editor's value: files, as long as nothing listens to its strokes.
    """
    painted = painted_files(sent, field="mask")
    if painted is None:
        return None
    try:
        return editor_mask(painted)[1]
    except UserError as error:
        if error.message.key in _NOTHING_PAINTED:
            return None
        raise


def connect_mask_view(view: MaskView, parts: Parts, runner: Runner) -> None:
    """Connect the view of the mask, which is hidden when the mask would look different."""
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

    view.show.click(show, inputs_kwargs=shown_of, outputs=outputs, preprocess=False, **CHECKED)
    files = [shown_of[name].change for name in _FILES]
    beside = {name: component for name, component in shown_of.items() if name != "painted"}
    gr.on(
        files,
        show_file,
        inputs_kwargs=beside,
        outputs=outputs,
        preprocess=False,
        **LATEST,
    )
    changes = [component.change for name, component in beside.items() if name not in _FILES]
    gr.on(changes, lambda: gr.update(visible=False), None, view.box, **LATEST_AT_ONCE)


def _shown(view: MaskView, runner: Runner, sent: Mapping[str, object]) -> dict[Any, Any]:
    """Return the update that shows the mask of the form's values."""
    request = build_request(Inpaint.name, sent)
    area = mark_area(runner.studio.plan(request))
    return {
        view.box: gr.update(visible=True),
        view.notes: notes_html((*request.notes, *area.notes)),
        view.understood: gr.update(visible=True),
        view.picture: keep_picture(show_area(area), format="jpeg"),
    }


TAB = Tab(
    lay_out=inpaint_tab,
    about=(
        "Redraw the white part of a mask; every other pixel of the picture stays as it is.\n\n"
        "With `extend_...` the picture is also continued beyond its edges; `mask` may then be None."
    ),
    beside=("painted",),
    opens=("mask",),
    read=read_mask_input,
)
