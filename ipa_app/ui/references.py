"""One to four reference pictures, each with its own weight; all but the first wait until they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ipa_app.engine.requests import MOST_REFERENCES
from ipa_app.ui import texts
from ipa_app.ui.listeners import AT_ONCE
from ipa_app.ui.panel import picture_input


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Room for one reference: its box on the page, the picture and how much it counts beside the others."""

    box: gr.Column
    image: gr.Image
    weight: gr.Slider


@dataclass(frozen=True, kw_only=True)
class References:
    """All slots, the button that shows one more, and what is only said where there are several."""

    slots: tuple[Slot, ...]
    shown: gr.State
    together: gr.HTML
    add: gr.Button

    @property
    def inputs(self) -> dict[str, Any]:
        """The pictures and weights, named as `collect` reads them."""
        named: dict[str, Any] = {}
        for number, slot in enumerate(self.slots, start=1):
            named |= {f"reference_{number}": slot.image, f"weight_{number}": slot.weight}
        return named

    @property
    def outputs(self) -> list[Any]:
        """Every component that `show` and `fill` may name."""
        return [self.shown, self.together, self.add, *(part for slot in self.slots for part in vars(slot).values())]

    def show(self, count: int) -> dict[Any, Any]:
        """Return the updates that show so many slots; a single picture needs no weight."""
        several = count > 1
        updates: dict[Any, Any] = {slot.box: gr.update(visible=index < count) for index, slot in enumerate(self.slots)}
        updates[self.slots[0].weight] = gr.update(visible=several)
        updates[self.together] = gr.update(visible=several)
        return updates | {self.shown: count, self.add: gr.update(visible=count < len(self.slots))}

    def fill(self, references: list[tuple[str, float]]) -> dict[Any, Any]:
        """Return the updates that put files and weights into the slots, and empty the others."""
        updates = self.show(max(1, len(references)))
        for index, slot in enumerate(self.slots):
            path, weight = references[index] if index < len(references) else (None, 1.0)
            visible = index > 0 or len(references) > 1 or weight != 1.0
            updates |= {slot.image: path, slot.weight: gr.update(value=weight, visible=visible)}
        return updates


def collect(values: dict[str, Any]) -> dict[str, Any]:
    """Take the pictures and weights, named as in `References.inputs`, out of `values` and give them as lists."""
    numbers = range(1, MOST_REFERENCES + 1)
    return {
        "references": [values.pop(f"reference_{number}") for number in numbers],
        "weights": [values.pop(f"weight_{number}") for number in numbers],
    }


def reference_slots(*, first_picture: Path | None) -> References:
    """Lay out the slots and let the button show one more at a time."""
    slots = tuple(_slot(number, picture=first_picture) for number in range(1, MOST_REFERENCES + 1))
    together = gr.HTML(
        f'<p class="ipa-help">{texts.REFERENCES_TOGETHER}</p>', padding=False, visible=False, elem_id="together"
    )
    add = gr.Button(texts.ADD_REFERENCE, size="sm", elem_id="add-reference")
    references = References(slots=slots, shown=gr.State(1), together=together, add=add)
    add.click(
        lambda shown: references.show(min(shown + 1, MOST_REFERENCES)),
        references.shown,
        references.outputs,
        **AT_ONCE,
    )
    return references


def _slot(number: int, *, picture: Path | None) -> Slot:
    is_first = number == 1
    with gr.Column(visible=is_first, elem_classes="ipa-slot") as box:
        image = picture_input(
            label=texts.REFERENCE_LABEL if is_first else texts.MORE_REFERENCE_LABEL.format(number=number),
            elem_id="reference" if is_first else f"reference-{number}",
            height=240 if is_first else 150,
            value=picture if is_first else None,
        )
        weight = gr.Slider(
            label=texts.WEIGHT_LABEL.format(number=number),
            minimum=0,
            maximum=2,
            step=0.05,
            value=1.0,
            buttons=[],
            visible=not is_first,
            elem_id=f"weight-{number}",
        )
    return Slot(box=box, image=image, weight=weight)
