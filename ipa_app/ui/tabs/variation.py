"""Variation: new pictures after a picture."""

from __future__ import annotations

import gradio as gr

from ipa_app.messages import Message
from ipa_app.models.entry import ModelEntry
from ipa_app.ui.adapters import adapters_to_compare
from ipa_app.ui.orders import SERIES
from ipa_app.ui.tabs.shared import Tab, TaskTab, finish_tab, help_text


def variation_tab(entry: ModelEntry) -> TaskTab:
    """Lay out the tab.

    Args:
        entry: the model that is chosen when the page opens.
    """
    with gr.Tab(Message("page.variation.tab"), id="variation", elem_id="tab-variation") as tab:
        help_text(Message("page.variation.help"))
        return finish_tab(
            task="variation",
            tab=tab,
            entry=entry,
            label=Message("page.prompt_optional_label"),
            placeholder=Message("page.prompt_examples.variation"),
            extras={name: Message(order.button) for name, order in SERIES.items()},
            compared=lambda: adapters_to_compare(entry),
        )


TAB = Tab(
    lay_out=variation_tab,
    about=(
        "Make new pictures that resemble a reference picture.\n\n"
        "Returns files of `output_format`, and the settings: every input as used, with `seeds`, one per picture, and "
        "`notes`, sentences on inputs that may have been meant differently. So do the other endpoints that draw."
    ),
    first=("reference", "adapter", "scale"),
)
