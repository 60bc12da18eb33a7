"""The reference panel's answers: the square that is viewed, and previews."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from PIL import Image

from ipa_app.ui.model_choice import ModelChoice
from ipa_app.ui.references import seen_html
from ipa_app.ui.running import Runner
from tests.ui.page_parts import Opened, inputs_after, picture_in


def test_the_square_is_shown_as_it_is_chosen(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    wide = Image.new("RGB", (90, 30), (200, 0, 0))
    wide.paste((0, 0, 200), (60, 0, 90, 30))
    wide.save(path)
    upload = {"path": str(path)}
    left, right = (picture_in(seen_html(upload, view="crop", centre=(x, 0.5))) for x in (0, 1))
    assert left.size == (144, 144)
    assert left.getpixel((72, 72))[0] > 150
    assert right.getpixel((72, 72))[2] > 150
    padded = picture_in(seen_html(upload, view="pad", centre=(0.5, 0.5)))
    assert max(padded.getpixel((72, 5))) < 150
    assert seen_html(None, view="crop", centre=(0.5, 0.5)) == ""


def test_a_broken_reference_is_told_where_its_square_would_be(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"<b>no picture</b>")
    told = seen_html({"path": str(path)}, view="crop", centre=(0.5, 0.5))
    assert "cannot be opened" in told
    assert "<img" not in told


def test_what_counts_can_be_chosen_where_the_model_tells_it_apart(page: Opened) -> None:
    parts, studio = page
    part = parts.panel.part
    assert (part.visible, part.value) == (False, "all"), "the first model has no presets"
    choice = ModelChoice(parts, studio=studio, timer=gr.Timer(1.0))
    shown = choice.choose("other", "toybox", "")[part]
    assert shown["visible"]
    assert "value" not in shown, "what a file has just set stays"
    hidden = choice.choose("toybox", "other", "")[part]
    assert (hidden["visible"], hidden["value"]) == (False, "all")
    assert part in choice.outputs


def test_the_speed_can_be_chosen_where_the_model_has_a_fast_way(page: Opened) -> None:
    parts, studio = page
    speed = parts.settings.speed
    assert (speed.visible, speed.value) == (False, "best"), "the first model has no fast way"
    assert speed.choices == [("Best", "best"), ("Fast", "fast")]
    choice = ModelChoice(parts, studio=studio, timer=gr.Timer(1.0))
    shown = choice.choose("other", "toybox", "")[speed]
    assert shown["visible"]
    assert "value" not in shown, "what a file has just set stays"
    hidden = choice.choose("toybox", "other", "")[speed]
    assert (hidden["visible"], hidden["value"]) == (False, "best")
    assert speed in choice.outputs


def test_previews_come_before_the_pictures_and_go_when_those_are_there(page: Opened) -> None:
    parts, studio = page
    runner = Runner(studio=studio, results=parts.results, tabs=parts.tabs)
    entered = {**inputs_after(parts, "mix", {}), "prompt": "a cat", "steps": 60, "count": 2}
    updates = list(runner.run("mix")(**entered))
    shown = [update[parts.results.preview] for update in updates if parts.results.preview in update]
    assert len(shown) >= 2
    assert all(update["visible"] for update in shown[:-1])
    assert picture_in(shown[0]["value"]).height == 64
    assert shown[-1] == {"__type__": "update", "value": "", "visible": False}
    assert parts.results.gallery in updates[-1]
