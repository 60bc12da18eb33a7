"""Text + image: the reference says who, the prompt says where."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr

from ipa_app.messages import Message
from ipa_app.models.entry import ModelEntry
from ipa_app.ui.controls import control, picture_input
from ipa_app.ui.tabs.shared import Tab, TaskTab, finish_tab, help_text


def mix_tab(entry: ModelEntry) -> TaskTab:
    """Lay out the tab.

    Args:
        entry: the model that is chosen when the page opens.
    """
    with gr.Tab(Message("page.mix.tab"), id="mix", elem_id="tab-mix") as tab:
        help_text(Message("page.mix.help"))
        with gr.Accordion(Message("page.mix.start_heading"), open=False, elem_id="start-panel") as fold:
            help_text(Message("page.mix.start_help"))
            start = picture_input(label=Message("page.mix.start_heading"), elem_id="start-image", height=190)
            strength = control("strength")
        finished = finish_tab(
            task="mix",
            tab=tab,
            entry=entry,
            label=Message("page.prompt_label"),
            placeholder=Message("page.prompt_examples.mix"),
        )
    return replace(finished, inputs={"start_image": start, "strength": strength}, folds={"start_image": fold})


TAB = Tab(
    lay_out=mix_tab,
    about="Make pictures from words together with a reference picture; without one it is plain text-to-image.",
)
