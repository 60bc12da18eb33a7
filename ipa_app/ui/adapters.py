"""The choice of adapters: those that a model has, and those whose files a visitor uploads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.adapters import ENDINGS
from ipa_app.models.entry import AdapterEntry, ModelEntry
from ipa_app.ui.controls import AT_ONCE, LATEST, Update, dropped_into
from ipa_app.ui.failures import explained
from ipa_app.ui.language.markup import known, said
from ipa_app.ui.status import notes_html
from ipa_app.ui.uploads import file_path

if TYPE_CHECKING:
    from ipa_app.ui.parts import Parts
    from ipa_app.ui.studio import Studio

Choice = tuple[str, str]

MOST_OWN = 8


@dataclass(frozen=True, kw_only=True)
class AdapterPanel:
    """The choice of the adapter, and the box where the file of another one can be dropped.

    `own` holds the keys of the adapters that this visitor has uploaded; they are removed when the session ends.
    """

    choice: gr.Radio
    left_out: gr.HTML
    file: gr.File
    note: gr.HTML
    own: gr.State


def adapter_choice(entry: ModelEntry, *, chosen: str) -> tuple[gr.Radio, gr.HTML]:
    """Lay out the choice, and the list of adapters that cannot be used.

    Args:
        entry: the model that is chosen when the page opens.
        chosen: the adapter that is chosen when the page opens.
    """
    choices = adapter_choices(entry)
    told = known(label for label, _ in choices)
    choice = gr.Radio(
        label=Message("page.adapter.label"),
        choices=choices,
        value=chosen,
        info=Message("page.adapter.help"),
        elem_id="adapter",
    )
    return choice, gr.HTML(left_out_html(entry) + told, padding=False, elem_id="adapters-left-out")


def adapter_panel(choice: gr.Radio, left_out: gr.HTML, *, studio: Studio) -> AdapterPanel:
    """Lay out the drop box for adapter files, for a choice that is laid out already.

    Args:
        choice: the choice of adapters.
        left_out: the list of adapters that cannot be used.
        studio: removes a visitor's own adapters at the end of the session.
    """
    with gr.Accordion(Message("page.adapter.file_heading"), open=False, elem_id="adapter-file-panel"):
        gr.HTML(said(Message("page.adapter.file_help"), tag="p", css_class="ipa-help"), padding=False)
        file = gr.File(
            label=Message("page.adapter.file_label"),
            show_label=False,
            file_types=list(ENDINGS),
            height=110,
            elem_id="adapter-file",
        )
        note = gr.HTML("", padding=False, elem_id="adapter-note")
    own = gr.State([], delete_callback=studio.manager.adapters.remove)
    return AdapterPanel(choice=choice, left_out=left_out, file=file, note=note, own=own)


def adapters_to_compare(entry: ModelEntry) -> gr.CheckboxGroup:
    """Lay out the choice of the adapters to compare, hidden where there are no more than two."""
    choices = adapter_choices(entry)
    return gr.CheckboxGroup(
        label=Message("page.series.adapters"),
        choices=choices,
        value=[value for _, value in choices[:2]],
        visible=len(choices) > 2,
        elem_id="compared-adapters",
    )


def connect_adapters(parts: Parts, *, page: gr.Blocks, studio: Studio) -> None:
    """Connect the drop box, and update the choice when the page is opened."""
    menu, panel = AdapterMenu(parts, studio=studio), parts.panel.adapters
    inputs = [parts.settings.model, panel.own, panel.choice, *menu.compared]
    page.load(menu.show, inputs, menu.outputs, preprocess=False, **AT_ONCE)
    press, dropped = dropped_into(panel.file)
    press(menu.add, [dropped, *inputs], [*menu.outputs, panel.file], preprocess=False, **LATEST)


class AdapterMenu:
    """What the page shows of a model's adapters."""

    def __init__(self, parts: Parts, *, studio: Studio) -> None:
        self._panel = parts.panel.adapters
        self.compared = [tab.compared for tab in parts.tabs if tab.compared]
        self._studio = studio

    @property
    def outputs(self) -> list[Any]:
        """Every component that an update may name."""
        panel = self._panel
        return [panel.choice, panel.left_out, panel.note, panel.own, *self.compared]

    def show(self, model: str, own: Sequence[str], chosen: str | None, *compared: Sequence[str]) -> Update:
        """Show the adapters of a model; the current choice stays if the model has it.

        A choice that stays is not part of the update: by the time it arrives, the visitor may have chosen another one.

        Args:
            model: the name of the model.
            own: the keys of the adapters that the visitor has uploaded.
            chosen: the adapter to draw with.
            compared: the adapters to compare, for each tab that compares; by default the model's first two.
        """
        entry = self._studio.entry(model)
        choices = adapter_choices(entry, own)
        values = [value for _, value in choices]
        kept: dict[str, Any] = {} if chosen in values else {"value": next(iter(values), None)}
        updates: Update = {self._panel.choice: gr.update(choices=choices, **kept)}
        for number, box in enumerate(self.compared):
            ticked = compared[number] if number < len(compared) else None
            stays = ticked is not None and set(ticked) <= set(values)
            kept = {} if stays else {"value": values[:2]}
            updates[box] = gr.update(choices=choices, visible=len(values) > 2, **kept)
        told = left_out_html(entry) + known(label for label, _ in choices)
        return {**updates, self._panel.left_out: told}

    def add(self, payload: Any, model: str, own: Sequence[str], chosen: str | None, *compared: Sequence[str]) -> Update:
        """Add a dropped file to this visitor's choice, choose it, and empty the drop box."""
        panel, added = self._panel, None
        with explained():
            try:
                path = Path(file_path(payload, field=Message("page.adapter.file_label"), most=None))
                added = self._studio.manager.adapters.add(path, entry=self._studio.entry(model), own=own)
                keys = [*own, added]
                self._studio.manager.adapters.remove(keys[:-MOST_OWN])
                own = keys[-MOST_OWN:]
                note = Message("adapters.added", name=self._studio.entry(model).adapter(added).title)
            except UserError as error:
                note = error.message
        shown = self.show(model, own, chosen, *compared)
        if added is not None:
            shown[panel.choice] = gr.update(**{**shown[panel.choice], "value": added})
        return {**shown, panel.own: own, panel.note: notes_html([note]), panel.file: None}


def adapter_choices(entry: ModelEntry, own: Collection[str] = ()) -> list[Choice]:
    """Return the adapters that a visitor may choose, as pairs of the label and the name in requests.

    Args:
        entry: the model.
        own: the keys of the adapters that the visitor has uploaded.
    """
    seen = {**entry.listed_adapters, **{key: entry.adapters[key] for key in own if key in entry.adapters}}
    return [(_label(adapter), name) for name, adapter in seen.items()]


def adapters_named(entry: ModelEntry, names: Sequence[str] | None) -> Mapping[str, AdapterEntry]:
    """Return adapters by their names in requests; for None, the model's first two.

    Raises:
        UserError: the model lacks one of them.
    """
    names = list(entry.listed_adapters)[:2] if names is None else names
    return {name: entry.adapter(name) for name in names}


def adapter_title(entry: ModelEntry, name: str) -> str:
    """Return the title of an adapter that a result names."""
    return entry.adapters[name].title if name in entry.adapters else name


def name_to_ask(entry: ModelEntry, name: str, own: Collection[str]) -> str:
    """Return the name in requests of the adapter that a result names.

    Args:
        entry: the model.
        name: the name noted in the result.
        own: the keys of the adapters that the visitor has uploaded.
    """
    mine = (key for key in own if key in entry.adapters and entry.adapters[key].name == name)
    if (key := next(mine, None)) is not None:
        return key
    try:
        found = entry.adapter(name)
    except UserError:
        return name  # the request then refuses it with a sentence
    return next(listed for listed, each in entry.adapters.items() if each is found)


def left_out_html(entry: ModelEntry) -> str:
    """Return the list of adapter files that cannot be used with a model, and why; empty if there are none."""
    if not entry.left_out:
        return ""
    heading = said(Message("adapters.left_out", count=len(entry.left_out)), tag="summary")
    lines = "".join(said(sentence, tag="li") for sentence in entry.left_out)
    return f'<details class="ipa-left-out">{heading}<ul>{lines}</ul></details>'


def _label(adapter: AdapterEntry) -> str:
    return Message("adapter.choice", title=adapter.title, about=adapter.about) if adapter.about else adapter.title
