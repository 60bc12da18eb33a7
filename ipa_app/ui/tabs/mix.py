"""Text + image: the picture says who, the words say where."""

from __future__ import annotations

import gradio as gr

from ipa_app.messages import Message
from ipa_app.ui.controls import control, picture_input
from ipa_app.ui.tabs.shared import TaskTab, finish_tab, help_text


def mix_tab() -> TaskTab:
    """Lay out the tab."""
    with gr.Tab(Message("page.mix.tab"), id="mix", elem_id="tab-mix") as tab:
        help_text(Message("page.mix.help"))
        with gr.Accordion(Message("page.mix.start_heading"), open=False, elem_id="start-panel") as fold:
            help_text(Message("page.mix.start_help"))
            start = picture_input(label=Message("page.mix.start_heading"), elem_id="start-image", height=190)
            strength = control("strength")
        return finish_tab(
            task="mix",
            tab=tab,
            label=Message("page.prompt_label"),
            inputs={"start_image": start, "strength": strength},
            folds={"start_image": fold},
        )
