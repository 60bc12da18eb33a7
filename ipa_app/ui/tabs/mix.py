"""Text + image: the picture says who, the words say where."""

from __future__ import annotations

import gradio as gr

from ipa_app.ui import texts
from ipa_app.ui.tabs.shared import TaskTab, finish_tab, help_text


def mix_tab() -> TaskTab:
    """Lay out the tab."""
    with gr.Tab(texts.MIX_TAB, id="mix", elem_id="tab-mix") as tab:
        help_text(texts.MIX_HELP)
        return finish_tab(task="mix", tab=tab, label=texts.PROMPT_LABEL)
