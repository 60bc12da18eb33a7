"""Sets of pictures on the page: saved, found after a restart, passed on as a file, deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from ipa_app.engine.reference_sets import ReferenceSet
from ipa_app.ui.reference_sets import LARGEST_SET, Sets
from ipa_app.ui.references import Filling
from tests.engine.conftest import noise_picture
from tests.engine.test_keeping import opened
from tests.seen import text_of
from tests.ui.page_parts import Opened, inputs_after, opened_page, value_after
from tests.ui.test_references import over


def sets_of(page: Opened) -> Sets:
    parts, studio = page
    return Sets(parts.sets, references=parts.panel.references, files=studio.sets)


def sent(page: Opened, folder: Path) -> dict[str, Any]:
    """Return what the page sends for two pictures, the second with its own range and place."""
    parts, _ = page
    paths = [folder / f"{number}.png" for number in range(2)]
    for number, path in enumerate(paths):
        noise_picture(number).save(path)
    second = {"weight": 0.5, "region": "left", "region_prompt": "a hat", "start": 0.25, "end": 0.75}
    fillings = [Filling(path=str(paths[0])), Filling(path=str(paths[1]), said=second)]
    update = parts.panel.references.fill(fillings)
    inputs = inputs_after(parts, "variation", update)
    return {name: inputs[name] for name in parts.panel.references.inputs}


def test_a_set_is_saved_found_after_a_restart_and_deleted(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    with opened(tmp_path / "library") as (keeper, _), opened_page(tiny_bundle_dir, keeper=keeper) as page:
        told = sets_of(page).save(name="My toys", **sent(page, tmp_path))
        assert text_of(told[page[0].sets.note]) == "Saved as My toys."
    with opened(tmp_path / "library") as (keeper, _), opened_page(tiny_bundle_dir, keeper=keeper) as page:
        parts, sets = page[0], sets_of(page)
        assert sets.look(None)["choices"] == ["My toys"]
        update = sets.choose("My toys")
        slots = parts.panel.references.slots
        assert [update[slot.box]["visible"] for slot in slots] == [True, True, False, False]
        second = {name: value_after(control, update) for name, control in slots[1].controls.items()}
        assert (second["weight"], second["start"], second["end"]) == (0.5, 0.25, 0.75)
        assert (second["region"], second["region_prompt"]) == ("left", "a hat")
        assert [update[slot.region.words_box]["visible"] for slot in slots] == [False, True, False, False]
        inputs = inputs_after(parts, "variation", update)
        shown = {name: inputs[name] for name in parts.panel.references.inputs}
        handed_on = ReferenceSet.from_json(Path(sets.hand_on(name="My toys", **shown)).read_bytes())
        assert (handed_on.name, len(handed_on.references)) == ("My toys", 2)
        gone = sets.delete("My toys")
        assert gone[parts.sets.saved]["choices"] == []
        with pytest.raises(gr.Error, match="This set is no longer there"):
            sets.choose("My toys")


def test_a_set_that_is_saved_over_is_told_and_can_be_had_back(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    with opened(tmp_path / "library") as (keeper, _), opened_page(tiny_bundle_dir, keeper=keeper) as page:
        parts, sets, inputs = page[0], sets_of(page), sent(page, tmp_path)
        sets.save(name="My toys", **inputs)
        told = text_of(sets.save(name="My toys", **{**inputs, "weight": 0.25})[parts.sets.note])
        assert told.startswith("Saved as My toys, in place of")
        assert "“deleted”" in told
        (before,) = (tmp_path / "library" / "deleted").rglob("*.json")
        brought_back = sets.open({"path": str(before)})
        assert value_after(parts.panel.references.slots[0].controls["weight"], brought_back) == 1.0


def test_without_a_library_a_set_is_a_file_that_others_can_open(page: Opened, tmp_path: Path) -> None:
    parts, sets = page[0], sets_of(page)
    assert (parts.sets.saved.visible, page[1].sets) == (False, None)
    opened_anew = sets.open({"path": sets.hand_on(name="For you", **sent(page, tmp_path))})
    assert value_after(parts.panel.references.slots[1].controls["weight"], opened_anew) == 0.5
    assert text_of(opened_anew[parts.sets.note]) == "These are the pictures of For you."


def test_the_pictures_that_a_set_takes_the_place_of_can_be_had_back(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    with opened(tmp_path / "library") as (keeper, _), opened_page(tiny_bundle_dir, keeper=keeper) as page:
        sets, references = sets_of(page), page[0].panel.references
        pictures = sent(page, tmp_path)
        sets.save(name="My toys", **pictures)
        file = sets.hand_on(name="My toys", **pictures)
        there = over(references, {references.slots[0].image: str(tmp_path / "0.png")})
        for update in (sets.choose("My toys", over=there), sets.open({"path": file}, over=there)):
            assert update[references.undo]["visible"]
            assert update[references.before][-1]["sent"]["reference"] == {"path": str(tmp_path / "0.png")}


@pytest.mark.parametrize(("name", "told"), [("", "a name of up to 100"), (None, "a name of up to 100")])
def test_a_set_without_a_name_is_refused(page: Opened, tmp_path: Path, name: Any, told: str) -> None:
    with pytest.raises(gr.Error, match=told):
        sets_of(page).save(name=name, **sent(page, tmp_path))


def test_a_file_that_is_no_set_is_told(page: Opened, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}", encoding="utf-8")
    with pytest.raises(gr.Error, match="not a set of pictures"):
        sets_of(page).open({"path": str(tmp_path / "a.json")})


def test_a_file_that_is_too_large_for_a_set_is_told_before_it_is_read(page: Opened, tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(LARGEST_SET + 1)
    with pytest.raises(gr.Error, match="The set of pictures is too large: it may be at most 64 MB"):
        sets_of(page).open({"path": str(tmp_path / "a.json")})
