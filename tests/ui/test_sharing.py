"""A picture's recipe opened on another page, through its link and through its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gradio.utils import get_upload_folder
from PIL import Image

from ipa_app.engine.metadata import read_request
from ipa_app.engine.recipes import recipe_code, recipe_json
from ipa_app.ui.examples import Example
from ipa_app.ui.restore import Restorer
from ipa_app.ui.studio import Studio, save_pictures
from tests.engine.conftest import noise_picture
from tests.sample_requests import differences, sample_request
from tests.seen import text_of
from tests.ui.page_parts import Opened, inputs_after, value_after


def result_file(studio: Studio, **fields: Any) -> str:
    job_id = studio.submit(sample_request("mix", **fields))
    *_, result = studio.follow(job_id)
    return save_pictures(result, job_id=job_id)[0]


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The messages shown at once, wherever the page is scrolled to."""
    sentences: list[str] = []
    monkeypatch.setattr("gradio.Info", sentences.append)
    return sentences


def test_a_link_sets_everything_and_names_the_pictures_that_it_cannot_hold(page: Opened, told: list[str]) -> None:
    parts, studio = page
    path = result_file(studio)
    update = Restorer(parts, studio=studio).from_link(recipe_code(path))
    inputs, request = inputs_after(parts, "mix", update), read_request(path)
    for name in ("prompt", "negative_prompt", "scale", "seed", "adapter", "start", "end", "strength", "style", "model"):
        assert inputs[name] == getattr(request, name), name
    assert (inputs["weight"], inputs["view"], inputs["region_2"]) == (0.5, "pad", "left")
    assert inputs["region_prompt_2"] == "a (red:1.2) dog"
    assert [inputs[name] for name in ("reference", "reference_2", "start_image", "negative_reference")] == [None] * 4
    assert (inputs["region_3"], inputs["region_mask_3"]) == ("everywhere", None)
    assert update[parts.tasks]["selected"] == "mix"
    note = text_of(update[parts.restore.note])
    assert note.startswith("Everything is set as the link says. Press Generate to make the picture.")
    assert "please add: Reference picture 1, Reference picture 2, Reference picture 3, The mask of the region," in note
    assert len(told) == 2


def test_pictures_that_are_shipped_with_the_app_are_found_again(page: Opened, tmp_path: Path) -> None:
    parts, studio = page
    shipped = [tmp_path / f"{number}.png" for number in range(2)]
    for number, path in enumerate(shipped):
        noise_picture(number).save(path)
    examples = [Example(tab="variation", file=shipped[0]), Example(tab="inpaint", file=shipped[0], image=shipped[1])]
    references = sample_request("mix").references[:2]
    code = recipe_code(result_file(studio, references=references, negative_reference=None, start_image=None))
    update = Restorer(parts, studio=studio, examples=examples).from_link(code)
    slots = parts.panel.references.slots
    for number, slot in enumerate(slots[:2]):
        found = value_after(slot.image, update)["path"]
        assert Image.open(found).tobytes() == noise_picture(number).tobytes()
    assert "please add" not in text_of(update[parts.restore.note])


def with_contents(sent: Any) -> Any:
    """Replace each file's path with its content, as every page has files of its own."""
    if isinstance(sent, dict):
        return {name: with_contents(value) for name, value in sent.items()}
    is_file = isinstance(sent, str) and sent.startswith(get_upload_folder())
    return Path(sent).read_bytes() if is_file else sent


def test_a_recipe_as_a_file_sets_everything(page: Opened, tmp_path: Path) -> None:
    parts, studio = page
    path = result_file(studio)
    recipe = tmp_path / "recipe.json"
    recipe.write_text(recipe_json(path), encoding="utf-8")
    restorer = Restorer(parts, studio=studio)
    updates = [restorer.from_upload({"path": str(each)}) for each in (recipe, path)]
    by_file, by_picture = (with_contents(inputs_after(parts, "mix", update)) for update in updates)
    assert by_file == by_picture
    assert differences(read_request(recipe), read_request(path)) == []


def test_json_that_is_no_recipe_is_told_plainly(page: Opened, tmp_path: Path) -> None:
    parts, studio = page
    (tmp_path / "a.json").write_text(json.dumps({"nodes": []}), encoding="utf-8")
    update = Restorer(parts, studio=studio).from_upload({"path": str(tmp_path / "a.json")})
    assert "does not say how it was made" in update[parts.restore.note]
