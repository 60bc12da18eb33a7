"""Pose: the reference says who, a stick figure says how they stand.

The stick figure comes from the editor, whose keypoints are drawn at the output's size. If there is a picture of one in
the upload box, that is used instead, and the editor is hidden.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.imaging.opening import Opened, open_image
from ipa_app.messages import Message
from ipa_app.models.entry import ModelEntry
from ipa_app.pose.detectors import USUAL, detectors
from ipa_app.pose.keypoint_files import UnknownCanvasError
from ipa_app.pose.presets import preset_pictures, preset_sheets, preset_title
from ipa_app.pose.sheet import LONGEST_JSON, PoseSheet
from ipa_app.ui.controls import AT_ONCE, CHECKED, LATEST, LATEST_AT_ONCE, ONE_BY_ONE, controls, picture_input
from ipa_app.ui.examples import Example
from ipa_app.ui.failures import explained
from ipa_app.ui.language.markup import said
from ipa_app.ui.parts import Parts
from ipa_app.ui.running import Runner
from ipa_app.ui.skeleton_editor.component import skeleton_editor
from ipa_app.ui.status import notes_html
from ipa_app.ui.tabs.pose_finder import PoseFinder, connect_pose_finder, fit_for
from ipa_app.ui.tabs.shared import Tab, TaskTab, Update, finish_tab, help_text, subheading
from ipa_app.ui.turns import opening_turn
from ipa_app.ui.uploads import file_path

# A preset is marked as chosen for as long as it is the pose.
_UNMARK = """(skeleton, picture, given) => {
    const isThere = !picture && skeleton === given;
    return { __type__: "update", ...(isThere ? {} : { selected_index: null }) };
}"""


@dataclass(frozen=True, kw_only=True)
class _Keypoints:
    """The inputs for keypoints, as text or as a file, and for the size of their picture, if they do not contain it."""

    text: gr.Textbox
    use: gr.Button
    file: gr.UploadButton
    width: gr.Number
    height: gr.Number
    picture: gr.UploadButton
    notes: gr.HTML


@dataclass(frozen=True, kw_only=True)
class _PoseParts:
    """All components that determine the pose."""

    presets: gr.Gallery
    editing: gr.Column
    skeleton: gr.HTML
    keypoints: _Keypoints
    aside: gr.Column
    back: gr.Button
    find: gr.Button
    options: dict[str, Any]
    picture: gr.Image
    fit: dict[str, Any]


def pose_tab(entry: ModelEntry) -> TaskTab:
    """Lay out the tab.

    Args:
        entry: the model that is chosen when the page opens.
    """
    with gr.Tab(Message("page.pose.tab"), id="pose", elem_id="tab-pose") as tab:
        help_text(Message("page.pose.help"))
        parts = _lay_out()
        control_scale = controls("control_scale")
        with gr.Accordion(Message("page.pose.when_heading"), open=False, elem_id="control-when-panel") as when:
            help_text(Message("page.pose.when_help"))
            shares = controls("control_start", "control_end")
        finished = finish_tab(
            task="pose",
            tab=tab,
            entry=entry,
            label=Message("page.prompt_optional_label"),
            placeholder=Message("page.prompt_examples.pose"),
        )
    _connect(parts)
    return replace(
        finished,
        inputs={
            "pose": parts.picture,
            "skeleton": parts.skeleton,
            **parts.options,
            **parts.fit,
            **control_scale,
            **shares,
        },
        folds=dict.fromkeys(shares, when),
        starting=(parts.find,),
        connect=partial(_connect_readers, parts),
        from_example=_from_example,
        from_request=partial(_from_request, parts),
    )


def read_skeleton(
    sent: Mapping[str, Any], values: Mapping[str, Any], opened: Mapping[str, Opened]
) -> tuple[dict[str, Any], list[Message]]:
    """Read the editor's skeleton, the text of an OpenPose file, which is used if there is no picture."""
    del values
    skeleton = None if "pose" in opened else sent.get("skeleton")
    return ({"pose": PoseSheet.from_json(skeleton)} if skeleton else {}), []


def _from_example(example: Example) -> dict[str, Any]:
    sheet = preset_sheets().get(example.pose or "")
    # The preset goes into the editor; a picture would be used instead of it.
    return {} if sheet is None else {"skeleton": sheet.to_json(), "pose": None}


def _from_request(parts: _PoseParts, request: GenerateRequest) -> Update:
    updates: Update = {}
    if isinstance(request.pose, PoseSheet):
        updates = {parts.picture: None, parts.skeleton: request.pose.to_json()}
    if request.pose_detector not in detectors():
        # A detector that is not offered here is shown, so that another one can be chosen.
        updates[parts.options["pose_detector"]] = gr.update(value=request.pose_detector, visible=True)
    return updates


def _lay_out() -> _PoseParts:
    presets = _presets_gallery()
    with gr.Column(elem_id="pose-editing") as editing:
        subheading(Message("page.pose.editor_label"))
        skeleton = skeleton_editor(next(iter(preset_sheets().values()), None))
        fit = controls("pose_fit")
        with gr.Accordion(Message("page.pose.keypoints_accordion"), open=False, elem_id="keypoints-panel"):
            keypoints = _keypoints()
    with gr.Column(visible=False, elem_id="pose-aside") as aside:
        gr.HTML(said(Message("page.pose.aside"), tag="p", css_class="ipa-note", role="status"), padding=False)
        with gr.Row():
            back = gr.Button(Message("page.pose.back"), size="sm", elem_id="pose-back")
            find = gr.Button(Message("page.pose.find"), size="sm", elem_id="pose-find")
        options = _photo_options()
    subheading(Message("page.pose.image_label"))
    picture = picture_input(label=Message("page.pose.image_label"), elem_id="pose-image", height=190)
    return _PoseParts(
        presets=presets,
        editing=editing,
        skeleton=skeleton,
        keypoints=keypoints,
        aside=aside,
        back=back,
        find=find,
        options=options,
        picture=picture,
        fit=fit,
    )


def _keypoints() -> _Keypoints:
    text = gr.Textbox(
        label=Message("page.pose.keypoints_label"), lines=4, max_lines=8, max_length=LONGEST_JSON, elem_id="keypoints"
    )
    with gr.Row():
        use = gr.Button(Message("page.pose.keypoints_use"), size="sm", elem_id="keypoints-use")
        file = gr.UploadButton(
            Message("page.pose.keypoints_upload"), size="sm", file_types=[".json"], elem_id="keypoints-file"
        )
    notes = gr.HTML("", padding=False, elem_id="keypoints-notes")
    help_text(Message("page.pose.canvas_help"))
    with gr.Row():
        width, height = (
            gr.Number(0, label=label, precision=0, minimum=0, min_width=120, elem_id=f"keypoints-{side}")
            for side, label in (
                ("width", Message("page.pose.canvas_width")),
                ("height", Message("page.pose.canvas_height")),
            )
        )
    picture = gr.UploadButton(
        Message("page.pose.canvas_upload"), size="sm", file_types=["image"], elem_id="keypoints-picture"
    )
    return _Keypoints(text=text, use=use, file=file, width=width, height=height, picture=picture, notes=notes)


def _photo_options() -> dict[str, Any]:
    """Lay out the options for finding people in a photo; the detector only if there is a choice."""
    with gr.Row():
        finding = controls("pose_hands", "pose_face", min_width=140)
    detector = controls("pose_detector", visible=len(detectors()) > 1)
    help_text(USUAL.told, Message("page.pose.photo_help"))
    return {**finding, **detector}


def _presets_gallery() -> gr.Gallery:
    pictures = preset_pictures()
    subheading(Message("page.pose.presets_label"))
    return gr.Gallery(
        value=[(str(path), preset_title(name)) for name, path in pictures.items()],
        label=Message("page.pose.presets_label"),
        show_label=False,
        elem_id="pose-presets",
        columns=5,
        height="auto",
        allow_preview=False,
        buttons=[],
        interactive=False,
        visible=bool(pictures),
    )


def _connect(parts: _PoseParts) -> None:
    """Connect presets to the editor, and hide it while a picture sets the pose."""
    sheets = list(preset_sheets().values())
    points, given = parts.keypoints, gr.Textbox(visible=False)

    def chosen(event: gr.SelectData) -> Update:
        text, marked = sheets[event.index].to_json(), gr.update(selected_index=event.index)
        return {parts.presets: marked, given: text, parts.skeleton: text, parts.picture: None, points.notes: ""}

    canvas = [points.width, points.height]
    filled = [parts.presets, given, parts.skeleton, parts.picture, points.notes]
    parts.presets.select(chosen, None, filled, **ONE_BY_ONE)
    for change in (parts.skeleton.change, parts.picture.change):
        change(None, [parts.skeleton, parts.picture, given], parts.presets, js=_UNMARK, **AT_ONCE)
    points.picture.upload(read_canvas, points.picture, canvas, preprocess=False, **LATEST)
    parts.picture.change(_step_aside, parts.picture, [parts.editing, parts.aside], preprocess=False, **LATEST_AT_ONCE)
    parts.back.click(lambda: None, None, parts.picture, **AT_ONCE)


def _connect_readers(own: _PoseParts, parts: Parts, runner: Runner) -> None:
    """Bring keypoints and found poses into the editor, fitted to the chosen model's body if that is switched on."""
    options = {**own.options, **own.fit}
    searched = gr.Textbox(visible=False)
    finder = PoseFinder(find=own.find, options=options, picture=own.picture, skeleton=own.skeleton, searched=searched)
    connect_pose_finder(finder, parts, runner)
    points, switch = own.keypoints, own.fit["pose_fit"]
    chosen = [switch, parts.settings.model]
    read, canvas = [own.skeleton, points.notes, points.text], [points.width, points.height]

    def fitting(read_from: Callable[..., tuple[Any, str, Any]]) -> Callable[..., tuple[Any, str, Any]]:
        def fitted(given: Any, width: Any, height: Any, pose_fit: Any, model: str) -> tuple[Any, str, Any]:
            return read_from(given, width, height, fit=fit_for(runner.studio, pose_fit=pose_fit, model=model))

        return fitted

    def switched(text: Any, pose_fit: Any, model: str) -> tuple[Any, str]:
        if not pose_fit or not text:
            return gr.skip(), ""
        return read_keypoints(text, fit=fit_for(runner.studio, pose_fit=pose_fit, model=model))[:2]

    points.use.click(fitting(read_keypoints), [points.text, *canvas, *chosen], read, preprocess=False, **CHECKED)
    points.file.upload(fitting(read_keypoints_file), [points.file, *canvas, *chosen], read, preprocess=False, **LATEST)
    switch.input(switched, [own.skeleton, *chosen], read[:2], preprocess=False, **LATEST)


def read_keypoints(
    text: Any, width: Any = 0, height: Any = 0, *, fit: Callable[[PoseSheet], PoseSheet] = lambda sheet: sheet
) -> tuple[Any, str, Any]:
    """Read pasted keypoints.

    Args:
        text: the file's content.
        width: of the picture that the keypoints belong to, in pixels; 0 if unknown.
        height: of that picture, in pixels; 0 if unknown.
        fit: fits the pose to the model.

    Returns:
        The editor's value, the notes on what was left out, and no update for the text box. If the size of the picture
        is needed: no update for the editor, the question, and the text, so that it can be read again.

    Raises:
        gr.Error: it is not a pose, and why.
    """
    with explained():
        if not text:
            raise UserError("keypoints.nothing_pasted")
        is_known = all(isinstance(side, int | float) and side > 0 for side in (width, height))
        try:
            sheet = fit(PoseSheet.from_json(text, canvas=(width, height) if is_known else None))
        except UnknownCanvasError as question:
            return gr.skip(), notes_html([question.message]), text
        return sheet.to_json(), notes_html(sheet.notes), gr.skip()


def read_keypoints_file(
    payload: Any, width: Any = 0, height: Any = 0, *, fit: Callable[[PoseSheet], PoseSheet] = lambda sheet: sheet
) -> tuple[Any, str, Any]:
    """Read an uploaded file, as `read_keypoints` does.

    Raises:
        gr.Error: it is not a pose, and why.
    """
    with explained():
        path = Path(file_path(payload, field="keypoints", most=None))
        # No character takes more than four bytes.
        if path.stat().st_size > 4 * LONGEST_JSON:
            raise UserError("keypoints.file_too_long")
        content = path.read_bytes()
        try:
            text = content.decode(json.detect_encoding(content))
        except UnicodeDecodeError:
            raise UserError("keypoints.file_not_text") from None
    return read_keypoints(text, width, height, fit=fit)


def read_canvas(payload: Any) -> tuple[int, int]:
    """Return the size of the picture that keypoints belong to.

    Raises:
        gr.Error: it is not a picture, and why.
    """
    with explained(), opening_turn(payload):
        return open_image(file_path(payload, field="pose")).size


def _step_aside(payload: Any) -> tuple[Any, Any]:
    """Hide the editor, keeping its contents, while a picture sets the pose."""
    free = payload is None
    return gr.update(visible=True if free else "hidden"), gr.update(visible=not free)


TAB = Tab(
    lay_out=pose_tab,
    about="Make pictures of the reference's subject in the pose of a skeleton, a photo or (Toybox) a toy picture.",
    beside=("skeleton",),
    read=read_skeleton,
)
