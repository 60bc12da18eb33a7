"""What is shown of a model that has to be downloaded first: what it takes, and then how far it is."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ipa_app.models.amounts import size_text
from ipa_app.models.entry import ModelEntry
from ipa_app.models.state import ModelState
from ipa_app.ui import texts
from ipa_app.ui.status import status_line

_BUSY = ("downloading", "loading")


@dataclass(frozen=True, kw_only=True)
class OfferPanel:
    """The offer under the choice of models, hidden while there is none.

    `model` is the name of the model on offer, "" for none. `chosen` is the one that requests go to meanwhile.
    """

    model: gr.State
    chosen: gr.State
    column: gr.Column
    text: gr.HTML
    download: gr.Button
    dismiss: gr.Button

    @property
    def outputs(self) -> list[Any]:
        """Every component that an update may name."""
        return list(vars(self).values())

    def show(self, entry: ModelEntry, state: ModelState, *, meanwhile: str) -> dict[Any, Any]:
        """Return the update that offers a model, or tells how far it is.

        Args:
            entry: of the model.
            state: where it stands.
            meanwhile: title of the model that is used until it is there.
        """
        busy = state.phase in _BUSY
        again = texts.OFFER_AGAIN if state.phase == "failed" else texts.OFFER_DOWNLOAD
        return {
            self.model: entry.name,
            self.column: gr.update(visible=True),
            self.text: offer_html(entry, state, meanwhile=meanwhile),
            self.download: gr.update(value=again, visible=not busy),
            self.dismiss: gr.update(
                value=texts.OFFER_CANCEL if busy else texts.OFFER_DISMISS, visible=state.phase != "loading"
            ),
        }

    def hide(self) -> dict[Any, Any]:
        """Return the update that takes the offer away."""
        return {self.model: "", self.column: gr.update(visible=False)}


def offer_panel(*, chosen: str) -> OfferPanel:
    """Lay out the offer, hidden.

    Args:
        chosen: the model that requests go to at first.
    """
    with gr.Column(visible=False, elem_id="model-offer", elem_classes="ipa-offer") as column:
        text = gr.HTML("", padding=False, elem_id="offer-text")
        with gr.Row(elem_classes="ipa-actions"):
            download = gr.Button(texts.OFFER_DOWNLOAD, variant="primary", elem_id="offer-download")
            dismiss = gr.Button(texts.OFFER_DISMISS, elem_id="offer-dismiss")
    return OfferPanel(
        model=gr.State(""), chosen=gr.State(chosen), column=column, text=text, download=download, dismiss=dismiss
    )


def offer_html(entry: ModelEntry, state: ModelState, *, meanwhile: str) -> str:
    """Say what a model takes, how far its download is, or why it failed."""
    title, other = html.escape(entry.title), html.escape(meanwhile)
    if state.phase in _BUSY:
        phase = texts.MODEL_DOWNLOADING if state.phase == "downloading" else texts.MODEL_LOADING
        line = f"{phase.format(title=entry.title)}: {state.message}"
        bar = status_line(line, kind="busy", fraction=state.progress or None)
        return f'{bar}<p class="ipa-help">{texts.OFFER_MEANWHILE.format(title=other)}</p>'
    facts = [
        (texts.OFFER_SIZE, texts.OFFER_SIZE_TEXT.format(size=size_text(entry.download_bytes))),
        (texts.OFFER_MEMORY, texts.OFFER_MEMORY_TEXT.format(gpu=entry.gpu_memory_gb, main=entry.memory_gb)),
        (texts.OFFER_LICENCE, entry.licence),
    ]
    rows = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in facts)
    failure = ""
    if state.phase == "failed":
        line = status_line(state.message, kind="failed")
        failure = f'{line}<p class="ipa-help">{texts.OFFER_STILL_WORKS.format(title=other)}</p>'
    heading = texts.OFFER_HEADING.format(title=title)
    return f'<h3>{heading}</h3><p class="ipa-help">{html.escape(entry.about)}</p><dl>{rows}</dl>{failure}'
