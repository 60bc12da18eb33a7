"""What a visitor does with results: reuse settings, compare, go on, download, look again."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ipa_app.engine.metadata import read_request
from tests.browser.hands import (
    EDITOR,
    IN_SIGHT,
    PATIENCE_MS,
    RESULTS,
    body,
    drawn,
    drop,
    enter,
    expect_values,
    load,
    open_accordions,
    press,
    rest,
    restored,
    settle,
    slow_line,
)
from tests.browser.test_reference_sets import references_drawn, set_out
from tests.browser.test_regions import choose_place, masks_of, paint

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_a_dropped_result_sets_everything_and_draws_the_same_file(
    open_page: Any, shoot: Any, reference_file: Path
) -> None:
    page = open_page()
    page.click("#add-reference")
    page.set_input_files("#reference-2 input[type=file]", str(reference_file))
    page.wait_for_selector("#reference-2 img")
    enter(page, "weight-2", "0.4")
    page.get_by_role("tab", name="Text + image").click()
    page.wait_for_function("document.querySelector('#scale input[type=number]').value === '0.6'")
    enter(page, "scale", "1")  # what suits the tab that the page opens with
    page.fill("#mix-prompt textarea", "a red frog")
    page.get_by_label("Fine-grained").check()
    page.fill("#count input[type=number]", "2")
    made = drawn(page, "#mix-generate")
    shoot(page, "made")

    fresh = restored(open_page, made)
    fresh.wait_for_selector("#mix-prompt textarea")
    assert fresh.input_value("#mix-prompt textarea") == "a red frog"
    fresh.wait_for_selector("#reference-2 img")
    rest(fresh)
    expect_values(fresh, scale="1", count="2", weight_1="1", weight_2="0.4")
    shoot(fresh, "restored")
    assert drawn(fresh, "#mix-generate") == made


def test_of_two_results_that_are_dropped_quickly_the_last_one_counts(
    open_page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, dropped = open_page(), Event()
    page.fill("#count input[type=number]", "1")
    files = []
    for words in ("a cat", "a frog"):
        page.fill("#variation-prompt textarea", words)
        files.append(drawn(page, "#variation-generate"))

    def slow(path: str) -> Any:
        dropped.wait(PATIENCE_MS / 1000)
        return read_request(path)

    monkeypatch.setattr("ipa_app.ui.restore.read_request", slow)
    page.fill("#variation-prompt textarea", "")
    drop(page, files[0])
    page.click("#restore-file button[aria-label='Clear']")
    drop(page, files[1])
    page.wait_for_selector("#restore-file .file-preview")
    dropped.set()
    page.wait_for_function("document.querySelector('#variation-prompt textarea').value === 'a frog'")
    rest(page)
    assert page.inner_text("#restore-note").startswith("Everything is set as it was.")


def test_an_inpainting_comes_back_with_picture_and_mask(open_page: Any, shoot: Any, reference_file: Path) -> None:
    page = open_page()
    page.get_by_role("tab", name="Inpaint").click()
    page.set_input_files("#inpaint-image input[type=file]", str(reference_file))
    mask = io.BytesIO()
    Image.linear_gradient("L").resize((300, 200)).save(mask, format="PNG")
    page.click("#inpaint-mask-panel > button")
    page.set_input_files(
        "#inpaint-mask input[type=file]", {"name": "mask.png", "mimeType": "image/png", "buffer": mask.getvalue()}
    )
    page.wait_for_selector("#inpaint-mask img")
    page.fill("#count input[type=number]", "1")
    made = drawn(page, "#inpaint-generate")

    fresh = restored(open_page, made)
    fresh.wait_for_selector("#inpaint-mask img")
    settle(fresh, EDITOR)
    shoot(fresh, "restored")
    assert drawn(fresh, "#inpaint-generate") == made


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_a_file_of_another_format_comes_back_as_it_was(open_page: Any, kind: str) -> None:
    page = open_page()
    page.click("#more-settings > button")
    page.locator("#output-format").get_by_label(kind, exact=False).check()
    page.fill("#count input[type=number]", "1")
    made = drawn(page, "#variation-generate")
    assert Image.open(io.BytesIO(made)).format == kind.upper()
    with page.expect_download() as download:
        page.click("#download-all")
    assert download.value.path().read_bytes() == made

    fresh = restored(open_page, made, kind=kind)
    assert "Everything is set as it was" in fresh.inner_text("#restore-note")
    assert drawn(fresh, "#variation-generate") == made


def test_a_picture_from_elsewhere_is_told_plainly_and_changes_nothing(open_page: Any, reference_file: Path) -> None:
    page = open_page()
    page.fill("#variation-prompt textarea", "a red frog")
    drop(page, reference_file.read_bytes())
    page.wait_for_selector("#restore-note .ipa-note")
    assert "does not say how it was made" in page.inner_text("#restore-note")
    assert page.input_value("#variation-prompt textarea") == "a red frog"
    assert page.is_visible("#restore-file input[type=file], #restore-file button")


def test_compare_pick_go_on_download_and_look_again(open_page: Any, shoot: Any) -> None:
    page = open_page()
    press(page, "#variation-both-adapters")
    page.wait_for_selector("#compared img")
    assert page.locator("#compared img").count() >= 2
    shoot(page, "both")

    press(page, "#variation-scale-strip")
    captions = [text.strip() for text in page.locator("#results .caption-label").all_inner_texts()]
    assert captions == ["0", "0.25", "0.5", "0.75", "1"]
    tops = {round(box.bounding_box()["y"]) for box in page.locator("#results .thumbnail-item").all()}
    assert len(tops) == 1, "they stand in one row"
    assert page.evaluate("document.querySelector('#results .grid-wrap').scrollWidth") <= (
        page.locator("#results").bounding_box()["width"] + 1
    )
    assert not page.is_visible("#compared img")
    shoot(page, "strip")

    with page.expect_download() as download:
        page.click("#download-all")
    with zipfile.ZipFile(download.value.path()) as archive:
        assert len(archive.namelist()) == 5

    page.locator("#results .thumbnail-item").nth(4).click()
    page.wait_for_function("document.querySelector('#picked').innerText.includes('picture 5 of 5')")
    strongest = body(page, "#results .preview img")
    page.fill("#count input[type=number]", "1")
    press(page, "#more-like-this")
    assert body(page, "#reference img") == strongest
    shoot(page, "more")

    page.click("#history-panel > button")
    page.wait_for_selector("#history .thumbnail-item img")
    assert page.locator("#history .thumbnail-item").count() == 8
    shoot(page, "history")
    page.locator("#history .thumbnail-item").nth(5).click()
    page.wait_for_function("document.querySelector('#status').innerText.includes('earlier')")
    assert body(page, RESULTS) == strongest
    page.click("#use-settings")
    page.wait_for_function("document.querySelector('#scale input[type=number]').value === '1'")


def test_a_picked_picture_is_looked_at_large(open_page: Any, shoot: Any) -> None:
    page = open_page()
    page.fill("#count input[type=number]", "2")
    press(page, "#variation-generate")
    assert not page.is_visible("#enlarged img")
    page.locator("#results .thumbnail-item").nth(1).click()
    page.wait_for_function("document.querySelector('#picked').innerText.includes('picture 2 of 2')")
    picked = page.locator(RESULTS).nth(0)
    side = picked.evaluate("image => image.naturalWidth")
    page.click("#enlarge")
    page.wait_for_selector("#enlarged img")
    page.wait_for_function(f"document.querySelector('#enlarged img').naturalWidth === {4 * side}")
    shoot(page)
    page.get_by_role("button", name="fullscreen").locator("visible=true").and_(page.locator("#enlarged button")).click()
    page.wait_for_selector("#enlarged.fullscreen")
    rest(page)  # it grows
    shoot(page, "whole-screen")
    uncovered = """() => [0.05, 0.2, 0.4, 0.6, 0.8, 0.95].every(x => [0.1, 0.3, 0.5, 0.7, 0.9].every(y =>
        document.elementFromPoint(x * innerWidth, y * innerHeight)?.closest("#enlarged")))"""
    assert page.evaluate(uncovered), "something lies over it"
    assert page.evaluate("getComputedStyle(document.querySelector('#enlarged')).backgroundColor") != "rgba(0, 0, 0, 0)"
    page.keyboard.press("Escape")
    page.wait_for_selector("#enlarged:not(.fullscreen)")
    press(page, "#variation-generate")
    assert not page.is_visible("#enlarged img"), "it was of another picture"


def test_settings_that_come_back_are_told_with_the_seed_that_they_set(open_page: Any, shoot: Any) -> None:
    page = open_page()
    page.fill("#count input[type=number]", "1")
    first = drawn(page, "#variation-generate")
    assert not page.is_visible("#new-seed")
    page.click("#use-settings")
    page.wait_for_selector(".toast-body")
    assert "Everything is set as it was" in page.inner_text(".toast-body")
    rest(page)
    assert drawn(page, "#variation-generate") == first
    shoot(page, "again")
    assert "is set: the same settings give the same picture again" in page.inner_text("#status")
    press(page, "#more-like-this")
    once = body(page, RESULTS)
    page.click("#use-settings")
    rest(page)
    assert drawn(page, "#variation-generate") == once
    page.click("#new-seed")
    page.wait_for_selector("#new-seed", state="hidden")
    assert drawn(page, "#variation-generate") != once


def test_the_references_that_more_like_this_took_the_place_of_come_back(
    open_page: Any, shoot: Any, tmp_path: Path
) -> None:
    page = open_page()
    set_out(page)
    choose_place(page, 1, "Where I paint")
    paint(page, 1, across=0.3)
    before = references_drawn(page, tmp_path)
    (painted,) = masks_of((tmp_path / "made.png").read_bytes(), tmp_path)
    for _ in range(2):
        press(page, "#more-like-this")
        rest(page)
        assert not page.is_visible("#reference-2")
    shoot(page, "more")
    for left in (1, 0):
        page.click("#undo-references")
        rest(page)
        assert page.is_visible("#undo-references") == bool(left)
    shoot(page, "undone")
    assert references_drawn(page, tmp_path) == before
    (again,) = masks_of((tmp_path / "made.png").read_bytes(), tmp_path)
    assert np.abs(again.astype(int) - painted).max() <= 2


def test_the_picture_that_is_shown_is_the_one_that_is_picked(open_page: Any) -> None:
    page = open_page()
    page.fill("#count input[type=number]", "4")
    press(page, "#variation-generate")
    page.locator("#results .thumbnail-item").first.click()
    rest(page)
    slow_line(page)
    for _ in range(3):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(60)  # faster than the picked picture can be reported
    page.wait_for_function("document.querySelector('#picked').innerText.includes('picture 4')")


def test_what_was_painted_since_is_gone_where_an_inpainting_is_taken_up_again(open_page: Any, tmp_path: Path) -> None:
    Image.effect_noise((256, 256), 50).convert("RGB").save(tmp_path / "photo.png")
    page = open_page()
    load(page, tmp_path / "photo.png")
    _stroke(page, 0.3)
    first = drawn(page, "#inpaint-generate")
    _stroke(page, 0.7)
    assert _painted(drawn(page, "#inpaint-generate"), tmp_path) > _painted(first, tmp_path)
    drop(page, first)
    page.wait_for_selector("#restore-note .ipa-note")
    rest(page)
    settle(page, EDITOR)
    assert _painted(drawn(page, "#inpaint-generate"), tmp_path) == _painted(first, tmp_path)
    # Once more, with the same picture already there.
    _stroke(page, 0.7)
    page.click("#use-settings")
    rest(page)
    settle(page, EDITOR)
    assert _painted(drawn(page, "#inpaint-generate"), tmp_path) == _painted(first, tmp_path)


def _stroke(page: Any, height: float) -> None:
    """Paint from left to right, at a share of the editor's height."""
    box = page.locator(EDITOR).bounding_box()
    across = [box["x"] + box["width"] * share for share in (0.35, 0.65)]
    page.mouse.move(across[0], box["y"] + box["height"] * height)
    page.mouse.down()
    page.mouse.move(across[1], box["y"] + box["height"] * height, steps=6)
    page.mouse.up()
    rest(page)


def _painted(result: bytes, folder: Path) -> int:
    """Return how many pixels of a result the mask marked."""
    (folder / "result.png").write_bytes(result)
    mask = read_request(folder / "result.png").mask
    assert mask is not None
    return sum(mask.histogram()[128:])


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (390, 740)])
def test_what_a_press_opens_comes_into_sight(open_page: Any, shoot: Any, width: int, height: int) -> None:
    page = open_page(width=width, height=height, touch=width < 640)
    page.fill("#count input[type=number]", "1")
    press(page, "#variation-generate")
    for button, opened in (("#share", "#share-file"), ("#enlarge", "#enlarged img")):
        page.locator(button).scroll_into_view_if_needed()
        rest(page)
        page.click(button)
        page.wait_for_selector(opened)
        rest(page)
        shoot(page, button)
        page.wait_for_function(IN_SIGHT, arg=opened)
    open_accordions(page)
    page.locator("#history .thumbnail-item").last.scroll_into_view_if_needed()
    rest(page)
    page.locator("#history .thumbnail-item").last.click()
    page.wait_for_function("document.querySelector('#status').innerText.includes('earlier')")
    page.wait_for_function(IN_SIGHT, arg="#status")
    page.locator("#more-like-this").scroll_into_view_if_needed()
    page.evaluate("scrollBy(0, document.querySelector('#more-like-this').getBoundingClientRect().top - 100)")
    rest(page)
    page.click("#more-like-this")
    page.wait_for_function(IN_SIGHT, arg="#status")
