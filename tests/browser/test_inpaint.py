"""The Inpaint tab as a visitor uses it: a mask on a large photo, swapped masks, and pictures that go on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.browser.hands import (
    EDITOR,
    RESULTS,
    body,
    changed,
    enter,
    expect_values,
    load,
    press,
    rest,
    restored,
    settle,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MARK = (40, 200, 60)


def place_of(page: Any, colour: tuple[int, int, int]) -> tuple[float, float]:
    """Return where on the screen the editor shows a colour: its median position."""
    canvas = page.locator(EDITOR)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    seen = np.asarray(Image.open(io.BytesIO(page.screenshot(clip=box))).convert("RGB")).astype(int)
    rows, columns = np.nonzero(np.abs(seen - colour).max(axis=2) < 12)
    assert rows.size > 20
    return box["x"] + float(np.median(columns)), box["y"] + float(np.median(rows))


def paint(page: Any, at: tuple[float, float], *, reach: float = 4) -> None:
    """Draw a short stroke with the mouse."""
    page.mouse.move(at[0] - reach, at[1])
    page.mouse.down()
    page.mouse.move(at[0], at[1], steps=3)
    page.mouse.move(at[0] + reach, at[1], steps=3)
    page.mouse.up()
    rest(page)


def open_edges(page: Any) -> None:
    page.click("#edges-panel > button")
    page.wait_for_selector("#mask-show")


def picture_at(page: Any, selector: str) -> Image.Image:
    page.wait_for_selector(selector)
    return Image.open(io.BytesIO(body(page, selector))).convert("RGB")


def shown_mask(page: Any) -> np.ndarray:
    """Press "Show the mask", and return which pixels of the overlay are pink."""
    page.click("#mask-show")
    shown = np.asarray(picture_at(page, "#mask-shown img")).astype(int)
    # Orange is as red as pink, but not as blue.
    return (shown[..., 0] - shown[..., 1] > 60) & (shown[..., 2] > shown[..., 1])


def generate(page: Any) -> np.ndarray:
    page.fill("#count input[type=number]", "1")
    press(page, "#inpaint-generate")
    return np.asarray(picture_at(page, RESULTS))


def redrawn(
    page: Any, shoot: Any, picture: Path, *, at: tuple[float, float], reach: float = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Paint, generate, and return the rows and columns of the pixels that changed."""
    paint(page, at, reach=reach)
    shoot(page, "painted")
    after = generate(page)
    shoot(page, "done")
    return changed(picture, after)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture of 3000 x 2000 pixels with detail everywhere, and a green mark off centre."""
    columns, rows = np.meshgrid(np.arange(3000), np.arange(2000))
    pixels = np.stack([rows // 16 + 90, columns // 24 + rows % 2, 200 + columns % 3 + rows % 5], axis=2)
    image = Image.fromarray(pixels.astype(np.uint8))
    image.paste(MARK, (2100, 500, 2340, 740))
    image.save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_mask_painted_on_a_large_photo_changes_that_place_and_no_other_pixel(
    open_page: Any, shoot: Any, photo: Path
) -> None:
    page = open_page()
    load(page, photo)
    rows, columns = redrawn(page, shoot, photo, at=place_of(page, MARK))
    assert rows.size > 20_000
    # The brush is about 560 pixels wide on the photo, and the stroke a little longer.
    assert abs(rows.mean() - 620) < 40
    assert abs(columns.mean() - 2220) < 40
    assert rows.max() - rows.min() < 620
    assert columns.max() - columns.min() < 720


def test_a_mask_painted_with_the_mouse_is_where_the_picture_changes(
    open_page: Any, shoot: Any, reference_file: Path
) -> None:
    page = open_page()
    load(page, reference_file)
    box = page.locator(EDITOR).bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    rows, columns = redrawn(page, shoot, reference_file, at=middle, reach=20)
    assert rows.size > 100
    assert abs(rows.mean() - 100) < 15
    assert abs(columns.mean() - 150) < 20
    assert rows.max() - rows.min() < 100


def test_a_swapped_mask_keeps_what_is_painted_and_can_be_looked_at(
    open_page: Any, shoot: Any, reference_file: Path
) -> None:
    page = open_page()
    load(page, reference_file)
    with Image.open(reference_file) as image:
        before = np.asarray(image)
    paint(page, place_of(page, before[100, 150]))
    open_edges(page)
    painted = shown_mask(page)
    assert painted.shape == before.shape[:2]
    assert painted[100, 150]
    assert painted.mean() < 0.1
    shoot(page, "mask")
    page.get_by_label("Swap: keep what I painted").check()
    page.wait_for_selector("#mask-view", state="hidden")
    swapped = shown_mask(page)
    assert not swapped[100, 150]
    assert swapped[5:-5, 5:-5].mean() > 0.9
    shoot(page, "swapped")
    same = (before == generate(page)).all(axis=2)
    assert same[95:105, 145:155].all()
    assert same[:40].mean() < 0.1
    assert same[-40:].mean() < 0.1
    shoot(page, "done")


def test_a_picture_is_continued_to_the_right_and_its_settings_come_back(
    open_page: Any, shoot: Any, reference_file: Path
) -> None:
    page = open_page()
    load(page, reference_file)
    open_edges(page)
    enter(page, "extend-right", "50")
    page.get_by_label("The whole picture").check()
    assert shown_mask(page).shape == (200, 450)
    shoot(page, "mask")
    after = generate(page)
    shoot(page, "done")
    with Image.open(reference_file) as image:
        before = np.asarray(image)
    assert after.shape == (200, 450, 3)
    assert np.array_equal(after[:, :300], before)
    # The picture's last column is all one colour; what was drawn is not.
    assert len(np.unique(after[:, 330:].reshape(-1, 3), axis=0)) > 50

    made = body(page, RESULTS)
    fresh = restored(open_page, made)
    fresh.wait_for_selector("#mask-show")
    expect_values(fresh, extend_right="50")
    assert fresh.get_by_label("The whole picture").is_checked()
    settle(fresh, EDITOR)
    shoot(fresh, "restored")
    assert np.array_equal(generate(fresh), after)


def test_a_mask_that_is_not_there_is_asked_for_when_it_shall_be_shown(
    open_page: Any, shoot: Any, reference_file: Path
) -> None:
    page = open_page(width=390, height=844)
    load(page, reference_file)
    open_edges(page)
    page.click("#mask-show")
    page.wait_for_selector(".toast-body.error")
    assert "paint over" in page.inner_text(".toast-body.error")
    shoot(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def status_of(page: Any) -> str:
    return page.inner_text("#status")


def test_with_nothing_given_a_hole_is_filled_after_what_is_around_it_unless_that_is_switched_off(
    open_page: Any, shoot: Any, reference_file: Path
) -> None:
    page = open_page()
    page.locator("#reference").get_by_label("Remove Image").click()
    load(page, reference_file)
    rows, _ = redrawn(page, shoot, reference_file, at=place_of(page, (230, 120, 60)), reach=20)
    assert rows.size > 100
    assert "what is around the painted part served as the reference" in status_of(page)
    by_surroundings = picture_at(page, RESULTS)

    open_edges(page)
    page.get_by_label("Match the surroundings").uncheck()
    rest(page)
    without = generate(page)
    assert "around the painted part" not in status_of(page)
    assert not np.array_equal(without, np.asarray(by_surroundings))


def test_the_tools_for_painting_lie_below_the_bar_that_stays(open_page: Any, shoot: Any, reference_file: Path) -> None:
    page = open_page(width=1280, height=720)
    load(page, reference_file)
    tools = page.locator("#inpaint-editor .toolbar-wrap").first
    bar = page.locator("#inpaint-generate").locator("xpath=ancestor::*[contains(@class, 'ipa-actions')]").bounding_box()
    box = tools.bounding_box()
    # Scroll until the bar's upper edge crosses their middle.
    page.evaluate("y => scrollBy(0, y)", box["y"] + box["height"] / 2 - bar["y"])
    shoot(page)
    box = tools.bounding_box()
    assert box["y"] < bar["y"] < box["y"] + box["height"]
    spot = [box["x"] + box["width"] / 2, bar["y"] + 3]
    assert page.evaluate("([x, y]) => !!document.elementFromPoint(x, y).closest('.ipa-actions')", spot)
