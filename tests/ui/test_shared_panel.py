"""What the reference panel answers: the square that is looked at, and previews."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import GenerateResult
from ipa_app.errors import Cancelled
from ipa_app.ui.live import Live
from ipa_app.ui.model_choice import ModelChoice
from ipa_app.ui.references import seen_html
from ipa_app.ui.running import Runner
from tests.ui.page_parts import Opened, inputs_after


def picture_in(html: str) -> Image.Image:
    found = re.search(r'src="data:image/jpeg;base64,([^"]+)"', html)
    assert found
    return Image.open(io.BytesIO(base64.b64decode(found[1])))


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


def test_live_pictures_are_drawn_at_the_speed_that_is_chosen(page: Opened) -> None:
    parts, studio = page
    entered = {**inputs_after(parts, "mix", {}), "prompt": "a cat", "model": "other", "seed": 3, "steps": 9}
    drawn = {}
    for speed in ("best", "fast"):
        updates = list(Live(parts.live, studio=studio).follow("mix")(**{**entered, "speed": speed}))
        drawn[speed] = picture_in(next(each[parts.live.picture] for each in updates if parts.live.picture in each))
        sent = updates[-1][parts.live.drawn]["sent"]
        assert (sent["speed"], sent["steps"]) == (speed, 9), "what is kept is drawn with all the settings"
    assert drawn["best"].tobytes() != drawn["fast"].tobytes()


def test_a_live_picture_that_is_overtaken_is_finished_where_it_has_only_begun(
    page: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, studio = page
    live = Live(parts.live, studio=studio)
    monkeypatch.setattr("ipa_app.ui.live._FINISHES_S", 3600.0)  # however busy the machine is
    begun = studio.submit(GenerateRequest(task="mix", prompt="a cat", steps=3), live=True)
    live.overtake(begun)
    *_, result = studio.follow(begun)
    assert isinstance(result, GenerateResult)
    old = studio.submit(GenerateRequest(task="mix", prompt="a cat", steps=100), live=True)
    studio._jobs[old].began -= 3600
    live.overtake(old)
    with pytest.raises(Cancelled):
        list(studio.follow(old))


def test_of_a_live_picture_no_more_is_kept_than_it_is_drawn_from(page: Opened, tmp_path: Path) -> None:
    parts, studio = page
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    upload = {"path": str(tmp_path / "a.png"), "more": "x" * 10_000}
    entered = {**inputs_after(parts, "mix", {}), "prompt": "a cat", "seed": 3, "reference": upload}
    entered["region_painted"] = {"layers": [], "background": upload, "composite": upload, "more": 5}
    *_, last = Live(parts.live, studio=studio).follow("mix")(**entered)
    sent = last[parts.live.drawn]["sent"]
    file = {"path": upload["path"]}
    assert (sent["reference"], sent["region_painted"]) == (file, {"background": file, "layers": []})
    again = list(Live(parts.live, studio=studio).follow("mix")(**entered, live_drawn=last[parts.live.drawn]))
    assert again == [{parts.live.note: ""}], "it is there already"


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
