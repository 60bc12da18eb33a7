"""One to four reference pictures, each with its own weight; all but the first wait until they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ipa_app.engine.requests import MOST_REFERENCES, RegionName
from ipa_app.imaging.cropping import SquareMode
from ipa_app.ui import texts
from ipa_app.ui.form import slot_name
from ipa_app.ui.listeners import AT_ONCE
from ipa_app.ui.panel import picture_input
from ipa_app.ui.seen import seen_html
from ipa_app.ui.sliders import slider


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Room for one reference: its box on the page, the picture, its square and how much it counts beside the others.

    Attributes:
        box: holds the others.
        image: the picture.
        seen: the square of it that the model looks at.
        fold: holds the choice of the square and of the region.
        view: how the picture becomes a square.
        place: holds the sliders that move the crop.
        across: the crop's middle, from left to right.
        down: the crop's middle, from top to bottom.
        region: where in the new picture it counts.
        weight: beside the other references.
    """

    box: gr.Column
    image: gr.Image
    seen: gr.HTML
    fold: gr.Accordion
    view: gr.Radio
    place: gr.Column
    across: gr.Slider
    down: gr.Slider
    region: gr.Radio
    weight: gr.Slider

    @property
    def inputs(self) -> dict[str, Any]:
        """What a reference is made from, by the names that programs know its options by."""
        square = {"view": self.view, "centre_x": self.across, "centre_y": self.down}
        return {"reference": self.image, "weight": self.weight, "region": self.region, **square}


@dataclass(frozen=True, kw_only=True)
class Filling:
    """What goes into a slot: a picture's file, and the values that belong to it."""

    path: str | None = None
    weight: float = 1.0
    view: SquareMode = "crop"
    centre: tuple[float, float] = (0.5, 0.5)
    region: RegionName = "everywhere"

    @property
    def is_usual(self) -> bool:
        """Whether nothing was changed in the slot's accordion."""
        usual = Filling()
        return (self.view, self.centre, self.region) == (usual.view, usual.centre, usual.region)

    @property
    def seen(self) -> str:
        """What the model looks at, as HTML."""
        upload = None if self.path is None else {"path": self.path}
        return seen_html(upload, view=self.view, centre=self.centre)


@dataclass(frozen=True, kw_only=True)
class References:
    """All slots, the button that shows one more, and what is only said where there are several."""

    slots: tuple[Slot, ...]
    shown: gr.State
    together: gr.HTML
    add: gr.Button

    @property
    def inputs(self) -> dict[str, Any]:
        """What the references are made from, named as a form's values are."""
        return {
            slot_name(name, number): part
            for number, slot in enumerate(self.slots, start=1)
            for name, part in slot.inputs.items()
        }

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

    def fill(self, references: Sequence[Filling]) -> dict[Any, Any]:
        """Return the updates that fill so many slots, and empty the others."""
        updates = self.show(max(1, len(references)))
        for index, slot in enumerate(self.slots):
            filling = references[index] if index < len(references) else Filling()
            visible = index > 0 or len(references) > 1 or filling.weight != 1.0
            updates |= {slot.image: filling.path, slot.weight: gr.update(value=filling.weight, visible=visible)}
            updates |= {
                slot.region: filling.region,
                slot.view: filling.view,
                slot.across: filling.centre[0],
                slot.down: filling.centre[1],
                slot.fold: gr.update(open=not filling.is_usual),
            }
            # What lies in a closed accordion tells of no change, so that the square is set here.
            updates |= {slot.seen: filling.seen, slot.place: gr.update(visible=filling.view == "crop")}
        return updates


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
        square = _square_choice(number, image=image, picture=picture if is_first else None)
        weight = slider(
            texts.WEIGHT_LABEL.format(number=number),
            span=(0, 2),
            step=0.05,
            value=1.0,
            elem_id=f"weight-{number}",
            visible=not is_first,
        )
    return Slot(box=box, image=image, weight=weight, **square)


def _square_choice(number: int, *, image: gr.Image, picture: Path | None) -> dict[str, Any]:
    """Lay out what the model looks at, the choice of it, which it follows, and where in the new picture it counts."""
    first = Filling(path=None if picture is None else str(picture))
    seen = gr.HTML(first.seen, padding=False, elem_id=f"seen-{number}")
    with gr.Accordion(texts.SEEN_HEADING, open=False, elem_id=f"seen-panel-{number}") as fold:
        view = gr.Radio(
            label=texts.VIEW_LABEL, choices=list(texts.VIEW_CHOICES), value="crop", elem_id=f"view-{number}"
        )
        with gr.Column() as place:
            across, down = (
                slider(label, span=(0, 1), step=0.01, value=0.5, elem_id=f"{name}-{number}")
                for label, name in ((texts.ACROSS_LABEL, "across"), (texts.DOWN_LABEL, "down"))
            )
        region = gr.Radio(
            label=texts.REGION_LABEL,
            choices=list(texts.REGION_CHOICES),
            value="everywhere",
            info=texts.REGION_HELP,
            elem_id=f"region-{number}",
        )
    choice = [view, across, down]
    gr.on(
        [image.change, *(part.change for part in choice)],
        _look,
        [image, *choice],
        [seen, place],
        preprocess=False,
        trigger_mode="always_last",
        **AT_ONCE,
    )
    return {"seen": seen, "fold": fold, "view": view, "place": place, "across": across, "down": down, "region": region}


def _look(payload: Any, view: SquareMode, across: float | None, down: float | None) -> tuple[str, Any]:
    """Show the square as it is now; only a crop can be moved."""
    # A number that was cleared counts as the middle, as in a request.
    centre = (0.5 if across is None else across, 0.5 if down is None else down)
    return seen_html(payload, view=view, centre=centre), gr.update(visible=view == "crop")
