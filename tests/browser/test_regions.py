"""Painting where each picture counts, as a visitor does: seen as an overlay, drawn, and restored from the file."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from ipa_app.engine.metadata import read_request
from tests.browser.hands import IN_SIGHT, RESULTS, body, drawn, enter, expect_values, press, rest, restored, settle

pytestmark = [pytest.mark.browser, pytest.mark.slow]


_SHOWS = "([src, same]) => (document.querySelector('#region-shown-1 img')?.getAttribute('src') === src) === same"


def choose_place(page: Any, number: int, place: str) -> None:
    if not page.is_visible(f"#region-{number}"):
        page.click(f"#seen-panel-{number} > button")
    page.locator(f"#region-{number}").get_by_label(place).check()
    rest(page)


def paint(page: Any, number: int, *, across: float) -> None:
    """Draw a stroke from top to bottom; `across` is its position as a share of the painting area's width."""
    editor = f"#region-editor-{number} .pixi-target canvas"
    settle(page, editor)
    page.locator(editor).scroll_into_view_if_needed()
    rest(page)
    box = page.locator(editor).bounding_box()
    x, middle = box["x"] + across * box["width"], box["y"] + box["height"] / 2
    page.mouse.move(x, middle - 60)
    page.mouse.down()
    page.mouse.move(x, middle, steps=4)
    page.mouse.move(x, middle + 60, steps=4)
    page.mouse.up()
    rest(page)


def overlay(page: Any, number: int) -> np.ndarray:
    """Press "Show all places", and return the picture shown."""
    shown = page.locator(f"#region-shown-{number} img")
    page.click(f"#region-show-{number}")
    rest(page)
    shown.wait_for()
    page.wait_for_function(IN_SIGHT, arg=f"#region-shown-{number} img")
    data = base64.b64decode(shown.get_attribute("src").split(",")[1])
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


def masks_of(data: bytes, folder: Path) -> list[np.ndarray]:
    (folder / "result.png").write_bytes(data)
    references = read_request(folder / "result.png").references
    return [np.asarray(each.region_mask) for each in references if each.region_mask is not None]


def test_a_painted_place_is_seen_beside_a_half_and_drawn(
    open_page: Any, shoot: Any, reference_file: Path, tmp_path: Path
) -> None:
    page = open_page()
    page.click("#add-reference")
    page.set_input_files("#reference-2 input[type=file]", str(reference_file))
    choose_place(page, 2, "Right half")
    choose_place(page, 1, "Where I paint")
    paint(page, 1, across=0.3)
    shown = overlay(page, 1)
    pink, blue = shown[..., 0] - shown[..., 2] > 60, shown[..., 2] - shown[..., 0] > 60
    assert pink.any()
    assert blue[:, shown.shape[1] // 2 + 8 :].all()
    assert np.nonzero(pink)[1].max() < np.nonzero(blue)[1].min()
    assert page.inner_text("#region-shown-1 .ipa-region-names").split("\n") == [
        "Reference picture 1",
        "Reference picture 2",
    ]
    shoot(page, "painted")

    page.fill("#count input[type=number]", "1")
    press(page, "#variation-generate")
    made = body(page, RESULTS)
    (mask,) = masks_of(made, tmp_path)
    assert 0 < np.nonzero(mask)[1].max() < mask.shape[1] // 2


def test_a_painted_place_is_restored(
    open_page: Any, shoot: Any, page_url: str, reference_file: Path, tmp_path: Path
) -> None:
    mask = Image.new("L", (64, 32))
    mask.paste(255, (8, 8, 24, 24))
    mask.save(tmp_path / "mask.png")
    client = Client(page_url, verbose=False, download_files=str(tmp_path))
    reference, painted = handle_file(str(reference_file)), handle_file(str(tmp_path / "mask.png"))
    (made,), _ = client.predict(reference=reference, region_mask=painted, region_softness=2, api_name="/variation")
    fresh = restored(open_page, Path(made).read_bytes())
    assert fresh.locator("#region-1").get_by_label("Where I paint").is_checked()
    fresh.locator("#region-mask-1 img").wait_for()
    fresh.locator("#region-editor-1 .pixi-target canvas").wait_for()
    expect_values(fresh, region_softness_1="2")
    shoot(fresh)


def test_each_place_has_words_of_its_own_which_are_drawn_and_restored(
    open_page: Any, shoot: Any, reference_file: Path, tmp_path: Path
) -> None:
    page = open_page()
    page.click("#tab-mix-button")
    page.click("#add-reference")
    page.set_input_files("#reference-2 input[type=file]", str(reference_file))
    told = {1: "a red cat", 2: "a blue zebra"}
    for number, place in ((1, "Left half"), (2, "Right half")):
        words = f"#region-prompt-{number} textarea"
        assert not page.is_visible(words)
        choose_place(page, number, place)
        assert not page.is_visible(f"#region-paint-{number}")
        page.fill(words, told[number])
    page.wait_for_selector("#region-unknown-2 .ipa-note")
    assert "does not know the word zebra" in page.inner_text("#region-unknown-2")
    assert page.inner_text("#region-unknown-1").strip() == ""
    shoot(page, "written")

    # The words are kept while there is no place for them.
    page.fill("#count input[type=number]", "1")
    choose_place(page, 1, "Everywhere")
    page.wait_for_selector("#region-prompt-1", state="hidden")
    (tmp_path / "one.png").write_bytes(drawn(page, "#mix-generate"))
    assert [each.region_prompt for each in read_request(tmp_path / "one.png").references] == ["", told[2]]
    choose_place(page, 1, "Left half")
    assert page.input_value("#region-prompt-1 textarea") == told[1]
    made = drawn(page, "#mix-generate")
    (tmp_path / "two.png").write_bytes(made)
    assert [each.region_prompt for each in read_request(tmp_path / "two.png").references] == list(told.values())

    fresh = restored(open_page, made)
    for number, words in told.items():
        fresh.wait_for_selector(f"#region-prompt-{number} textarea")
        assert fresh.input_value(f"#region-prompt-{number} textarea") == words
    assert "does not know the word zebra" in fresh.inner_text("#region-unknown-2")
    shoot(fresh, "restored")
    assert drawn(fresh, "#mix-generate") == made


def test_a_phone_has_room_to_paint(open_page: Any, shoot: Any) -> None:
    page = open_page(width=390, height=844)
    choose_place(page, 1, "Where I paint")
    paint(page, 1, across=0.5)
    shoot(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("width", [1000, 1280])
def test_a_small_screen_has_room_to_paint(open_page: Any, shoot: Any, width: int) -> None:
    page = open_page(width=width, height=720)
    before = page.locator("#reference").bounding_box()["width"]
    choose_place(page, 1, "Where I paint")
    area = page.locator("#region-editor-1 .pixi-target").bounding_box()
    shoot(page)
    for tools in (".top-panel", ".toolbar-wrap"):
        box = page.locator(f"#region-editor-1 {tools}").bounding_box()
        assert box["x"] >= area["x"], tools
        assert box["x"] + box["width"] <= area["x"] + area["width"], tools
        assert max(box["height"], box["width"]) < 280, tools
    if width == 1280:
        assert area["width"] > 300
    choose_place(page, 1, "Left half")
    page.wait_for_selector("#region-paint-1", state="hidden")
    assert page.locator("#reference").bounding_box()["width"] == before


def test_what_was_painted_waits_while_another_place_is_chosen(open_page: Any) -> None:
    page = open_page()
    choose_place(page, 1, "Where I paint")
    page.click("#variation-generate")
    page.wait_for_selector(".toast-body.error")
    assert "nothing is painted" in page.inner_text(".toast-body.error")
    page.click(".toast-close")  # its bar would move for ten seconds
    paint(page, 1, across=0.3)
    overlay(page, 1)
    hard = page.get_attribute("#region-shown-1 img", "src")
    choose_place(page, 1, "Left half")
    page.wait_for_selector("#region-paint-1", state="hidden")
    choose_place(page, 1, "Where I paint")
    settle(page, "#region-editor-1 .pixi-target canvas")
    for softness, is_as_before in (("10", False), ("0", True)):
        enter(page, "region-softness-1", softness)
        page.click("#region-show-1")
        page.wait_for_function(_SHOWS, arg=[hard, is_as_before])
