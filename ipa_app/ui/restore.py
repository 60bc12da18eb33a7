"""Setting every control as it was for a picture made here."""

from __future__ import annotations

import html
from dataclasses import fields
from typing import Any

import gradio as gr
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from ipa_app.engine.recipes import read_request
from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.pose.sheet import PoseSheet
from ipa_app.ui import texts
from ipa_app.ui.failures import explained
from ipa_app.ui.listeners import CHECKED
from ipa_app.ui.parts import Parts
from ipa_app.ui.studio import Studio
from ipa_app.ui.uploads import file_path

Update = dict[Any, Any]

_DEFAULTS = {field.name: field.default for field in fields(GenerateRequest)}


def connect_restore(parts: Parts, *, restorer: Restorer) -> None:
    """Let a dropped file set the controls."""
    parts.restore.file.upload(
        restorer.from_upload,
        parts.restore.file,
        restorer.outputs,
        preprocess=False,
        **CHECKED,
    )


class Restorer:
    """Turns a result's file into updates of the page: of every control, or of none and a sentence that says why."""

    def __init__(self, parts: Parts, *, studio: Studio) -> None:
        self._parts = parts
        self._studio = studio

    @property
    def outputs(self) -> list[Any]:
        """Every component that an update may name."""
        parts = self._parts
        components: list[Any] = [
            parts.tasks,
            parts.restore.file,
            parts.restore.note,
            parts.panel.suited_scale,
            *parts.panel.references.outputs,
        ]
        for tab in parts.tabs:
            components += [*parts.inputs_of(tab).values(), *tab.folds]
        return list(dict.fromkeys(components))

    def from_upload(self, payload: Any) -> Update:
        """Set everything as it was for the dropped picture; the drop box is empty again afterwards."""
        parts = self._parts
        with explained():
            try:
                updates = self._from_file(file_path(payload, field="The picture"))
            except UserError as error:
                updates = {parts.restore.note: _note(str(error))}
        return {**updates, parts.restore.file: None}

    def from_result(self, path: str) -> Update:
        """Set everything as it was for a picture of this visit."""
        with explained():
            return self._from_file(path)

    def _from_file(self, path: str) -> Update:
        request = read_request(path)
        self._studio.check(request)
        return {**self._controls(request), self._parts.restore.note: _note(texts.RESTORED)}

    def _controls(self, request: GenerateRequest) -> Update:
        parts, tab = self._parts, self._parts.tab_of(request.task)
        references = [(_saved(each.image), each.weight) for each in request.references]
        updates: Update = {
            parts.tasks: gr.update(selected=request.task),
            # The strength stays as it is set here when the tab changes.
            parts.panel.suited_scale: tab.default_scale,
            **parts.panel.references.fill(references),
        }
        values = {**vars(request), "guidance": request.guidance_scale}
        if isinstance(request.pose, PoseSheet):
            # Into the editor; a picture would be used instead of it.
            values |= {"pose": None, "skeleton": request.pose.to_json()}
        for name, component in parts.inputs_of(tab).items():
            if name in values:
                value = values[name]
                updates[component] = _saved(value) if isinstance(value, Image.Image) else value
        changed = {name for name, value in values.items() if name in _DEFAULTS and value != _DEFAULTS[name]}
        folds = {fold: gr.update(open=bool(changed & names)) for fold, names in tab.folds.items()}
        return updates | folds


def _saved(image: Image.Image) -> str:
    """Keep a picture among the files that Gradio serves and clears away, exactly."""
    return save_pil_to_cache(image, cache_dir=get_upload_folder(), format="png")


def _note(text: str) -> str:
    return f'<p class="ipa-note" role="status">{html.escape(text)}</p>'
