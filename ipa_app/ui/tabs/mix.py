"""Text + image: the picture says who, the words say where."""

from __future__ import annotations

import gradio as gr

from ipa_app.ui import texts
from ipa_app.ui.controls import control, picture_input
from ipa_app.ui.tabs.shared import TaskTab, finish_tab, help_text


def mix_tab() -> TaskTab:
    """Lay out the tab."""
    with gr.Tab(texts.MIX_TAB, id="mix", elem_id="tab-mix") as tab:
        help_text(texts.MIX_HELP)
        with gr.Accordion(texts.START_HEADING, open=False, elem_id="start-panel") as fold:
            help_text(texts.START_HELP)
            start = picture_input(label=texts.START_HEADING, elem_id="start-image", height=190)
            strength = control("strength")
        return finish_tab(
            task="mix",
            tab=tab,
            label=texts.PROMPT_LABEL,
            inputs={"start_image": start, "strength": strength},
            folds={"start_image": fold},
        )
