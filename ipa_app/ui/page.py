"""The page: three columns, to be used from left to right. The behaviour of its parts is in `wiring`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from ipa_app.engine.references import MOST_REFERENCES
from ipa_app.engine.tasks import TASKS
from ipa_app.messages import Language, Message
from ipa_app.messages import languages as all_languages
from ipa_app.pose.presets import preset_pictures, preset_title
from ipa_app.ui.about import model_note, words_heading, words_html
from ipa_app.ui.api import add_api
from ipa_app.ui.blocks import StudioBlocks
from ipa_app.ui.clearing import KEPT_S
from ipa_app.ui.examples import Example
from ipa_app.ui.form import reference_name
from ipa_app.ui.language.markup import said
from ipa_app.ui.language.switch import language_switch
from ipa_app.ui.library import library_tab
from ipa_app.ui.live import live_panel
from ipa_app.ui.panel import PicturePanel, picture_panel, restore_panel, settings_panel
from ipa_app.ui.parts import Parts
from ipa_app.ui.presentation import presentation_panel
from ipa_app.ui.reference_sets import SetsPanel, sets_panel
from ipa_app.ui.references import reference_slots, weight_label
from ipa_app.ui.results import newest_picture, results_panel
from ipa_app.ui.shortcuts import shortcuts
from ipa_app.ui.status import model_pill
from ipa_app.ui.studio import Studio
from ipa_app.ui.tabs import OPENING, tab_for
from ipa_app.ui.wiring import connect

_CACHE_SECONDS = (3600, KEPT_S)


def build_page(
    studio: Studio,
    *,
    examples: Sequence[Example] = (),
    default_model: str = "toybox",
    languages: Mapping[str, Language] | None = None,
) -> StudioBlocks:
    """Build the page and the public API; nothing heavy is imported or loaded for this.

    Args:
        studio: runs the requests.
        examples: the example pictures; the page opens with the first one of the first tab.
        default_model: the model that is chosen when the page opens; one of the catalogue.
        languages: the languages of the page by code; by default all that have a file.
    """
    files = [*(example.file for example in examples), *preset_pictures().values()]
    gr.set_static_paths(sorted({str(path.parent.resolve()) for path in files}))
    with StudioBlocks(
        title=Message("page.title"), analytics_enabled=False, delete_cache=_CACHE_SECONDS, fill_width=True
    ) as page:
        parts = lay_out(studio, examples=examples, model=default_model, languages=languages)
        connect(parts, page=page, studio=studio, examples=examples)
        add_api(studio)
    return page


def lay_out(
    studio: Studio, *, examples: Sequence[Example], model: str, languages: Mapping[str, Language] | None = None
) -> Parts:
    """Lay out every part of the page, not yet connected; called inside its Blocks."""
    header = _header(studio, model=model, languages=languages, examples=examples)
    newest = newest_picture()
    with gr.Row(elem_classes="ipa-columns", equal_height=False):
        with gr.Column(scale=3, min_width=250, elem_classes="ipa-card"):
            panel, sets = _picture_column(studio, examples, model=model)
        with gr.Column(scale=4, min_width=300, elem_classes="ipa-card"):
            task_parts = _task_column(studio, model=model, beside=panel.inputs)
        with gr.Column(scale=5, min_width=300, elem_classes="ipa-card ipa-results"):
            _heading(3, Message("page.results_heading"))
            live = live_panel(offered=studio.engine.device.offers_live)
            results = results_panel(newest)
    return Parts(panel=panel, sets=sets, live=live, results=results, **header, **task_parts)


def _header(
    studio: Studio, *, model: str, languages: Mapping[str, Language] | None, examples: Sequence[Example]
) -> dict[str, Any]:
    entry = studio.entry(model)
    with gr.Row(elem_classes="ipa-header", equal_height=True):
        gr.HTML(
            f"<h1>{Message('page.title')}</h1>{said(Message('page.tagline'), tag='p')}",
            padding=False,
            elem_classes="ipa-title",
        )
        pill = gr.HTML(
            model_pill(studio.manager.state(entry.name), title=entry.title), padding=False, elem_id="model-state"
        )
        language_switch(languages or all_languages(), known=_known())
        presentation = presentation_panel(examples)
        shortcuts()
    note = gr.HTML(model_note(entry), padding=False, elem_id="model-note")
    return {"pill": pill, "note": note, "presentation": presentation}


def _known() -> list[Message]:
    """Return the initial texts of components that have values, and so cannot be looked up by their English alone."""
    numbers = range(1, MOST_REFERENCES + 1)
    presets = [preset_title(name) for name in preset_pictures()]
    return [*map(reference_name, numbers), *map(weight_label, numbers), *presets]


def _picture_column(studio: Studio, examples: Sequence[Example], *, model: str) -> tuple[PicturePanel, SetsPanel]:
    _heading(1, Message("page.picture_heading"))
    first = next((example for example in examples if example.tab == OPENING), None)
    slots = reference_slots(first_picture=first.file if first else None)
    adapter = first.adapter if first else "base"
    panel = picture_panel(references=slots, adapter=adapter, entry=studio.entry(model), studio=studio)
    return panel, sets_panel(kept=studio.sets is not None)


def _task_column(studio: Studio, *, model: str, beside: Mapping[str, Any]) -> dict[str, Any]:
    _heading(2, Message("page.task_heading"))
    entry = studio.entry(model)
    with gr.Tabs(elem_id="tasks", elem_classes="ipa-with-library" if studio.library else None) as tasks:
        tabs = tuple(tab_for(task).lay_out(entry) for task in TASKS)
        library = library_tab() if studio.library else None
    elsewhere = {*beside, "style", *(name for tab in tabs for name in tab.inputs)}
    settings = settings_panel(catalog=studio.catalog, entry=entry, elsewhere=elsewhere)
    with gr.Accordion(words_heading(entry), open=False, elem_id="words-panel", visible=bool(entry.words)) as panel:
        words = gr.HTML(words_html(entry), padding=False, elem_id="words")
    restore = restore_panel()
    return {
        "tasks": tasks,
        "tabs": tabs,
        "library": library,
        "settings": settings,
        "words_panel": panel,
        "words": words,
        "restore": restore,
    }


def _heading(number: int, text: Message) -> None:
    gr.HTML(f"<h2><b>{number}</b>{said(text)}</h2>", padding=False, elem_classes="ipa-heading")
