"""The page's parts by name, so that they can be connected after they are laid out."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from ipa_app.ui.panel import PicturePanel, SettingsPanel
from ipa_app.ui.results import ResultsPanel
from ipa_app.ui.tabs.shared import TaskTab


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything on the page that does something."""

    pill: gr.HTML
    note: gr.HTML
    panel: PicturePanel
    tabs: tuple[TaskTab, ...]
    settings: SettingsPanel
    words_panel: gr.Accordion
    words: gr.HTML
    results: ResultsPanel
