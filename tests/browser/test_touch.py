"""A phone: fingers instead of a mouse."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.browser.hands import EDITOR, RESULTS, body, changed, finger, load, open_accordions, press, rest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PHONE = {"width": 390, "height": 844, "touch": True}
SKELETON = "#skeleton svg"
# Which of the elements are covered by something else, or have text that overflows.
COVERED = """(selectors) => selectors.filter((selector) => {
    const node = document.querySelector(selector), { left, top, width, height } = node.getBoundingClientRect();
    const isThere = (share) => node.contains(document.elementFromPoint(left + width * share, top + height / 2));
    return ![0.05, 0.3, 0.5, 0.7, 0.95].every(isThere) || node.scrollWidth > node.clientWidth;
})"""


# Whether of the places where something can be said exactly these are to be seen.
SEEN = """(expected) => {
    const isSeen = (selector) => {
        const { left, top, width, height } = document.querySelector(selector)?.getBoundingClientRect() ?? {};
        return width && document.elementFromPoint(left + width / 2, top + height / 2)?.closest(selector);
    };
    return String(["#live-note", "#status", ".toast-body"].filter(isSeen)) === String(expected);
}"""


def place_of(page: Any, joint: str) -> tuple[float, float]:
    """Return a joint's place in the skeleton's picture, in pixels of the screen."""
    canvas = page.locator(SKELETON).bounding_box()
    x, y = middle(page.locator(f'#skeleton [aria-label="{joint}"] .ipa-skel-dot').bounding_box())
    return x - canvas["x"], y - canvas["y"]


def middle(box: dict[str, float]) -> tuple[float, float]:
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def scrolled(page: Any) -> float:
    return page.evaluate("scrollY")


def test_a_joint_follows_the_finger_and_the_page_scrolls_beside_it(open_page: Any, shoot: Any) -> None:
    page = open_page(**PHONE)
    page.get_by_role("tab", name="Pose").tap()
    page.wait_for_selector(SKELETON)
    page.locator(SKELETON).scroll_into_view_if_needed()
    canvas, before = page.locator(SKELETON).bounding_box(), scrolled(page)
    x, y = place_of(page, "left wrist")
    neck = place_of(page, "neck")
    # Slightly off the joint, as fingers are.
    start = (canvas["x"] + x + 12, canvas["y"] + y + 12)
    finger(page, start, (start[0] - 40, start[1] - 60))
    assert scrolled(page) == before
    assert place_of(page, "left wrist") == pytest.approx((x - 40, y - 60), abs=1)
    assert place_of(page, "neck") == neck

    hip = place_of(page, "right hip")
    bone = (canvas["x"] + (neck[0] + hip[0]) / 2, canvas["y"] + (neck[1] + hip[1]) / 2)
    finger(page, bone, (bone[0] + 30, bone[1] - 20))
    assert scrolled(page) == before
    assert place_of(page, "neck") == pytest.approx((neck[0] + 30, neck[1] - 20), abs=1)
    shoot(page, "moved")

    corner = (canvas["x"] + 10, canvas["y"] + canvas["height"] - 10)
    finger(page, corner, (corner[0], corner[1] - 200))
    assert scrolled(page) > before + 100

    elbow = page.locator('#skeleton [aria-label="left elbow"] .ipa-skel-dot')
    elbow.scroll_into_view_if_needed()
    at = middle(elbow.bounding_box())
    for _ in range(2):
        page.touchscreen.tap(*at)
        page.wait_for_timeout(60)  # fingers are no faster
    page.wait_for_selector('#skeleton [aria-label="left elbow, hidden"]')
    assert page.evaluate("visualViewport.scale") == 1


def test_a_mask_is_painted_with_the_finger(open_page: Any, shoot: Any, reference_file: Path) -> None:
    page = open_page(**PHONE)
    load(page, reference_file)
    page.locator(EDITOR).scroll_into_view_if_needed()
    x, y = middle(page.locator(EDITOR).bounding_box())
    before = scrolled(page)
    finger(page, (x - 12, y - 12), (x + 12, y + 12))
    assert scrolled(page) == before
    rest(page)
    shoot(page, "painted")
    page.fill("#count input[type=number]", "1")
    press(page, "#inpaint-generate")
    # The status is in view.
    page.wait_for_function("() => Math.abs(document.querySelector('#status').getBoundingClientRect().y - 422) < 422")
    rows, columns = changed(reference_file, np.asarray(Image.open(io.BytesIO(body(page, RESULTS))).convert("RGB")))
    assert rows.size > 100
    assert abs(rows.mean() - 100) < 15
    assert abs(columns.mean() - 150) < 20
    open_accordions(page)
    shoot(page, "all open")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_what_to_make_is_chosen_on_the_first_screen_and_is_there(open_page: Any, shoot: Any) -> None:
    page = open_page(**PHONE)
    for task, first in (("inpaint", "#inpaint-image"), ("pose", "#pose-presets"), ("variation", "#variation-prompt")):
        page.evaluate("scrollTo(0, 0)")
        tab = page.locator(f"#tab-{task}-button")
        assert tab.bounding_box()["y"] < 44
        tab.tap()
        page.wait_for_selector(first)
        rest(page)
        shoot(page, task)
        assert 44 < page.locator(first).bounding_box()["y"] < 844 - 64
        heading = page.get_by_role("heading", name="What to make").bounding_box()
        assert 44 < heading["y"] < 200
        assert tab.bounding_box()["y"] < 44


def test_no_dot_stands_alone_at_the_foot_of_the_page(open_page: Any) -> None:
    page = open_page(**PHONE)
    rest(page)
    assert "Settings" in page.inner_text("footer")
    assert "·" not in page.inner_text("footer")


@pytest.mark.parametrize("width", [390, 360, 320])
def test_between_the_two_pictures_in_the_bar_nothing_lies_on_a_button(open_page: Any, shoot: Any, width: int) -> None:
    page = open_page(width=width, height=740, touch=True)
    press(page, "#variation-generate")
    page.check("#live input")
    page.wait_for_selector("#live-picture img")
    page.locator("#adapter").scroll_into_view_if_needed()
    page.get_by_role("button", name="Make the live picture smaller or larger").tap()
    page.wait_for_selector("#newest img")
    rest(page)
    assert page.evaluate(COVERED, ["#variation-generate", "#variation-stop", "#newest button", ".ipa-live-size"]) == []
    shoot(page)


def test_a_message_lies_neither_on_the_tabs_nor_on_what_became_of_it(open_page: Any, shoot: Any) -> None:
    page = open_page(**PHONE)
    page.get_by_role("tab", name="Inpaint").tap()
    page.tap("#inpaint-generate")
    page.wait_for_selector(".toast-body.error")
    rest(page)
    shoot(page)
    assert page.evaluate(COVERED, ["#tab-inpaint-button", "#status", "#inpaint-generate"]) == []


def test_what_went_wrong_is_said_once_and_where_one_looks(open_page: Any, shoot: Any) -> None:
    page = open_page(**PHONE)
    page.check("#live input")
    page.wait_for_selector("#live-picture img", state="attached")
    page.tap("#reference button[aria-label='Remove Image']")
    page.wait_for_selector("#live-note .ipa-failed")
    said = page.inner_text("#live-note")
    page.tap("#variation-generate")
    page.wait_for_selector("#status .ipa-failed")
    page.wait_for_function(SEEN, arg=["#status"])
    page.wait_for_timeout(1000)  # a message comes gradually
    assert page.evaluate(SEEN, ["#status"])
    assert page.inner_text("#status") == said
    shoot(page, "in sight")
    assert said in page.inner_text(".toast-body[role=status]"), "a screen reader reads it out"
    page.mouse.move(195, 400)
    page.mouse.wheel(0, -5000)
    page.wait_for_function(SEEN, arg=[".toast-body"])
    shoot(page, "out of sight")
    assert page.evaluate(COVERED, ["#tab-variation-button", "#variation-generate"]) == []
