"""The reference pictures without a browser: what other pictures have replaced comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from ipa_app.ui.form import read_references
from ipa_app.ui.pictures import keep_picture
from ipa_app.ui.references import Filling, References, Replaced
from tests.engine.conftest import noise_picture
from tests.ui.page_parts import Opened, Update, value_after

MASK = Image.new("L", (64, 48), 0)
MASK.paste(255, (8, 8, 40, 30))


@pytest.fixture
def references(page: Opened) -> References:
    return page[0].panel.references


def picture(number: int) -> str:
    return keep_picture(noise_picture(number))


def set_out() -> list[Filling]:
    """Return two pictures with all their settings given; the second counts in a painted place."""
    first = {"view": "crop", "centre_x": 0.2, "weight": 0.5, "region": "left", "region_prompt": "a hat"}
    second = {"view": "pad", "start": 0.25, "region": "painted", "region_softness": 2, "region_mask": MASK}
    return [Filling(path=picture(1), said=first), Filling(path=picture(2), said=second)]


def sent_after(references: References, update: Update) -> dict[str, Any]:
    """Return what the page sends for the references after an update."""
    return {name: value_after(part, update) for name, part in references.inputs.items()}


def held(references: References, update: Update) -> list[Any]:
    """Return what is in the slots after an update; pictures and masks as their pixels."""
    sent = sent_after(references, update)
    read, _ = read_references(sent, task="variation")
    return [{**vars(each), "image": each.image.tobytes(), "region_mask": seen(each.region_mask)} for each in read]


def seen(mask: Image.Image | None) -> bytes | None:
    return mask and mask.tobytes()


def over(references: References, update: Update) -> Replaced:
    """Return what a handler that refills the slots receives of the references after an update."""
    told = json.dumps(list(sent_after(references, update).values()))
    shown, before = (value_after(part, update) for part in (references.shown, references.before))
    return Replaced(told=told, shown=shown, before=before)


def test_pictures_that_were_replaced_come_back_step_by_step_with_all_that_was_said_of_them(
    references: References,
) -> None:
    begun = references.fill(set_out())
    once = references.fill([Filling(path=picture(3))], over=over(references, begun))
    assert once[references.undo]["visible"]
    twice = references.fill([Filling(path=picture(4))], over=over(references, once))

    back = references.fill_again(twice[references.before])
    assert held(references, back) == held(references, once)
    assert back[references.undo]["visible"]
    back = references.fill_again(back[references.before])
    assert held(references, back) == held(references, begun)
    assert not back[references.undo]["visible"]
    shown = [(back[slot.box]["visible"], back[slot.region.box]["visible"]) for slot in references.slots]
    assert shown == [(True, False), (True, True), (False, False), (False, False)]


def test_what_is_painted_waits_where_another_place_was_chosen(references: References) -> None:
    begun = references.fill([Filling(path=picture(2), said={"region": "right", "region_mask": MASK})])
    replaced = references.fill([Filling(path=picture(3))], over=over(references, begun))
    back = references.fill_again(replaced[references.before])
    assert held(references, back) == held(references, begun)
    region = references.slots[0].region
    assert not back[region.box]["visible"]
    assert back[region.file]


def test_where_no_picture_is_replaced_there_is_nothing_to_undo(references: References) -> None:
    begun = over(references, references.fill([]))
    assert references.undo not in references.fill([Filling(path=picture(3))], over=begun)


def test_a_picture_that_was_cleared_away_meanwhile_is_said(references: References) -> None:
    begun = references.fill(set_out())
    replaced = references.fill([Filling(path=picture(3))], over=over(references, begun))
    Path(sent_after(references, begun)["reference_2"]["path"]).unlink()
    with pytest.raises(gr.Error, match="is not on the server"):
        references.fill_again(replaced[references.before])


def test_a_mask_that_is_none_keeps_no_picture_from_coming_back(references: References) -> None:
    own, unclear = picture(2), Image.linear_gradient("L").resize((64, 48))
    begun = references.fill([Filling(path=own, said={"region": "painted", "region_mask": unclear})])
    replaced = references.fill([Filling(path=picture(3))], over=over(references, begun))
    back = references.fill_again(replaced[references.before])
    assert back[references.slots[0].image] == own
    assert back[references.slots[0].controls["region"]] == "everywhere"
