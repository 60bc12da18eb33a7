"""The reference panel as a visitor uses it: watching, redrawing by the slider, taking everything back from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ipa_app.imaging.result_files import read_settings
from tests.browser.hands import RESULTS, body, drawn, enter, expect_values, press, rest, restored

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_a_picture_is_seen_while_it_is_drawn(open_page: Any, shoot: Any) -> None:
    page = open_page()
    page.click("#more-settings > button")
    enter(page, "steps", "100")
    page.click("#variation-generate")
    page.wait_for_selector("#preview img")
    assert not page.is_visible(RESULTS), "the result is not there yet"
    assert page.evaluate("document.querySelector('#preview img').naturalWidth") >= 64
    shoot(page, "watching")
    page.wait_for_selector("#status .ipa-done")
    page.wait_for_selector(RESULTS)
    assert page.locator(RESULTS).count() == 4
    assert not page.is_visible("#preview img")


def test_letting_go_of_the_strength_draws_again_on_the_same_seed(open_page: Any, shoot: Any) -> None:
    page = open_page()
    page.fill("#count input[type=number]", "2")
    press(page, "#variation-generate")
    captions = page.locator("#results .caption-label").all_inner_texts()
    before = body(page, RESULTS)
    slide(page, 0.2)
    rest(page)
    assert body(page, RESULTS) == before, "it is off until it is asked for"

    page.get_by_label("Redraw when the strength changes").check()
    page.evaluate("document.querySelector('#status .ipa-status').setAttribute('data-before', '')")
    slide(page, 0.5)
    page.wait_for_selector("#status .ipa-done:not([data-before])")
    assert page.locator("#results .caption-label").all_inner_texts() == captions
    assert body(page, RESULTS) != before
    shoot(page, "redrawn")


def test_each_change_of_the_strength_by_keyboard_draws_again_once(open_page: Any, shoot: Any, tmp_path: Path) -> None:
    page = open_page()
    drawings: list[str] = []
    page.on("request", lambda request: drawings.append(request.url) if is_drawing(request) else None)
    page.fill("#count input[type=number]", "1")
    press(page, "#variation-generate")
    captions = page.locator("#results .caption-label").all_inner_texts()
    page.get_by_label("Redraw when the strength changes").check()
    for change, strength in ((press_arrow_twice, 0.9), (type_and_confirm, 0.4), (type_and_leave, 0.0)):
        drawings.clear()
        page.evaluate("document.querySelector('#status .ipa-status').setAttribute('data-before', '')")
        change(page)
        page.wait_for_selector("#status .ipa-done:not([data-before])")
        rest(page)
        assert len(drawings) == 1, change.__name__
        assert page.locator("#results .caption-label").all_inner_texts() == captions
        result = tmp_path / "result.png"
        result.write_bytes(body(page, RESULTS))
        assert (read_settings(result) or {})["scale"] == strength
    shoot(page, "redrawn")


def is_drawing(request: Any) -> bool:
    """Whether the page asks for pictures: nothing else is sent a whole form."""
    return "/queue/join" in request.url and len(request.post_data_json["data"]) > 15


def press_arrow_twice(page: Any) -> None:
    page.locator("#scale input[type=range]").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")


def type_and_confirm(page: Any) -> None:
    type_strength(page, "0.4")
    page.keyboard.press("Enter")


def type_and_leave(page: Any) -> None:
    type_strength(page, "0")
    page.keyboard.press("Tab")


def type_strength(page: Any, number: str) -> None:
    page.locator("#scale input[type=number]").click()
    page.keyboard.press("Control+a")
    page.keyboard.type(number)


def slide(page: Any, share: float) -> None:
    """Take the strength's slider to a share of its length with the mouse, and let go."""
    page.locator("#scale").scroll_into_view_if_needed()
    box = page.locator("#scale input[type=range]").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.9, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * share, middle, steps=3)
    page.mouse.up()


def test_the_square_follows_its_choice(open_page: Any, shoot: Any) -> None:
    page = open_page()
    square = "#seen-1 img"
    page.wait_for_selector(square)
    first = page.get_attribute(square, "src")
    page.click("#seen-panel-1 > button")
    enter(page, "across-1", "0")
    page.wait_for_function("([s, first]) => document.querySelector(s).src !== first", arg=[square, first])
    moved = page.get_attribute(square, "src")
    shoot(page, "moved")
    page.get_by_label("Show all, with bars").first.check()
    page.wait_for_function("([s, moved]) => document.querySelector(s).src !== moved", arg=[square, moved])
    page.wait_for_selector("#across-1", state="hidden")
    shoot(page, "padded")


def test_everything_comes_back_from_the_file(open_page: Any, shoot: Any, reference_file: Path) -> None:
    page = open_page()
    page.get_by_role("tab", name="Text + image").click()
    page.wait_for_function("document.querySelector('#scale input[type=number]').value === '0.6'")
    page.fill("#mix-prompt textarea", "a red frog")
    page.click("#start-panel > button")
    page.set_input_files("#start-image input[type=file]", str(reference_file))
    page.wait_for_selector("#start-image img")
    enter(page, "strength", "0.5")
    page.click("#when-panel > button")
    enter(page, "end", "0.8")
    page.click("#away-panel > button")
    page.set_input_files("#negative-reference input[type=file]", str(reference_file))
    page.wait_for_selector("#negative-reference img")
    page.click("#seen-panel-1 > button")
    page.get_by_label("Squeeze").first.check()
    page.click("#more-settings > button")
    enter(page, "steps", "10")
    page.fill("#count input[type=number]", "1")
    made = drawn(page, "#mix-generate")
    shoot(page, "made")

    fresh = restored(open_page, made)
    for picture in ("#start-image img", "#negative-reference img"):
        fresh.wait_for_selector(picture)
    expect_values(fresh, strength="0.5", start="0", end="0.8")
    shoot(fresh, "restored")
    assert drawn(fresh, "#mix-generate") == made
