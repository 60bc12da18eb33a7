"""Live pictures without a browser: what is drawn, in which order, and what ends it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import GenerateResult
from ipa_app.errors import Cancelled
from ipa_app.imaging.transparency import on_white
from ipa_app.messages import Message
from ipa_app.models.catalog import entry_from_folder
from ipa_app.ui.calls import set_arrived
from ipa_app.ui.live import Live, UnderWay
from ipa_app.ui.pictures import inline_picture
from ipa_app.ui.studio import Studio
from tests.tiny_models import tiny_fast_way
from tests.ui.page_parts import Opened, Update, inputs_after, opened_page, picture_in
from tests.waiting import until


@pytest.fixture(scope="module")
def quick_page(tiny_bundle_dir: Path) -> Iterator[Opened]:
    """A page with a model "quick" that suits live mode and has a fast way."""
    quick = replace(entry_from_folder(tiny_bundle_dir, name="quick"), live=True, steps=3)
    with opened_page(tiny_bundle_dir, others=[replace(quick, fast=tiny_fast_way(tiny_bundle_dir, steps=2))]) as opened:
        yield opened


def pictures(page: Opened, **entered: Any) -> list[tuple[str, Update]]:
    """Return what live mode shows of a mix by the model "quick": each picture's HTML with its update."""
    parts, studio = page
    given = {**inputs_after(parts, "mix", {}), "prompt": "a cat", "model": "quick", "seed": 3, **entered}
    updates = Live(parts.live, studio=studio).follow("mix")(**given)
    return [(each[parts.live.picture], each) for each in updates if parts.live.picture in each]


def drawn(page: Opened, **fields: Any) -> Image.Image:
    """Return the same mix as the engine draws it alone and the page shows it."""
    request = GenerateRequest(task="mix", model="quick", **{"prompt": "a cat", "seed": 3, **fields})
    image = page[1].engine.submit(request, live=True).result().images[0]
    return picture_in(inline_picture(on_white(image), alt=Message("page.live_picture"), css_class="ipa-live"))


def has_begun(studio: Studio, job: str) -> None:
    """Wait until a job no longer waits its turn."""
    until(lambda: not studio._jobs[job].job.waits)  # type: ignore[union-attr]


def test_a_draft_is_shown_first_and_then_what_was_asked_for(quick_page: Opened) -> None:
    (draft, first), (whole, last) = pictures(quick_page)
    assert picture_in(draft).tobytes() == drawn(quick_page, speed="fast").tobytes()
    assert picture_in(whole).tobytes() == drawn(quick_page).tobytes() != picture_in(draft).tobytes()
    assert ("ipa-draft" in draft, "ipa-draft" in whole) == (True, False)
    live = quick_page[0].live
    assert first[live.drawn]["sent"] == last[live.drawn]["sent"], "what is kept of a draft is what was asked for"
    assert not pictures(quick_page, live_drawn=last[live.drawn]), "it is there already"
    assert len(pictures(quick_page, live_drawn=first[live.drawn])) == 2, "a draft is not yet what was asked for"


@pytest.mark.parametrize(
    ("entered", "field"),
    [
        ({"speed": "fast"}, "speed"),
        ({"guidance": 5.0}, "guidance_scale"),
        ({"negative_prompt": "a dog"}, "negative_prompt"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_there_is_no_draft_where_it_would_leave_out_what_was_asked_for(
    quick_page: Opened, entered: dict[str, Any], field: str
) -> None:
    ((whole, _),) = pictures(quick_page, **entered)
    (value,) = entered.values()
    assert picture_in(whole).tobytes() == drawn(quick_page, **{field: value}).tobytes()


def test_without_the_file_of_the_fast_way_what_was_asked_for_is_drawn_all_the_same(
    tiny_bundle_dir: Path, tmp_path: Path
) -> None:
    way = tiny_fast_way(tiny_bundle_dir, lora=tmp_path / "gone.safetensors")
    quick = replace(entry_from_folder(tiny_bundle_dir, name="quick"), live=True, steps=3, fast=way)
    with opened_page(tiny_bundle_dir, others=[quick]) as page:
        ((whole, update),) = pictures(page)
        assert picture_in(whole).tobytes() == drawn(page).tobytes()
        assert update[page[0].live.note] == ""


def test_what_has_to_be_read_first_is_told_in_a_sentence(tiny_bundle_dir: Path) -> None:
    other = entry_from_folder(tiny_bundle_dir, name="quick")
    with opened_page(tiny_bundle_dir, others=[other]) as (parts, studio):
        given = {**inputs_after(parts, "mix", {}), "prompt": "a cat", "model": "quick"}
        updates = Live(parts.live, studio=studio).follow("mix")(**given)
        told = [re.sub("<[^>]*>", "", each[parts.live.note]) for each in updates if each.get(parts.live.note)]
    assert told
    assert all(each[0].isupper() for each in told)


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
    live, begun = Live(parts.live, studio=studio), UnderWay(studio)
    monkeypatch.setattr("ipa_app.ui.live._FINISHES_S", 3600.0)  # long enough for a busy machine
    job = begun.submit(GenerateRequest(task="mix", prompt="a cat", steps=3))
    has_begun(studio, job)
    live.overtake(begun)
    *_, result = studio.follow(job)
    assert isinstance(result, GenerateResult)
    old = UnderWay(studio)
    job = old.submit(GenerateRequest(task="mix", prompt="a cat", steps=100))
    studio._jobs[job].began -= 3600
    live.overtake(old)
    with pytest.raises(Cancelled):
        list(studio.follow(job))


def test_a_picture_is_not_overtaken_by_the_change_that_asked_for_it(page: Opened) -> None:
    """The page sends both at once, and the picture may be begun first."""
    parts, studio = page
    live = Live(parts.live, studio=studio)

    def drawn() -> object:
        set_arrived(time.monotonic())
        begun = UnderWay(studio)
        live.overtake(begun)
        *_, result = studio.follow(begun.submit(GenerateRequest(task="mix", prompt="a cat", steps=3)))
        return result

    assert isinstance(copy_context().run(drawn), GenerateResult)


def test_a_live_picture_that_is_overtaken_is_given_up_once_it_takes_long(
    page: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, studio = page
    unet = studio.manager.get("toybox", 200).pipelines["text_to_image"].unet
    slow = unet.register_forward_pre_hook(lambda *_: time.sleep(1))
    monkeypatch.setattr("ipa_app.ui.live._FINISHES_S", 0.5)
    live = Live(parts.live, studio=studio)
    drawing = live.follow("mix")(**{**inputs_after(parts, "mix", {}), "prompt": "a cat", "seed": 3})
    begun = next(drawing)[parts.live.under_way]
    has_begun(studio, begun._jobs[0])
    live.overtake(begun)
    assert not [update for update in drawing if parts.live.picture in update]
    slow.remove()


def test_a_live_picture_that_waits_is_given_up_as_soon_as_it_is_overtaken(
    page: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, studio = page
    monkeypatch.setattr("ipa_app.ui.live._FINISHES_S", 3600.0)
    long = studio.submit(GenerateRequest(task="mix", prompt="a cat", steps=100, count=8))
    has_begun(studio, long)
    begun = UnderWay(studio)
    job = begun.submit(GenerateRequest(task="mix", prompt="a cat", steps=3))
    Live(parts.live, studio=studio).overtake(begun)
    with pytest.raises(Cancelled):
        list(studio.follow(job))
    assert not studio._jobs[long].job.done
    studio.cancel(long)


def test_what_comes_after_a_draft_is_not_drawn_once_a_newer_picture_is_wanted(
    page: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, studio = page
    live, whole = Live(parts.live, studio=studio), GenerateRequest(task="mix", prompt="a cat", steps=100)
    monkeypatch.setattr("ipa_app.ui.live._FINISHES_S", 3600.0)
    begun = UnderWay(studio)
    list(studio.follow(begun.submit(replace(whole, steps=3))))
    job = begun.submit(whole)
    live.overtake(begun)
    with pytest.raises(Cancelled):
        list(studio.follow(job))  # a picture is shown already, so this one is not waited for
    early = UnderWay(studio)
    draft = early.submit(replace(whole, steps=3))
    has_begun(studio, draft)
    live.overtake(early)
    *_, shown = studio.follow(draft)
    assert isinstance(shown, GenerateResult)
    with pytest.raises(Cancelled):
        early.submit(whole)


@pytest.mark.parametrize("model", ["toybox", "quick"])
def test_who_goes_away_as_soon_as_it_has_begun_takes_the_picture_along(quick_page: Opened, model: str) -> None:
    parts, studio = quick_page
    given = {**inputs_after(parts, "mix", {}), "prompt": "a cat", "model": model, "seed": 3}
    drawing: Any = Live(parts.live, studio=studio).follow("mix")(**given)
    begun = next(drawing)[parts.live.under_way]
    (job,) = begun._jobs
    assert studio.knows(job)
    drawing.close()
    until(lambda: not studio.knows(job))


def test_switched_off_nothing_is_finished(page: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, studio = page
    monkeypatch.setattr("ipa_app.ui.live._FINISHES_S", 3600.0)
    begun = UnderWay(studio)
    job = begun.submit(GenerateRequest(task="mix", prompt="a cat", steps=100))
    Live(parts.live, studio=studio).switch(False, begun)
    with pytest.raises(Cancelled):
        list(studio.follow(job))


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
