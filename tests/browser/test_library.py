"""The Library tab as a visitor uses it: finding, comparing, going on from, deleting and restoring pictures."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from PIL import Image

from ipa_app.library.library import Library
from tests.browser.hands import RESULTS, body, expect_values, press, rest, slow_line
from tests.browser.test_accessibility import violations
from tests.browser.test_presentation import load_presented
from tests.engine.test_keeping import opened
from tests.ui.serving import served
from tests.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ITEMS = ".ipa-library li"
HOSTILE = "<img src=x onerror=alert(1)> ${alert(1)} {{value}}"


@pytest.fixture(scope="module")
def library_app(tiny_bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Library]]:
    with opened(tmp_path_factory.mktemp("library")) as (keeper, library):
        for seed, prompt in enumerate(("a purple cat", HOSTILE, "a red frog", "a frog with a hat"), start=1):
            path = library.pictures.save(
                Image.new("RGB", (64, 64), (60 * seed, 120, 90)),
                name=f"mix-{seed}",
                made=1e9 + seed,
                settings={"output_format": "png", "seed": seed, "prompt": prompt, "task": "mix", "model": "toybox"},
                inputs={},
            )
            os.utime(path, (1e9 + seed, 1e9 + seed))
        with served(tiny_bundle_dir, keeper=keeper) as url:
            yield url, library


@pytest.fixture(scope="module")
def page_url(library_app: tuple[str, Library]) -> str:
    return library_app[0]


def open_library(page: Any) -> None:
    page.get_by_role("tab", name="Library").click()
    page.wait_for_selector(ITEMS)
    rest(page)


def draw_held(page: Any, prompt: str) -> None:
    """Begin to draw one picture, which `may_end` holds, and go to the library meanwhile."""
    page.get_by_role("tab", name="Text + image").click()
    page.fill("#mix-prompt textarea", prompt)
    page.fill("#count input[type=number]", "1")
    page.click("#mix-generate")
    page.wait_for_selector("#mix-stop:enabled")
    page.get_by_role("tab", name="Library").click()
    page.wait_for_selector(ITEMS)


def counted(page: Any, count: int) -> None:
    page.wait_for_function("([items, n]) => document.querySelectorAll(items).length === n", arg=[ITEMS, count])


def tick(page: Any, *captions: str) -> None:
    for caption in captions:
        page.get_by_label(f"Tick: {caption}", exact=True).check()


def test_what_was_drawn_is_found_by_its_words_and_gone_on_from(open_page: Any, shoot: Any) -> None:
    page = open_page()
    page.get_by_role("tab", name="Text + image").click()
    page.fill("#mix-prompt textarea", "a yellow robot")
    page.fill("#count input[type=number]", "1")
    press(page, "#mix-generate")
    rest(page)
    assert page.locator(".toast-body").count() == 0
    page.fill("#mix-prompt textarea", "")
    open_library(page)
    assert not page.is_visible("#count") and not page.is_visible("#more-settings"), "nothing is made here"
    assert "a yellow robot" in page.locator(ITEMS).first.inner_html(), "the newest comes first"
    page.locator("#library-words").locator("textarea, input").press_sequentially("ROBOT yell")
    counted(page, 1)
    shoot(page, "found")
    page.get_by_label("Open: a yellow robot").click()
    page.wait_for_function("document.querySelector('#status').innerText === 'A picture from earlier.'")
    page.click("#use-settings")
    page.wait_for_function("document.querySelector('#mix-prompt textarea')?.value === 'a yellow robot'")


def test_two_are_compared_downloaded_and_taken_as_references(open_page: Any, shoot: Any, reference_file: Path) -> None:
    page = open_page(width=390, height=844, touch=True)
    open_library(page)
    page.click("#library-show")
    page.wait_for_selector(".toast-body.error")
    assert "Nothing is ticked" in page.inner_text(".toast-body.error")
    tick(page, "a purple cat", "a red frog")
    page.click("#library-show")
    page.wait_for_selector("#compared img", state="attached")
    rest(page)
    shoot(page, "compared")
    assert page.evaluate("document.querySelector('#status').getBoundingClientRect().top") < 844
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    with page.expect_download() as download:
        page.click("#download-all")
    with zipfile.ZipFile(download.value.path()) as archive:
        seeds = [name.split("-")[-1] for name in archive.namelist()]
    assert sorted(seeds) == ["1.png", "3.png"]
    page.set_input_files("#reference input[type=file]", str(reference_file))
    page.wait_for_selector("#reference img", state="attached")
    rest(page)
    own = body(page, "#reference img")
    page.click("#library-use")
    page.wait_for_selector("#reference-2 img", state="attached")
    assert "Set as reference" in page.inner_text("#library-note")
    assert body(page, "#reference img") != own
    page.click("#undo-references")
    page.wait_for_selector("#reference-2 img", state="detached")
    rest(page)
    assert body(page, "#reference img") == own


def test_what_is_ticked_stays_ticked_while_others_are_shown(open_page: Any, shoot: Any) -> None:
    page = open_page(width=360, height=740)
    open_library(page)
    everything = page.locator(ITEMS).count()
    tick(page, "a red frog")
    for words, left, ticked in (("purple", 1, "a purple cat"), ("hat", 1, "a frog with a hat")):
        page.locator("#library-words").locator("textarea, input").fill(words)
        counted(page, left)
        tick(page, ticked)
    shoot(page, "found")
    assert page.inner_text(".ipa-ticked span[role=status]") == "3 ticked"
    page.click("#library-show")
    page.wait_for_function("results => document.querySelectorAll(results).length === 3", arg=RESULTS)
    page.locator("#library-words").locator("textarea, input").fill("")
    counted(page, everything)
    assert page.locator(f"{ITEMS} input:checked").count() == 3
    shoot(page, "all")
    page.get_by_role("button", name="Untick all").click()
    assert page.locator(f"{ITEMS} input:checked").count() == 0
    assert not page.is_visible(".ipa-ticked")
    page.click("#library-delete")
    page.wait_for_selector(".toast-body.error")
    assert page.locator(ITEMS).count() == everything


def test_a_heart_that_is_pressed_quickly_shows_what_is_kept(
    open_page: Any, library_app: tuple[str, Library], monkeypatch: pytest.MonkeyPatch
) -> None:
    page, pictures = open_page(), library_app[1].pictures
    open_library(page)
    heart = page.get_by_label("Favourite: a red frog", exact=True)
    slow_line(page)
    for presses in (3, 3, 2):
        before = heart.get_attribute("aria-pressed")
        for _ in range(presses):
            heart.press("Enter")
        rest(page)
        assert (heart.get_attribute("aria-pressed") == before) is (presses % 2 == 0)
        assert len(list(pictures.folder.rglob("*.favourite"))) == (heart.get_attribute("aria-pressed") == "true")
    before = heart.get_attribute("aria-pressed")

    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pictures, "set_favourite", refused)
    heart.press("Enter")
    page.wait_for_selector(".toast-body.error")
    rest(page)
    assert heart.get_attribute("aria-pressed") == before


def test_hearts_and_deleting_by_keyboard(open_page: Any, shoot: Any, library_app: tuple[str, Library]) -> None:
    page = open_page(dark=True)
    open_library(page)
    before = page.locator(ITEMS).count()
    heart = page.get_by_label("Favourite: a red frog", exact=True)
    heart.focus()
    page.keyboard.press("Enter")
    rest(page)
    assert heart.get_attribute("aria-pressed") == "true"
    assert list(library_app[1].pictures.folder.rglob("*.favourite"))
    page.check("#library-favourites input")
    counted(page, 1)
    page.uncheck("#library-favourites input")
    counted(page, before)
    page.get_by_label("Tick: a frog with a hat", exact=True).focus()
    page.keyboard.press("Space")
    page.focus("#library-delete")
    page.keyboard.press("Enter")
    counted(page, before - 1)
    page.wait_for_selector(".ipa-ticked", state="hidden")
    shoot(page, "deleted")
    page.focus("#library-undo")
    page.keyboard.press("Enter")
    counted(page, before)
    assert "One picture is back" in page.inner_text("#library-note")


def test_a_picture_that_is_deleted_while_it_is_open_can_be_used_until_the_page_is_left(open_page: Any) -> None:
    page = open_page()
    open_library(page)
    before = page.locator(ITEMS).count()
    page.get_by_label("Open: a red frog").click()
    page.wait_for_function("document.querySelector('#status').innerText === 'A picture from earlier.'")
    tick(page, "a red frog")
    page.click("#library-delete")
    counted(page, before - 1)
    rest(page)
    shown = body(page, RESULTS)
    with page.expect_download() as download:
        page.click("#download-all")
    assert download.value.path().read_bytes() == shown
    page.click("#share")
    page.wait_for_selector("#sharing")
    page.click("#enlarge")
    page.wait_for_selector("#enlarged img")
    page.click("#use-settings")
    page.wait_for_function("document.querySelector('#mix-prompt textarea')?.value === 'a red frog'")
    page.click("#tab-library-button")
    page.click("#library-undo")
    counted(page, before)


@pytest.mark.parametrize(("dark", "locale"), [(False, "en-US"), (True, "zh-CN")], ids=["light", "dark"])
def test_it_keeps_nobody_out_in_either_language(open_page: Any, shoot: Any, dark: bool, locale: str) -> None:
    page = open_page(dark=dark, locale=locale)
    page.click("#tab-library-button")
    page.wait_for_selector(ITEMS)
    page.click("#library-filters > button")
    shoot(page)
    assert ("图库" in page.inner_text("#tasks")) == dark
    assert violations(page) == []


def test_all_tabs_stay_in_sight(open_page: Any) -> None:
    page = open_page()
    for width in (1440, 1301, 1161, 1100, 1061, 1000, 800, 360):
        page.set_viewport_size({"width": width, "height": 900})
        rest(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for name in ("Variation", "Text + image", "Inpaint", "Pose", "Library"):
            assert page.get_by_role("tab", name=name).is_visible(), f"{name} has gone into a menu at {width}"


def test_on_a_phone_the_live_picture_does_not_lie_on_it(open_page: Any) -> None:
    page = open_page(width=390, height=844, touch=True)
    page.get_by_role("tab", name="Text + image").click()
    page.fill("#mix-prompt textarea", "a yellow robot")
    page.check("#live input")
    page.wait_for_selector("#live-picture img", state="attached")
    page.locator("#scale").scroll_into_view_if_needed()
    page.wait_for_selector("#live-picture img")
    open_library(page)
    assert not page.is_visible("#live-picture img")
    assert not page.is_visible(".ipa-live-size")


@pytest.mark.parametrize("stop", ["Escape", "#mix-stop"])
def test_what_is_drawn_is_stopped_from_here(open_page: Any, shoot: Any, may_end: Event, stop: str) -> None:
    page = open_page(width=390, height=740)
    draw_held(page, "a cat")
    assert page.is_visible("#mix-stop")
    assert not page.is_visible("#mix-prompt") and not page.is_visible("#mix-generate"), "nothing is made here"
    shoot(page)
    if stop.startswith("#"):
        page.click(stop)
    else:
        page.keyboard.press(stop)
    page.wait_for_function("document.querySelector('#status').innerText === 'Stopped.'")
    page.wait_for_selector("#mix-stop", state="hidden")


def test_what_is_drawn_meanwhile_is_shown_when_it_is_there(open_page: Any, may_end: Event) -> None:
    page = open_page()
    draw_held(page, "a green robot")
    tick(page, "a red frog")
    before = page.locator(ITEMS).count()
    may_end.set()
    page.wait_for_selector(f"{ITEMS} >> nth={before}")
    assert "a green robot" in page.locator(ITEMS).first.inner_html()
    assert page.get_by_label("Tick: a red frog", exact=True).is_checked()


def test_whoever_looks_at_older_ones_is_left_there(
    open_page: Any, may_end: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipa_app.ui.library.ON_A_PAGE", 2)
    page = open_page()
    draw_held(page, "a blue robot")
    page.click("#library-older:enabled")
    page.wait_for_selector("#library-newer:enabled")
    shown = page.inner_text("#library-note")
    may_end.set()
    page.wait_for_selector(RESULTS)
    rest(page)
    assert page.inner_text("#library-note") == shown


def test_here_the_points_of_strength_are_those_of_the_tab_before(open_page: Any) -> None:
    page = open_page()
    page.click("#tab-mix-button")
    expect_values(page, scale="0.6")
    open_library(page)
    for reloaded in (False, True):
        if reloaded:
            page.reload()
            page.wait_for_selector(ITEMS)
            rest(page)
        for point, scale in (("A hint", "0.4"), ("Usual", "0.6")):
            page.locator("#amount").get_by_label(point).check()
            expect_values(page, scale=scale)
    page.click("#tab-mix-button")
    rest(page)
    expect_values(page, scale="0.6")
    assert page.locator("#amount").get_by_label("Usual").is_checked()


def test_what_is_looked_for_stays_when_the_page_is_loaded_anew(open_page: Any) -> None:
    page = open_page()
    page.click("#sets-panel > button")
    page.fill("#sets-name :is(input, textarea)", "My toys")
    open_library(page)
    every = page.locator(ITEMS).count()
    page.locator("#library-words").locator("textarea, input").press_sequentially("frog")
    counted(page, 2)
    page.reload()
    page.wait_for_selector(ITEMS)
    rest(page)
    counted(page, 2)
    assert page.locator("#library-words").locator("textarea, input").input_value() == "frog"
    page.click("#sets-panel > button")
    rest(page)
    assert page.input_value("#sets-name :is(input, textarea)") == "My toys"
    page.locator("#library-words").locator("textarea, input").fill("")
    counted(page, every)


def test_in_presentation_mode_every_tab_is_in_sight_but_the_library(open_page: Any) -> None:
    page = open_page()
    load_presented(page)
    names, shown = ["Variation", "Text + image", "Inpaint", "Pose"], page.locator("#tasks [role=tab]:visible")
    for width in (1920, 1440, 1366, 1280, 1024, 820, 390):
        page.set_viewport_size({"width": width, "height": 800})
        until(lambda: shown.all_inner_texts() == names, f"the tabs at {width}: {shown.all_inner_texts()}")
    page.set_viewport_size({"width": 200, "height": 800})
    page.click("#tasks .overflow-menu > button")
    beside = page.locator("#tasks .overflow-dropdown button:visible").all_inner_texts()
    assert [*shown.all_inner_texts(), *beside] == names


def test_what_is_ticked_and_still_there_stays_ticked_when_the_page_is_loaded_anew(
    open_page: Any, library_app: tuple[str, Library]
) -> None:
    page, pictures = open_page(), library_app[1].pictures
    open_library(page)
    tick(page, "a red frog", "a purple cat")
    lost = page.locator(ITEMS).filter(has=page.get_by_label("Tick: a red frog", exact=True))
    deletion = pictures.delete([lost.get_attribute("data-name")])
    page.reload()
    page.wait_for_selector(ITEMS)
    page.wait_for_function("document.querySelector('.ipa-ticked > span').innerText === '1 ticked'")
    assert page.get_by_label("Tick: a purple cat", exact=True).is_checked()
    pictures.restore(deletion.id)
    page.reload()
    page.wait_for_selector(ITEMS)
    rest(page)
    assert page.locator(f"{ITEMS} input:checked").count() == 1
    page.get_by_role("button", name="Untick all").click()
    page.reload()
    page.wait_for_selector(ITEMS)
    rest(page)
    assert page.locator(f"{ITEMS} input:checked").count() == 0
