"""The parts of the page by name, so that they can be connected after the layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from ipa_app.ui.library import LibraryPanel
from ipa_app.ui.live import LivePanel
from ipa_app.ui.panel import PicturePanel, RestorePanel, SettingsPanel
from ipa_app.ui.presentation import PresentationPanel
from ipa_app.ui.reference_sets import SetsPanel
from ipa_app.ui.results import ResultsPanel
from ipa_app.ui.tabs.shared import TaskTab


@dataclass(frozen=True, kw_only=True)
class Parts:
    """All parts of the page that have event handlers or are updated by them."""

    pill: gr.HTML
    note: gr.HTML
    panel: PicturePanel
    tasks: gr.Tabs
    tabs: tuple[TaskTab, ...]
    library: LibraryPanel | None
    settings: SettingsPanel
    words_panel: gr.Accordion
    words: gr.HTML
    restore: RestorePanel
    live: LivePanel
    results: ResultsPanel
    presentation: PresentationPanel
    sets: SetsPanel

    def tab_of(self, task: str) -> TaskTab:
        """Return the tab of a task."""
        return next(tab for tab in self.tabs if tab.task == task)

    def inputs_of(self, tab: TaskTab) -> dict[str, Any]:
        """Return all inputs of a tab's request, by the names that `build_request` expects."""
        panel = self.panel
        beside = {**panel.references.inputs, **panel.inputs, **self.settings.inputs}
        return {**beside, "prompt": tab.prompt, "style": tab.style, **tab.inputs}
