"""The pictures among the results: opened, picked, and followed by others."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.hands import open_accordions, press, rest

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_new_pictures_are_all_shown_where_one_was_opened(open_page: Any, shoot: Any) -> None:
    page = open_page()
    page.fill("#count input[type=number]", "4")
    opened, tiles = page.locator("#results .preview"), page.locator("#results .grid-container .thumbnail-item")

    def open_third() -> None:
        tiles.nth(2).click()
        page.wait_for_function("document.querySelector('#picked').innerText.includes('picture 3')")
        rest(page)
        assert opened.count() == 1

    press(page, "#variation-generate")
    for button, count in (("#variation-generate", 4), ("#variation-scale-strip", 5)):
        open_third()
        press(page, button)
        rest(page)
        assert opened.count() == 0
        assert tiles.count() == count
        assert f"picture 1 of {count}" in page.inner_text("#picked")
    open_third()
    open_accordions(page)
    page.locator("#history .thumbnail-item").last.click()
    page.wait_for_function("document.querySelector('#status').innerText.includes('earlier')")
    rest(page)
    assert opened.count() == 0
    assert tiles.count() == 1
    shoot(page)


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (390, 844)])
def test_an_opened_picture_is_larger_than_in_its_row(open_page: Any, shoot: Any, width: int, height: int) -> None:
    page = open_page(width=width, height=height, touch=width < 640)
    press(page, "#variation-scale-strip")
    tile = page.locator("#results .grid-container .thumbnail-item").nth(2)
    small = tile.bounding_box()["height"]
    tile.click()
    page.wait_for_selector("#results .preview .media-button img")
    rest(page)
    shoot(page)
    large = page.locator("#results .preview .media-button img").bounding_box()
    assert large["height"] > max(300, 2 * small)
    opened, following = (page.locator(each).bounding_box() for each in ("#results .preview", "#picked"))
    assert opened["y"] + opened["height"] <= following["y"] + 1


def test_the_picked_picture_is_marked_among_the_others(open_page: Any, shoot: Any) -> None:
    page = open_page()
    page.fill("#count input[type=number]", "4")
    press(page, "#variation-generate")
    tiles = page.locator("#results .grid-container .thumbnail-item")

    def marked() -> list[int]:
        rest(page)
        ring = "tile => getComputedStyle(tile, '::after').borderLeftWidth === '3px'"
        ringed = [index for index, tile in enumerate(tiles.all()) if tile.evaluate(ring)]
        assert ringed == [index for index, tile in enumerate(tiles.all()) if tile.get_attribute("aria-current")]
        return ringed

    assert marked() == [0]
    tiles.nth(2).click()
    page.locator("#results .preview").get_by_label("Close").click()
    page.mouse.move(0, 0)
    assert marked() == [2]
    shoot(page)
    press(page, "#variation-scale-strip")
    assert marked() == [0]
    page.fill("#count input[type=number]", "1")
    press(page, "#variation-generate")
    rest(page)
    assert tiles.get_attribute("aria-current") is None, "there is no other"


def test_the_picked_picture_alone_can_be_downloaded(open_page: Any, shoot: Any) -> None:
    page = open_page(width=1280, height=720)
    page.fill("#count input[type=number]", "2")
    press(page, "#variation-generate")
    tiles = page.locator("#results .grid-container .thumbnail-item")
    made = [page.request.get(tile.locator("img").get_attribute("src")).body() for tile in tiles.all()]

    def downloaded() -> bytes:
        rest(page)
        with page.expect_download() as download:
            page.get_by_role("button", name="Download", exact=True).locator("visible=true").click()
        assert download.value.suggested_filename.endswith(".png")
        return download.value.path().read_bytes()

    assert downloaded() == made[0]
    tiles.nth(1).click()
    page.wait_for_function("document.querySelector('#picked').innerText.includes('picture 2')")
    page.locator("#results .preview").get_by_label("Close").click()
    assert downloaded() == made[1]
    shoot(page)
    page.fill("#count input[type=number]", "1")
    press(page, "#variation-generate")
    assert downloaded() not in made
