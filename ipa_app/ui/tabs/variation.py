"""Variation: new pictures after a picture."""

from __future__ import annotations

import gradio as gr

from ipa_app.models.entry import ModelEntry
from ipa_app.ui import texts
from ipa_app.ui.adapters import adapters_to_compare
from ipa_app.ui.tabs.shared import Tab, TaskTab, finish_tab, help_text


def variation_tab(entry: ModelEntry) -> TaskTab:
    """Lay out the tab.

    Args:
        entry: the model that is chosen when the page opens.
    """
    with gr.Tab(texts.VARIATION_TAB, id="variation", elem_id="tab-variation") as tab:
        help_text(texts.VARIATION_HELP)
        return finish_tab(
            task="variation",
            tab=tab,
            label=texts.PROMPT_OPTIONAL_LABEL,
            placeholder=texts.PROMPT_EXAMPLES["variation"],
            extras=texts.SERIES_BUTTONS,
            compared=lambda: adapters_to_compare(entry),
        )


TAB = Tab(
    lay_out=variation_tab,
    about=(
        "Make new pictures that take after a reference picture.\n\n"
        "Returns PNG files, and the settings: every input as used, with `seeds`, one per picture, and `notes`, "
        "sentences on how an input was understood where that may not be what was meant. So do all others."
    ),
    first=("reference", "adapter", "scale"),
)
