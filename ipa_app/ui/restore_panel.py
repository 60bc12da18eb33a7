"""Where a picture can be dropped, to have everything set as it was for it."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from ipa_app.messages import Message
from ipa_app.ui.language.markup import said


@dataclass(frozen=True, kw_only=True)
class RestorePanel:
    """The drop box, and the line that says how it went."""

    file: gr.File
    note: gr.HTML


def restore_panel() -> RestorePanel:
    """Lay out the accordion."""
    with gr.Accordion(Message("page.restore.heading"), open=False, elem_id="restore-panel"):
        gr.HTML(said(Message("page.restore.help"), tag="p", css_class="ipa-help"), padding=False)
        file = gr.File(
            label=Message("page.restore.file"),
            show_label=False,
            file_types=[".png", ".jpg", ".jpeg", ".webp"],
            height=110,
            elem_id="restore-file",
        )
        note = gr.HTML("", padding=False, elem_id="restore-note")
    return RestorePanel(file=file, note=note)
