"""The reference panel as a visitor uses it: watching, viewing the square, and restoring everything from a file."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests.browser.hands import RESULTS, drawn, enter, expect_values, restored

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_a_picture_is_seen_while_it_is_drawn(open_page: Any, shoot: Any, may_end: Event) -> None:
    page = open_page()
    page.click("#more-settings > button")
    enter(page, "steps", "100")
    page.click("#variation-generate")
    page.wait_for_selector("#preview img")
    assert not page.is_visible(RESULTS), "the result is not there yet"
    assert page.evaluate("document.querySelector('#preview img').naturalWidth") >= 64
    shoot(page, "watching")
    may_end.set()
    page.wait_for_selector("#status .ipa-done")
    page.wait_for_selector(RESULTS)
    assert page.locator(RESULTS).count() == 4
    assert not page.is_visible("#preview img")


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
    page.get_by_label("Add bars").first.check()
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
    page.get_by_label("Squeeze it").first.check()
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
