"""The offer to download a model: what it needs, and then its progress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from ipa_app.messages import Message
from ipa_app.models.entry import ModelEntry
from ipa_app.models.state import ModelState
from ipa_app.models.units import size_text
from ipa_app.ui.language.markup import said
from ipa_app.ui.status import status_line

_BUSY = ("downloading", "loading")


@dataclass(frozen=True, kw_only=True)
class OfferPanel:
    """The offer under the choice of models, hidden while there is none.

    `model` is the name of the model on offer, "" for none. `chosen` is the model that requests use meanwhile.
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
        """Return the update that offers a model, or shows its progress.

        Args:
            entry: the model's catalogue entry.
            state: its state.
            meanwhile: the title of the model that is used until it is ready.
        """
        busy = state.phase in _BUSY
        again = Message("page.offer.again") if state.phase == "failed" else Message("page.offer.download")
        return {
            self.model: entry.name,
            self.column: gr.update(visible=True),
            self.text: offer_html(entry, state, meanwhile=meanwhile),
            self.download: gr.update(value=again, visible=not busy),
            self.dismiss: gr.update(
                value=Message("page.offer.cancel") if busy else Message("page.offer.dismiss"),
                visible=state.phase != "loading",
            ),
        }

    def hide(self) -> dict[Any, Any]:
        """Return the update that hides the offer."""
        return {self.model: "", self.column: gr.update(visible=False)}


def offer_panel(*, chosen: str) -> OfferPanel:
    """Lay out the offer, hidden.

    Args:
        chosen: the model that requests use at first.
    """
    with gr.Column(visible=False, elem_id="model-offer", elem_classes="ipa-offer") as column:
        text = gr.HTML("", padding=False, elem_id="offer-text")
        with gr.Row(elem_classes="ipa-actions"):
            download = gr.Button(Message("page.offer.download"), variant="primary", elem_id="offer-download")
            dismiss = gr.Button(Message("page.offer.dismiss"), elem_id="offer-dismiss")
    return OfferPanel(
        model=gr.State(""), chosen=gr.State(chosen), column=column, text=text, download=download, dismiss=dismiss
    )


def offer_html(entry: ModelEntry, state: ModelState, *, meanwhile: str) -> str:
    """Return what a model needs, the progress of its download, or why it failed."""
    if state.phase in _BUSY:
        line = Message(f"model.state.{state.phase}_now", title=entry.title, doing=state.message or "")
        bar = status_line(line, kind="busy", fraction=state.progress or None)
        return f"{bar}{_help(Message('page.offer.meanwhile', title=meanwhile))}"
    facts = (
        (Message("page.offer.size"), Message("page.offer.size_text", size=size_text(entry.download_bytes))),
        (
            Message("page.offer.memory"),
            Message("page.offer.memory_text", gpu=entry.gpu_memory_gb, main=entry.memory_gb),
        ),
        (Message("page.offer.licence"), entry.licence),
    )
    rows = "".join(f"{said(name, tag='dt')}{said(text, tag='dd')}" for name, text in facts)
    failure = ""
    if state.phase == "failed":
        line = status_line(state.message or "", kind="failed")
        failure = f"{line}{_help(Message('page.offer.still_works', title=meanwhile))}"
    heading = said(Message("page.offer.heading", title=entry.title), tag="h3")
    return f"{heading}{_help(entry.about)}<dl>{rows}</dl>{failure}"


def _help(text: str) -> str:
    return said(text, tag="p", css_class="ipa-help")
