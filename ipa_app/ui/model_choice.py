"""Choosing a model: a local one is loaded, any other is offered for download; nothing is downloaded unasked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from ipa_app.ui.about import memory_note, model_note, words_heading, words_html
from ipa_app.ui.adapters import AdapterMenu
from ipa_app.ui.controls import AT_ONCE, CHECKED, LATEST, Update, offer_styles
from ipa_app.ui.failures import explained
from ipa_app.ui.panel import offer_parts, offer_speeds
from ipa_app.ui.parts import Parts
from ipa_app.ui.status import model_pill
from ipa_app.ui.studio import Studio

_ON_ITS_WAY = ("downloading", "loading")


def connect_model_choice(parts: Parts, *, studio: Studio) -> None:
    """Connect the choice of models, the offer under it and the state in the header."""
    choice = ModelChoice(parts, studio=studio, timer=gr.Timer(1.0))
    offer, model = parts.settings.offer, parts.settings.model
    choice.timer.tick(choice.look, [offer.chosen, offer.model], choice.outputs, **AT_ONCE)
    adapters = [parts.panel.adapters.own, parts.panel.adapters.choice]
    styles = [tab.style for tab in parts.tabs]
    # Without preprocessing: restoring sets a model and its adapter at once, and Gradio would check that adapter against
    # the choices of the previous model.
    chosen = [model, offer.chosen, offer.model, *adapters, *styles]
    model.change(choice.choose, chosen, choice.outputs, preprocess=False, **LATEST)
    offer.download.click(choice.download, [offer.model, offer.chosen], choice.outputs, **CHECKED)
    offer.dismiss.click(choice.dismiss, [offer.model, offer.chosen], choice.outputs, **CHECKED)


class ModelChoice:
    """The event handlers of the choice of models. A model on offer only becomes the chosen one when it is ready."""

    def __init__(self, parts: Parts, *, studio: Studio, timer: gr.Timer) -> None:
        self.timer = timer
        self._parts = parts
        self._studio = studio
        self._offer = parts.settings.offer
        self._adapters = AdapterMenu(parts, studio=studio)

    @property
    def outputs(self) -> list[Any]:
        """Every component that an update may name."""
        parts = self._parts
        shown = [parts.settings.model, parts.settings.memory, parts.panel.part, parts.pill, parts.note]
        shown += [
            parts.settings.speed,
            *(tab.style for tab in parts.tabs),
            parts.words_panel,
            parts.words,
            *self._adapters.outputs,
        ]
        return [self.timer, *shown, *self._offer.outputs]

    def look(self, chosen: str, offered: str) -> Update:
        """Show the state of the chosen model and of the one on offer; choose the latter as soon as it is ready."""
        manager, entry = self._studio.manager, self._studio.entry(chosen)
        state = manager.state(entry.name)
        pill = model_pill(state, title=entry.title)
        updates: Update = {}
        awaited = state.phase not in ("ready", "failed")
        if offered:
            far, far_state = self._studio.entry(offered), manager.state(offered)
            if far_state.phase == "ready":
                return {**self._offer.hide(), self._parts.settings.model: far.name}
            updates = self._offer.show(far, far_state, meanwhile=entry.title)
            if far_state.phase in _ON_ITS_WAY:
                pill, awaited = model_pill(far_state, title=far.title), True
        memory = {self._parts.settings.memory: memory_note(state.memory)}
        return {**updates, **memory, self._parts.pill: pill, self.timer: gr.Timer(active=awaited)}

    def choose(
        self, name: str, chosen: str, offered: str, own: Sequence[str] = (), adapter: str | None = None, *styles: str
    ) -> Update:
        """Load the chosen model; if it is not downloaded, offer it and keep the previous model meanwhile."""
        manager, entry = self._studio.manager, self._studio.entry(name)
        with explained():
            if manager.needs_download(entry.name) or manager.state(entry.name).phase == "downloading":
                return {self._parts.settings.model: chosen, **self._offered(entry.name, chosen)}
            manager.start(entry.name)
        return {
            **(self._offer.hide() if offered == entry.name else {}),
            self._offer.chosen: entry.name,
            self.timer: gr.Timer(active=True),
            **self._adapters.show(entry.name, own, adapter),
            self._parts.panel.part: offer_parts(entry),
            self._parts.settings.speed: offer_speeds(entry),
            self._parts.note: model_note(entry),
            self._parts.words_panel: gr.update(label=words_heading(entry), visible=bool(entry.words)),
            self._parts.words: words_html(entry),
            **{
                tab.style: offer_styles(entry, chosen=style)
                for tab, style in zip(self._parts.tabs, styles, strict=False)
            },
        }

    def download(self, offered: str, chosen: str) -> Update:
        """Start to download the model on offer."""
        with explained():
            self._studio.manager.download(offered)
            return self._offered(offered, chosen)

    def dismiss(self, offered: str, chosen: str) -> Update:
        """Stop the download, or hide the offer if there is none."""
        with explained():
            if self._studio.manager.state(offered).phase == "downloading":
                self._studio.manager.cancel(offered)
                return self._offered(offered, chosen)
        return self._offer.hide()

    def _offered(self, name: str, chosen: str) -> Update:
        entry, state = self._studio.entry(name), self._studio.manager.state(name)
        shown = self._offer.show(entry, state, meanwhile=self._studio.entry(chosen).title)
        return {**shown, self.timer: gr.Timer(active=True)}
