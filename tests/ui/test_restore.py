"""Drop a result on the page, press Generate, and the same file comes out."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ipa_app.engine.requests import GenerateRequest, Reference
from ipa_app.engine.results import GenerateResult
from ipa_app.imaging.cropping import fitted_size
from ipa_app.imaging.result_files import read_settings, write_result
from ipa_app.pose.presets import preset_sheets
from ipa_app.pose.sheet import PoseSheet
from ipa_app.ui.examples import Example
from ipa_app.ui.restore import Restorer
from ipa_app.ui.running import Runner
from ipa_app.ui.studio import Studio, save_pictures
from tests.engine.conftest import noise_picture
from tests.other_programs import INFOTEXT, png
from tests.sample_requests import OF_TASK, differences, sample_request
from tests.seen import text_of
from tests.ui.page_parts import Opened, inputs_after, value_after
from tests.ui.test_references import over


def result_file(studio: Studio, request: GenerateRequest) -> str:
    """Carry out a request and return its first file."""
    job_id = studio.submit(request)
    *_, result = studio.follow(job_id)
    assert isinstance(result, GenerateResult)
    return save_pictures(result, job_id=job_id)[0]


def drop(page: Opened, path: str | Path) -> dict[Any, Any]:
    parts, studio = page
    return Restorer(parts, studio=studio).from_upload({"path": str(path)})


# A fast picture takes its guidance from the fast way, whatever was requested; without guidance, no negative reference.
FAST: dict[str, Any] = {"speed": "fast", "guidance_scale": 0, "negative_reference": None}
BEST: dict[str, Any] = {"speed": "best"}


@pytest.mark.parametrize(
    ("task", "changes"),
    [*((task, FAST) for task in OF_TASK), ("mix", BEST), ("inpaint", {**BEST, "output_format": "jpeg"})],
)
def test_a_dropped_result_makes_the_same_request_and_the_same_file(
    page: Opened, task: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, studio = page
    request = sample_request(task, **changes)
    path = result_file(studio, request)
    update = drop(page, path)
    sent: list[GenerateRequest] = []
    submit = studio.submit
    monkeypatch.setattr(studio, "submit", lambda request, **more: (sent.append(request), submit(request, **more))[1])
    runner = Runner(studio=studio, results=parts.results, tabs=parts.tabs)
    *_, last = runner.run(task)(**inputs_after(parts, task, update))
    # A width that is the model's own is sent as 0.
    own = {} if request.image else {"width": 0}
    assert differences(sent[0], replace(request, **own)) == []
    assert "Everything is set as it was. Press" in update[parts.restore.note]
    again = last[parts.results.gallery]["value"][0][0]
    assert Path(again).read_bytes() == Path(path).read_bytes()
    assert update[parts.tasks]["selected"] == task


def test_what_is_a_fast_ways_own_is_not_set_for_best(page: Opened) -> None:
    """With Best chosen afterwards, the model's usual numbers apply; with Fast kept, the same picture is drawn."""
    parts, studio = page
    path = result_file(studio, sample_request("mix", steps=0, guidance_scale=0))
    noted = read_settings(path)
    assert noted
    assert (noted["steps"], noted["guidance_scale"]) == (2, 1.0)
    update = drop(page, path)
    assert [value_after(parts.settings.inputs[name], update) for name in ("speed", "steps", "guidance")] == [
        "fast",
        0,
        0,
    ]


def test_pictures_that_a_file_holds_only_nearly_are_named(page: Opened) -> None:
    parts, studio = page
    large = Reference(image=noise_picture(3).resize((700, 500)))
    noise = np.random.default_rng(0).integers(0, 256, (640, 640, 3), dtype=np.uint8)
    small = Reference(image=noise_picture(1), weight=0.5)
    request = sample_request("inpaint", image=Image.fromarray(noise), mask=Image.new("L", (640, 640), 255))
    request = replace(request, references=(small, large), steps=1)
    update = drop(page, result_file(studio, request))
    note = text_of(update[parts.restore.note])
    assert "slightly different or smaller: Reference picture 2, The picture." in note


def test_a_picture_that_was_cleared_away_is_said_to_be_gone(page: Opened, tmp_path: Path) -> None:
    parts, studio = page
    with pytest.raises(gr.Error, match="no longer there"):
        Restorer(parts, studio=studio).from_result(str(tmp_path / "gone.png"))


def test_the_references_that_a_result_takes_the_place_of_can_be_had_back(page: Opened, tmp_path: Path) -> None:
    parts, studio = page
    references = parts.panel.references
    noise_picture(8).save(tmp_path / "own.png")
    there = over(references, {references.slots[0].image: str(tmp_path / "own.png")})
    path = result_file(studio, sample_request("mix"))
    restorer = Restorer(parts, studio=studio)
    for update in (restorer.from_result(path, over=there), restorer.from_upload({"path": path}, over=there)):
        assert update[references.undo]["visible"]
        assert update[references.before][-1]["sent"]["reference"] == {"path": str(tmp_path / "own.png")}


def test_the_seed_that_comes_back_can_be_given_up_beside_the_status(page: Opened) -> None:
    parts, studio = page
    path = result_file(studio, sample_request("mix"))
    restorer = Restorer(parts, studio=studio)
    for update in (restorer.from_result(path), restorer.from_upload({"path": path})):
        assert value_after(parts.settings.seed, update) >= 0
        assert update[parts.results.new_seed]["visible"]


def test_a_skeleton_comes_back_into_the_editor(page: Opened) -> None:
    parts, studio = page
    sheet = list(preset_sheets().values())[-1]
    update = drop(page, result_file(studio, sample_request("pose", pose=sheet)))
    inputs = inputs_after(parts, "pose", update)
    assert PoseSheet.from_json(inputs["skeleton"]) == sheet
    assert inputs["pose"] is None


def test_accordions_open_where_something_in_them_is_set(page: Opened) -> None:
    parts, studio = page
    folds = parts.tab_of("inpaint").folds
    mask_fold, edges_fold = folds["mask"], folds["extend_up"]
    edges = {"mask_invert": False, "mask_grow": 0, "mask_feather": 1, "area": "masked", "mask_padding": 25}
    edges |= {"extend_left": 0, "extend_right": 0, "extend_up": 0, "extend_down": 0, "surroundings": True}
    plain = sample_request("inpaint", references=(), prompt="a cat", **edges)
    update = drop(page, result_file(studio, plain))
    assert (update[mask_fold]["open"], update[edges_fold]["open"]) == (True, False)
    extended = sample_request("inpaint", references=(), mask=None, **{**edges, "extend_up": 25})
    update = drop(page, result_file(studio, extended))
    assert (update[mask_fold]["open"], update[edges_fold]["open"]) == (False, True)
    assert value_after(parts.tab_of("inpaint").inputs["mask"], update) is None


def test_the_second_picture_of_a_series_comes_back_with_its_own_seed(page: Opened) -> None:
    parts, studio = page
    request = sample_request("mix", references=())
    second = Path(result_file(studio, request)).with_name("mix-78.webp")
    update = drop(page, second)
    assert value_after(parts.settings.seed, update) == 78
    assert value_after(parts.panel.references.slots[0].image, update) is None


def test_more_pictures_show_as_many_boxes_and_their_weights(page: Opened) -> None:
    parts, studio = page
    two = sample_request("variation").references[:2]
    update = drop(page, result_file(studio, sample_request("variation", references=two)))
    slots = parts.panel.references.slots
    assert [update[slot.box]["visible"] for slot in slots] == [True, True, False, False]
    assert [value_after(slot.controls["weight"], update) for slot in slots] == [0.5, 1, 1, 1]
    assert value_after(slots[2].image, update) is None


def test_the_accordion_of_a_picture_opens_where_something_in_it_is_set(page: Opened) -> None:
    parts, studio = page
    picture = sample_request("variation").references[0].image
    references = [
        Reference(image=picture),
        Reference(image=picture, region="left"),
        Reference(image=picture, view="pad"),
    ]
    update = drop(page, result_file(studio, sample_request("variation", references=tuple(references))))
    slots = parts.panel.references.slots
    assert [update[slot.fold]["open"] for slot in slots] == [False, True, True, False]
    assert [update[slot.place]["visible"] for slot in slots] == [True, True, False, True], "only a crop can be moved"


def test_a_detector_that_is_not_installed_comes_back_in_sight_so_that_another_can_be_chosen(
    page: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, studio = page
    path = result_file(studio, sample_request("pose"))
    monkeypatch.setattr("ipa_app.ui.tabs.pose.detectors", lambda: ("openpose",))
    detector = drop(page, path)[parts.tab_of("pose").inputs["pose_detector"]]
    assert (detector["value"], detector["visible"]) == ("dwpose", True)


def hostile(path: Path, settings: dict[str, Any]) -> Path:
    notes = PngInfo()
    notes.add_text("ip_adapter_studio", json.dumps(settings))
    Image.new("RGB", (8, 8)).save(path, pnginfo=notes)
    return path


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": "<img src=x>"}, "no model '<img src=x>'"),
        ({"scale": float("nan")}, "damaged"),
        ({"scale": 7}, "7.0; it must be|Strength of the picture” is 7"),
        ({"width": 2040}, "width"),
        ({"<b>": 1}, "<b>"),
    ],
    ids=str,
)
def test_a_file_that_cannot_be_used_changes_nothing_but_the_note(
    page: Opened, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    parts, _ = page
    settings = {"task": "mix", "prompt": "a cat", "model": "toybox", "seed": 1, **changes}
    update = drop(page, hostile(tmp_path / "a.png", settings))
    assert set(update) == {parts.restore.note, parts.restore.file}
    assert update[parts.restore.file] is None
    assert any(words in text_of(update[parts.restore.note]) for words in told.split("|"))
    assert "<b>" not in update[parts.restore.note] and "<img" not in update[parts.restore.note]


def test_a_picture_from_elsewhere_is_told_plainly(page: Opened, tmp_path: Path) -> None:
    parts, _ = page
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert read_settings(tmp_path / "a.png") is None
    update = drop(page, tmp_path / "a.png")
    assert set(update) == {parts.restore.note, parts.restore.file}
    assert "does not say how it was made" in update[parts.restore.note]


def test_a_picture_of_another_program_sets_what_it_can_and_everything_else_as_usual(
    page: Opened, tmp_path: Path
) -> None:
    parts, studio = page
    restorer = Restorer(parts, studio=studio)
    update = restorer.from_upload({"path": str(png(tmp_path / "a.png", parameters=INFOTEXT))}, model="other")
    assert update[parts.tasks]["selected"] == "mix"
    inputs = inputs_after(parts, "mix", update)
    expected = {
        "prompt": "a fox in a blue coat",
        "negative_prompt": "blurry",
        "seed": 4242,
        "steps": 24,
        "guidance": 6.5,
    }
    expected |= {"width": 128, "height": 128, "model": "other", "count": 1, "scale": 1.0}
    assert {name: inputs[name] for name in expected} == expected
    assert all(value_after(slot.image, update) is None for slot in parts.panel.references.slots)
    note = re.sub("<[^>]+>", "", update[parts.restore.note])
    assert note == (
        "Settings in the AUTOMATIC1111 format were taken over: press Generate to make a similar picture here. Not "
        "taken over: the model mymodel, the sampler Euler a (Karras). Out of range here, so set to the nearest "
        "value: the width 512 (now 128), the height 384 (now 128)."
    )


@pytest.mark.parametrize(
    ("style", "styled", "told"),
    [
        ("night", "a cat, on the beach", "Everything is set as it was. Press Generate to make the picture again."),
        ("night", "a cat in the snow", "The style Night has changed or is not here"),
        ("gone", "a cat in the snow", "The style gone has changed or is not here"),
    ],
)
def test_a_style_that_is_another_one_now_comes_back_as_its_words(
    page: Opened, tmp_path: Path, style: str, styled: str, told: str
) -> None:
    parts, _ = page
    settings = {"task": "mix", "prompt": "a cat", "model": "other", "seed": 1, "prompt_syntax": "weights"}
    settings |= {"style": style, "styled_prompt": styled, "styled_negative_prompt": "a hat"}
    update = drop(page, hostile(tmp_path / "a.png", settings))
    assert told in text_of(update[parts.restore.note])
    inputs = inputs_after(parts, "mix", update)
    as_it_was = ("night", "a cat", "") if styled == "a cat, on the beach" else ("", styled, "a hat")
    assert (inputs["style"], inputs["prompt"], inputs["negative_prompt"]) == as_it_was


@pytest.mark.parametrize(
    ("fields", "noted", "words"),
    [
        ({}, {"scheduler": "OtherScheduler"}, "The model's sampler was OtherScheduler then and is {scheduler} now"),
        ({"speed": "fast"}, {"scheduler": "OtherScheduler"}, "sampler was OtherScheduler then and is {scheduler} now"),
        (
            {},
            {"precision": "float64"},
            "was drawn in float64, but {precision} is used here now",
        ),
        ({}, {"scheduler": ["<b>"], "precision": None}, ""),
    ],
    ids=["scheduler", "fast", "precision", "neither"],
)
def test_another_sampler_or_precision_than_then_is_said(
    page: Opened, tmp_path: Path, fields: dict[str, Any], noted: dict[str, Any], words: str
) -> None:
    parts, studio = page
    made = result_file(studio, GenerateRequest(task="mix", model="other", prompt="a cat", seed=5, steps=2, **fields))
    settings = read_settings(made)
    assert settings
    write_result(Image.open(made), tmp_path / "a.png", {**settings, **noted}, inputs={}, output_format="png")
    note = text_of(drop(page, tmp_path / "a.png")[parts.restore.note])
    assert words.format(**settings) in note
    assert ("may come out differently" in note) == bool(words)


@pytest.mark.parametrize(
    ("prompt", "syntax", "differs"),
    [
        ("a red cat", {}, False),
        ("a red cat, " * 20, {}, True),
        ("a red cat, " * 20, {"prompt_syntax": "weights"}, False),
    ],
)
def test_a_result_whose_long_prompt_was_cut_is_said_to_come_out_differently(
    page: Opened, tmp_path: Path, prompt: str, syntax: dict[str, str], differs: bool
) -> None:
    parts, _ = page
    settings = {"task": "mix", "prompt": prompt, "model": "toybox", "seed": 1, **syntax}
    note = text_of(drop(page, hostile(tmp_path / "a.png", settings))[parts.restore.note])
    assert "Everything is set as it was." in note
    assert ("the end of a prompt too long for Tiny to read at once was not used" in note) is differs


def test_what_another_file_says_never_becomes_markup(page: Opened, tmp_path: Path) -> None:
    parts, _ = page
    update = drop(page, png(tmp_path / "a.png", parameters=INFOTEXT.replace("mymodel", "<img src=x>")))
    assert "<img" not in update[parts.restore.note]
    assert "<img src=x>" in text_of(update[parts.restore.note])


def test_a_usual_size_is_set_as_0_as_it_counts_on_every_tab(page: Opened) -> None:
    """Otherwise a picture inpainted next would be squeezed to the size of the picture whose settings were taken."""
    parts, studio = page
    made = result_file(studio, GenerateRequest(task="mix", prompt="a cat", model="other", steps=1))
    noted = read_settings(made)
    assert noted and noted["width"] > 0
    update = drop(page, made)
    sides = [parts.settings.inputs[side] for side in ("width", "height")]
    assert [value_after(side, update) for side in sides] == [0, 0]
    usual = noted["width"]
    other = result_file(
        studio, GenerateRequest(task="mix", prompt="a cat", model="other", steps=1, width=usual, height=2 * usual)
    )
    assert [value_after(side, drop(page, other)) for side in sides] == [0, 2 * usual]


def test_nothing_is_painted_any_more_where_an_inpainting_comes_back_or_an_example_is_chosen(
    page: Opened, tmp_path: Path
) -> None:
    parts, studio = page
    tab = parts.tab_of("inpaint")
    request = sample_request("inpaint")
    assert request.image is not None
    request.image.save(tmp_path / "photo.png")
    example = Example(tab="inpaint", file=tmp_path / "photo.png", image=tmp_path / "photo.png")
    assert tab.from_example is not None
    restored = drop(page, result_file(studio, request))[tab.inputs["painted"]]
    for painted in (restored, tab.from_example(example)["painted"]):
        assert painted["layers"] == []
        with Image.open(painted["background"]) as background:
            assert background.size == fitted_size(request.image.size, (512, 512))
