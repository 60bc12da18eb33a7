"""Reference sets: the references with all their options, saved under a name, and shared as one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ipa_app.engine.reference_sets import LONGEST_NAME, ReferenceSet
from ipa_app.engine.references import MOST_REFERENCES, slot_name
from ipa_app.errors import UserError
from ipa_app.library.sets import NamedFiles
from ipa_app.messages import Message
from ipa_app.ui.controls import AT_ONCE, CHECKED, LATEST, Update
from ipa_app.ui.failures import explained, written
from ipa_app.ui.form import read_references
from ipa_app.ui.language.markup import said, status_note
from ipa_app.ui.pictures import keep_picture, keep_text
from ipa_app.ui.references import Filling, References, Replaced
from ipa_app.ui.tabs import OPENING
from ipa_app.ui.uploads import file_path

if TYPE_CHECKING:
    from ipa_app.ui.parts import Parts


LARGEST_SET = 64 * 10**6
_FILE_NAME = "references.json"
_DOWNLOAD = f"""(file) => {{
    Object.assign(document.createElement("a"), {{ href: file.url, download: "{_FILE_NAME}" }}).click();
}}"""
# Once other pictures are shown, the set's name goes, or saving them would overwrite the set.
_LEAVE = """(named, saved, name, ...images) => {
    const isThere = !named || named.every((path, place) => path === (images[place]?.path ?? null));
    const stays = { __type__: "update" };
    return isThere ? Array(5).fill(stays) : [null, null, name === saved ? "" : stays, { ...stays, visible: false }, ""];
}"""


@dataclass(frozen=True, kw_only=True)
class SetsPanel:
    """The accordion; controls that need a library are hidden without one.

    Two components are never shown: `named` holds the paths of the pictures that the others refer to, `handed_on` the
    file to download.
    """

    fold: gr.Accordion
    saved: gr.Dropdown
    delete: gr.Button
    name: gr.Textbox
    save: gr.Button
    file: gr.Button
    upload: gr.UploadButton
    note: gr.HTML
    named: gr.JSON
    handed_on: gr.File

    @property
    def outputs(self) -> list[Any]:
        """Every component that an update may name."""
        return [self.saved, self.delete, self.name, self.file, self.note, self.named]


def sets_panel(*, kept: bool) -> SetsPanel:
    """Lay out the accordion.

    Args:
        kept: whether there is a library to save sets in.
    """
    help_text = Message("page.sets.help") if kept else Message("page.sets.help_file")
    with gr.Accordion(Message("page.sets.heading"), open=False, elem_id="sets-panel") as fold:
        gr.HTML(said(help_text, tag="p", css_class="ipa-help"), padding=False)
        saved = gr.Dropdown(label=Message("page.sets.saved"), choices=[], visible=kept, elem_id="sets-saved")
        name = gr.Textbox(label=Message("page.sets.name"), max_lines=1, max_length=LONGEST_NAME, elem_id="sets-name")
        with gr.Row(elem_classes="ipa-extras"):
            save = gr.Button(Message("page.sets.save"), size="sm", min_width=90, elem_id="sets-save")
            file = gr.Button(Message("page.sets.file"), size="sm", min_width=90, visible=False, elem_id="sets-file")
            upload = gr.UploadButton(
                Message("page.sets.open"), size="sm", min_width=90, file_types=[".json"], elem_id="sets-open"
            )
            delete = gr.Button(
                Message("page.sets.delete"), size="sm", min_width=90, visible=False, elem_id="sets-delete"
            )
        note = gr.HTML("", padding=False, elem_id="sets-note")
    return SetsPanel(
        fold=fold,
        saved=saved,
        delete=delete,
        name=name,
        save=save,
        file=file,
        upload=upload,
        note=note,
        named=gr.JSON(visible=False),
        handed_on=gr.File(visible=False),
    )


def connect_sets(parts: Parts, *, files: NamedFiles | None) -> None:
    """Connect the accordion.

    Args:
        parts: the parts of the page.
        files: the saved sets; None without a library.
    """
    panel, references = parts.sets, parts.panel.references
    sets = Sets(panel, references=references, files=files)
    filled: dict[str, Any] = {"outputs": [*panel.outputs, *references.outputs], **LATEST}
    inputs = {"name": panel.name, **references.inputs}
    saved = panel.save.click(sets.save, inputs_kwargs=inputs, outputs=panel.outputs, preprocess=False, **CHECKED)
    made = panel.file.click(sets.hand_on, inputs_kwargs=inputs, outputs=panel.handed_on, preprocess=False, **CHECKED)
    made.success(None, panel.handed_on, js=_DOWNLOAD, **AT_ONCE)
    images = [slot.image for slot in references.slots]
    left = [panel.named, panel.saved, panel.name, panel.delete, panel.note]
    for change in (*(image.change for image in images), references.shown.change, saved.success):
        change(None, [*left[:3], *images], left, js=_LEAVE, **AT_ONCE)
    references.let_fill(panel.upload.upload, sets.open, {"upload": panel.upload}, **filled)
    if files is not None:
        # Gradio's own check does not know that the choices change.
        unchecked = {"preprocess": False, **CHECKED}
        panel.fold.expand(sets.look, panel.saved, panel.saved, **unchecked)
        references.let_fill(panel.saved.input, sets.choose, {"name": panel.saved}, **filled)
        panel.delete.click(sets.delete, panel.saved, panel.outputs, **unchecked)


class Sets:
    """The event handlers of the accordion, which return updates of the page."""

    def __init__(self, panel: SetsPanel, *, references: References, files: NamedFiles | None) -> None:
        self._panel = panel
        self._references = references
        self._files = files

    def look(self, chosen: str | None) -> Any:
        """Refresh the list of saved sets."""
        names = self._files.names() if self._files else []
        return gr.update(choices=names, value=chosen if chosen in names else None)

    def save(self, *, name: str | None, **sent: Any) -> Update:
        """Save the references and their options under a name."""
        with written():
            made, told = _read(name, sent), "set.as_file"
            if self._files is not None:
                told = "set.replaced" if self._files.save(made.name, made.to_json()) else "set.saved"
            uploads = (sent.get(slot_name("reference", number)) for number in range(1, MOST_REFERENCES + 1))
            shown = self._shown(made.name, [upload and upload["path"] for upload in uploads])
            return {**shown, self._panel.note: status_note(Message(told, name=made.name))}

    def hand_on(self, *, name: str | None, **sent: Any) -> str:
        """Return a file of the current references and their options."""
        with written():
            return keep_text(_read(name, sent).to_json(), name=_FILE_NAME)

    def choose(self, name: str | None, *, over: Replaced | None = None) -> Update:
        """Fill the references from a saved set; the choice itself is not updated, as it may have changed meanwhile."""
        with explained():
            data = self._files.read(name) if self._files and name else None
            if data is None:
                raise UserError("set.gone")
            updates = self._filled(ReferenceSet.from_json(data), over)
        return {part: update for part, update in updates.items() if part is not self._panel.saved}

    def open(self, upload: Any, *, over: Replaced | None = None) -> Update:
        """Fill the references from the file of a set."""
        with explained():
            path = file_path(upload, field=Message("upload.set"), most=LARGEST_SET)
            return self._filled(ReferenceSet.from_json(Path(path).read_bytes()), over)

    def delete(self, name: str | None) -> Update:
        """Delete the chosen set; the references on the page stay."""
        with written():
            if not self._files or not name or not self._files.delete(name):
                raise UserError("set.gone")
        panel, told = self._panel, status_note(Message("set.deleted", name=name))
        gone = {panel.saved: self.look(None), panel.delete: gr.update(visible=False), panel.named: None}
        return {**gone, panel.note: told}

    def _filled(self, opened: ReferenceSet, over: Replaced | None) -> Update:
        fillings = [Filling(path=keep_picture(each.image), said=vars(each)) for each in opened.references]
        shown = self._shown(opened.name, [each.path for each in fillings])
        note = status_note(Message("set.opened", name=opened.name))
        return {**self._references.fill(fillings, over=over), **shown, self._panel.note: note}

    def _shown(self, name: str, paths: Sequence[str | None]) -> Update:
        panel, saved = self._panel, self.look(name)
        return {
            panel.saved: saved,
            panel.delete: gr.update(visible=saved["value"] is not None),
            panel.name: name,
            panel.file: gr.update(visible=True),
            panel.named: [*paths, *[None] * (MOST_REFERENCES - len(paths))],
        }


def _read(name: str | None, sent: Mapping[str, object]) -> ReferenceSet:
    references, _ = read_references(sent, task=OPENING)
    return ReferenceSet(name=name or "", references=references)
