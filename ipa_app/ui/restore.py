"""Setting every control as it was for a picture made here."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import gradio as gr
from PIL import Image

from ipa_app.engine.recipes import read_request
from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.imaging.png import read_settings
from ipa_app.models.entry import ModelEntry
from ipa_app.models.hashing import file_hash
from ipa_app.pose.options import detectors
from ipa_app.pose.sheet import PoseSheet
from ipa_app.ui import texts
from ipa_app.ui.adapters import name_to_ask
from ipa_app.ui.failures import explained
from ipa_app.ui.kept import keep_picture
from ipa_app.ui.listeners import CHECKED
from ipa_app.ui.parts import Parts
from ipa_app.ui.references import Filling
from ipa_app.ui.studio import Studio
from ipa_app.ui.uploads import file_path

Update = dict[Any, Any]

_USUAL = {field.name: field.default for field in fields(GenerateRequest)}


def connect_restore(parts: Parts, *, restorer: Restorer) -> None:
    """Let a dropped file set the controls."""
    parts.restore.file.upload(
        restorer.from_upload,
        [parts.restore.file, parts.panel.adapters.own],
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
            *parts.panel.folds.values(),
        ]
        for tab in parts.tabs:
            components += [*parts.inputs_of(tab).values(), *tab.folds.values()]
        return list(dict.fromkeys(components))

    def from_upload(self, payload: Any, own: Sequence[str] = ()) -> Update:
        """Set everything as it was for the dropped picture; the drop box is empty again afterwards.

        Args:
            payload: the upload.
            own: the keys of the adapters that the visitor has brought.
        """
        parts = self._parts
        with explained():
            try:
                updates = self._from_file(file_path(payload, field="The picture"), own)
            except UserError as error:
                updates = {parts.restore.note: _note(str(error))}
        return {**updates, parts.restore.file: None}

    def from_result(self, path: str, own: Sequence[str] = ()) -> Update:
        """Set everything as it was for a picture of this visit; `own` is as for `from_upload`."""
        with explained():
            return self._from_file(path, own)

    def _from_file(self, path: str, own: Sequence[str]) -> Update:
        request = read_request(path)
        entry = self._studio.entry(request.model)
        request = replace(request, adapter=name_to_ask(entry, request.adapter, own))
        self._studio.check(request)
        return {**self._controls(request), self._parts.restore.note: _note(self._said(path, request.adapter, entry))}

    def _said(self, path: str, adapter: str, entry: ModelEntry) -> str:
        """Say that all is as it was, or which adapter is not."""
        noted = (read_settings(path) or {}).get("adapter_sha256")
        if noted is None or noted == file_hash(entry.adapter(adapter).file):
            return texts.RESTORED
        return texts.RESTORED_OTHER_ADAPTER.format(name=entry.adapter(adapter).title)

    def _controls(self, request: GenerateRequest) -> Update:
        parts, tab = self._parts, self._parts.tab_of(request.task)
        references = [
            Filling(
                path=keep_picture(each.image),
                weight=each.weight,
                view=each.view,
                centre=(each.centre_x, each.centre_y),
                region=each.region,
            )
            for each in request.references
        ]
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
                updates[component] = keep_picture(value) if isinstance(value, Image.Image) else value
        if tab.pose_finder and request.pose_detector not in detectors():
            # Not offered otherwise; or else nobody could choose another one.
            updates[tab.pose_finder.options["pose_detector"]] = gr.update(value=request.pose_detector, visible=True)
        return updates | _opened({**parts.panel.folds, **tab.folds}, values=values)


def _opened(folds: Mapping[str, gr.Accordion], *, values: Mapping[str, Any]) -> Update:
    """Open the accordions in which anything is other than usual, and close the others."""
    unusual: dict[gr.Accordion, bool] = {}
    for name, fold in folds.items():
        unusual[fold] = unusual.get(fold, False) or values[name] != _USUAL[name]
    return {fold: gr.update(open=is_unusual) for fold, is_unusual in unusual.items()}


def _note(text: str) -> str:
    return f'<p class="ipa-note" role="status">{html.escape(text)}</p>'
