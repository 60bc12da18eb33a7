"""One to four reference pictures, each with its own weight; all but the first are hidden until they are added."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from ipa_app.engine.references import MOST_REFERENCES, Reference, slot_name
from ipa_app.errors import UserError
from ipa_app.imaging.cropping import SquareMode, side_by_side, squares_for_clip
from ipa_app.messages import Message
from ipa_app.options import options
from ipa_app.ui.controls import (
    AS_TEXT,
    AT_ONCE,
    CHECKED,
    LATEST_AT_ONCE,
    Update,
    choose_picture,
    control,
    picture_input,
)
from ipa_app.ui.failures import explained
from ipa_app.ui.form import PAINTED, open_upload, read_region, reference_name
from ipa_app.ui.language.markup import said
from ipa_app.ui.pictures import inline_picture
from ipa_app.ui.regions import RegionPanel, fill_region, region_panel
from ipa_app.ui.status import notes_html
from ipa_app.ui.turns import opening_turn
from ipa_app.ui.uploads import check_files

_DECLARED = options(Reference)
_MOST_UNDONE = 20
"""The number of undo steps for replaced references."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """The slot of one reference: its box on the page, the picture, its square and its options.

    Attributes:
        box: contains all others.
        image: the picture.
        seen: the square of the picture that the model sees.
        fold: the accordion with the choice of the square and of the region.
        place: the column of the sliders that move the crop.
        region: the panel of its region.
        controls: the controls of all other options of a reference, by field name; all but the weight are in `fold`.
    """

    box: gr.Column
    image: gr.Image
    seen: gr.HTML
    fold: gr.Accordion
    place: gr.Column
    region: RegionPanel
    controls: Mapping[str, Any]

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs of a reference by API name."""
        declared = {"image": self.image, "region_mask": self.region.file, **self.controls}
        return {**{_DECLARED[name].api: part for name, part in declared.items()}, PAINTED: self.region.editor}

    @property
    def parts(self) -> list[Any]:
        """All its components."""
        own = [self.box, self.image, self.seen, self.fold, self.place]
        return [*own, *self.controls.values(), *self.region.parts]


@dataclass(frozen=True, kw_only=True)
class Filling:
    """The content of a slot: a picture's file, and the options that are not at their defaults, by field name."""

    path: str | None = None
    said: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def as_sent(cls, sent: Mapping[str, Any], number: int) -> Filling:
        """Return the content of a slot from the values that the page sent; a cleared number is back at its default."""
        given = {name: sent.get(slot_name(option.api, number)) for name, option in _DECLARED.items()}
        said = {name: value for name, value in given.items() if value is not None}
        image, upload = said.pop("image", None), said.pop("region_mask", None)
        painted = None
        with suppress(UserError):  # an unusable mask is dropped
            painted = read_region(sent, upload, region="painted", number=number)
        if painted:
            said["region_mask"] = painted.mask
        elif said.get("region") == "painted":
            del said["region"]
        return cls(path=image and image["path"], said=said)

    def value(self, name: str) -> Any:
        """Return the value of one of a reference's fields."""
        return self.said.get(name, _DECLARED[name].default)

    def is_usual(self, name: str) -> bool:
        """Whether a field has its default value."""
        return self.value(name) == _DECLARED[name].default

    @property
    def seen(self) -> str:
        """The squares that the model sees, as HTML."""
        upload = None if self.path is None else {"path": self.path}
        return seen_html(upload, view=self.value("view"), centre=(self.value("centre_x"), self.value("centre_y")))


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """The references that are about to be replaced.

    Attributes:
        told: the values of all slots, as JSON.
        shown: the number of visible slots.
        before: the earlier contents that can be restored, oldest first.
    """

    told: str
    shown: int
    before: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class References:
    """All slots, the buttons that add a slot or remove the last one, and the note for several references.

    The state `before` holds the contents of the slots each time before they were replaced, the latest last; `undo`
    restores these. Into the hidden `told` the page puts the current contents.
    """

    slots: tuple[Slot, ...]
    shown: gr.State
    together: gr.HTML
    add: gr.Button
    remove: gr.Button
    undo: gr.Button
    told: gr.Textbox
    before: gr.State

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs of all references, by the names of a form's values."""
        return {
            slot_name(name, number): part
            for number, slot in enumerate(self.slots, start=1)
            for name, part in slot.inputs.items()
        }

    @property
    def outputs(self) -> list[Any]:
        """Every component that an update may name."""
        own = [self.shown, self.together, self.add, self.remove, self.undo, self.before]
        return [*own, *(part for slot in self.slots for part in slot.parts)]

    def show(self, count: int) -> dict[Any, Any]:
        """Return the updates that show the first `count` slots; a single picture needs no weight."""
        several = count > 1
        updates: dict[Any, Any] = {slot.box: gr.update(visible=index < count) for index, slot in enumerate(self.slots)}
        updates[self.slots[0].controls["weight"]] = gr.update(visible=several)
        updates |= {self.together: gr.update(visible=several), self.remove: gr.update(visible=several)}
        return updates | {self.shown: count, self.add: gr.update(visible=count < len(self.slots))}

    def let_fill(
        self, press: Callable[..., Any], handler: Callable[..., Update], own: Mapping[str, Any], **listener: Any
    ) -> Any:
        """Connect an event to a handler that fills slots, with undo, and return the handler's listener.

        Args:
            press: the event.
            handler: takes its own inputs by name, and `over`, which it passes to `fill` or `put_first`.
            own: the handler's own inputs.
            **listener: the listener's settings, with the components that its updates may name.
        """
        told = press(None, list(self.inputs.values()), self.told, js=AS_TEXT, **AT_ONCE)

        def fill_over(*, told: str, shown: int, before: Sequence[Mapping[str, Any]], **sent: Any) -> Update:
            return handler(**sent, over=Replaced(told=told, shown=shown, before=before))

        inputs = {**own, "told": self.told, "shown": self.shown, "before": self.before}
        return told.then(fill_over, inputs_kwargs=inputs, preprocess=False, **listener)

    def fill(self, references: Sequence[Filling], *, over: Replaced | None = None) -> Update:
        """Return the updates that fill the first slots, and empty the others.

        Args:
            references: the new contents of the slots.
            over: the current contents, if undo is to restore them.
        """
        updates = self.show(max(1, len(references)))
        if over:
            updates |= self._let_undo(over)
        for index, slot in enumerate(self.slots):
            filling = references[index] if index < len(references) else Filling()
            weighted = index > 0 or len(references) > 1 or not filling.is_usual("weight")
            updates |= _filled(slot, filling, weighted=weighted)
        return updates

    def put_first(self, picture: Path, *, over: Replaced) -> Update:
        """Return the updates that put a picture into the first slot, with undo unless it is there; all else stays."""
        first, *_ = self._images(over)
        if first and first["path"] == str(picture):
            return {}
        return {**self._let_undo(over), self.slots[0].image: str(picture)}

    def fill_again(self, before: Sequence[Mapping[str, Any]]) -> Update:
        """Return the updates that undo the latest filling of the slots.

        Args:
            before: the value of the state `before`.

        Raises:
            gr.Error: a file is gone; files are kept for a day.
        """
        *earlier, last = before
        with explained(), opening_turn(last["sent"]):
            check_files(last["sent"], field=Message("upload.image"))
            fillings = [Filling.as_sent(last["sent"], number) for number in range(1, last["shown"] + 1)]
        return {**self.fill(fillings), **self._undoable(earlier)}

    def _let_undo(self, over: Replaced) -> Update:
        """Return the updates after which undo restores the current contents; none without a picture."""
        if not any(self._images(over)):
            return {}
        return self._undoable([*over.before, {"shown": over.shown, "sent": self._sent(over)}][-_MOST_UNDONE:])

    def _images(self, over: Replaced) -> list[Any]:
        """Return the pictures that are about to be replaced as the page sent them; None for an empty slot."""
        sent = self._sent(over)
        return [sent[slot_name(_DECLARED["image"].api, number)] for number in range(1, len(self.slots) + 1)]

    def _sent(self, over: Replaced) -> dict[str, Any]:
        return dict(zip(self.inputs, json.loads(over.told), strict=True))

    def _undoable(self, before: Sequence[Mapping[str, Any]]) -> Update:
        return {self.before: before, self.undo: gr.update(visible=bool(before))}

    def remove_last(self, shown: int) -> dict[Any, Any]:
        """Return the updates that empty and hide the last visible slot; one always stays."""
        if shown <= 1:
            return self.show(1)
        return {**_filled(self.slots[shown - 1], Filling(), weighted=True), **self.show(shown - 1)}


def _filled(slot: Slot, filling: Filling, *, weighted: bool) -> dict[Any, Any]:
    """Return the updates that fill a slot; `weighted` says whether its weight is shown."""
    updates = {control: filling.value(name) for name, control in slot.controls.items()}
    weight = gr.update(value=filling.value("weight"), visible=weighted)
    is_open = not all(filling.is_usual(name) for name in slot.controls if name != "weight")
    updates |= {slot.image: filling.path, slot.controls["weight"]: weight, slot.fold: gr.update(open=is_open)}
    # Components in a closed accordion send no change event, so the square is set here.
    updates |= {slot.seen: filling.seen, slot.place: gr.update(visible=filling.value("view") == "crop")}
    return updates | fill_region(slot.region, filling.said.get("region_mask"), region=filling.value("region"))


def reference_slots(*, first_picture: Path | None) -> References:
    """Lay out and connect the slots and their buttons."""
    slots = tuple(_slot(number, picture=first_picture) for number in range(1, MOST_REFERENCES + 1))
    together = gr.HTML(
        said(Message("page.references_together"), tag="p", css_class="ipa-help"),
        padding=False,
        visible=False,
        elem_id="together",
    )
    add = gr.Button(Message("page.add_reference"), size="sm", elem_id="add-reference")
    remove = gr.Button(Message("page.remove_reference"), size="sm", visible=False, elem_id="remove-reference")
    undo = gr.Button(Message("page.undo_references"), size="sm", visible=False, elem_id="undo-references")
    references = References(
        slots=slots,
        shown=gr.State(1),
        together=together,
        add=add,
        remove=remove,
        undo=undo,
        told=gr.Textbox(visible=False),
        before=gr.State([]),
    )
    add.click(
        lambda shown: references.show(min(shown + 1, MOST_REFERENCES)),
        references.shown,
        references.outputs,
        **AT_ONCE,
    )
    remove.click(references.remove_last, references.shown, references.outputs, **AT_ONCE)
    undo.click(references.fill_again, references.before, references.outputs, **CHECKED)
    return references


def weight_label(number: int) -> Message:
    """Return the label of a reference's weight."""
    return Message.declared("option.weight.label", _DECLARED["weight"].label, number=number)


def _slot(number: int, *, picture: Path | None) -> Slot:
    is_first = number == 1
    with gr.Column(visible=is_first, elem_classes="ipa-slot") as box:
        image = picture_input(
            label=Message("page.reference_label") if is_first else reference_name(number),
            elem_id="reference" if is_first else f"reference-{number}",
            height=240 if is_first else 150,
            value=picture if is_first else None,
        )
        if is_first:
            choose_picture()
        square = _square_choice(number, image=image, picture=picture if is_first else None)
        weight = control(
            _DECLARED["weight"], label=weight_label(number), elem_id=f"weight-{number}", visible=not is_first
        )
    square["controls"]["weight"] = weight
    return Slot(box=box, image=image, **square)


def _square_choice(number: int, *, image: gr.Image, picture: Path | None) -> dict[str, Any]:
    """Lay out the square that the model sees, the choice that it follows, and all other options of a reference."""
    first = Filling(path=None if picture is None else str(picture))
    seen = gr.HTML(first.seen, padding=False, elem_id=f"seen-{number}")
    with gr.Accordion(Message("page.seen_heading"), open=False, elem_id=f"seen-panel-{number}") as fold:
        view = control(_DECLARED["view"], elem_id=f"view-{number}")
        with gr.Column() as place:
            across = control(_DECLARED["centre_x"], elem_id=f"across-{number}")
            down = control(_DECLARED["centre_y"], elem_id=f"down-{number}")
        controls = {"view": view, "centre_x": across, "centre_y": down}
        controls["region"] = control(_DECLARED["region"], elem_id=f"region-{number}")
        region = region_panel(number)
        controls |= {"region_softness": region.softness, "region_prompt": region.words}
        for name, option in _DECLARED.items():
            if option.label and name not in (*controls, "weight"):
                controls[name] = control(option, elem_id=f"{name}-{number}".replace("_", "-"))
    choice = [view, across, down]
    gr.on(
        [image.change, *(part.change for part in choice)],
        _look,
        [image, *choice],
        [seen, place],
        preprocess=False,
        **LATEST_AT_ONCE,
    )
    return {"seen": seen, "fold": fold, "place": place, "region": region, "controls": controls}


def _look(payload: Any, view: SquareMode, across: float | None, down: float | None) -> tuple[str, Any]:
    """Show the current square; only a crop can be moved."""
    # A cleared number means the middle, as in a request.
    x, y = (
        _DECLARED[name].default if value is None else value
        for name, value in (("centre_x", across), ("centre_y", down))
    )
    return seen_html(payload, view=view, centre=(x, y)), gr.update(visible=view == "crop")


_SIDE = 144


def seen_html(payload: Any, *, view: SquareMode, centre: tuple[float, float]) -> str:
    """Return the HTML of what the model sees: empty without a picture, and a note if the upload is unusable.

    Args:
        payload: an upload, or None.
        view: as in `squares_for_clip`.
        centre: as in `squares_for_clip`.
    """
    if payload is None:
        return ""
    try:
        opened = open_upload(payload, field="reference", name=Message("upload.this"))
    except UserError as error:
        return notes_html([error.message])
    squares = squares_for_clip(opened.image, mode=view, centre=centre)
    small = [square.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC) for square in squares]
    label = Message("page.seen_label")
    shown = inline_picture(side_by_side(small), alt=label, css_class="ipa-seen-square")
    return f'<div class="ipa-seen">{shown}{said(label)}</div>{notes_html(opened.notes)}'
