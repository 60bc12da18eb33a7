"""The app is shown to others, and a recipe opens as a link, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio.utils import get_upload_folder
from PIL import Image

from ipa_app.ui.examples import Example
from tests.browser.hands import RESULTS, keep_nothing, press, rest
from tests.browser.test_accessibility import violations
from tests.ui.serving import served
from tests.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LINK = "#share-link :is(input, textarea)"
HOUR_S = 3600


@pytest.fixture(scope="module")
def page_url(tiny_bundle_dir: Path, reference_file: Path) -> Iterator[str]:
    """The page with two examples."""
    other = reference_file.with_name("square.png")
    Image.new("RGB", (64, 64), (120, 190, 230)).save(other)
    examples = [Example(tab="variation", file=reference_file), Example(tab="mix", file=other)]
    with served(tiny_bundle_dir, examples=examples) as url:
        yield url


def load_again_at(page: Any, address: str) -> None:
    """Load an address of the same page that differs only behind the "#"."""
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector("#variation-generate")


def press_the_button(page: Any, answer: str = "Start presenting") -> None:
    """Press the button that starts presentation mode, and answer its question."""
    page.click("#presentation > * button.ipa-present")
    page.get_by_role("button", name=answer).click()


def load_presented(page: Any) -> None:
    """Open the page in presentation mode, with a start screen that comes back after an hour."""
    load_again_at(page, page.url.split("#")[0] + f"#presentation={HOUR_S}")
    page.click(".ipa-begin")


def leave_alone(page: Any) -> None:
    """Let an hour without input pass, and wait until the start screen has come back."""
    page.evaluate(f"const now = performance.now(); performance.now = () => now + {1000 * HOUR_S}")
    page.wait_for_selector(".ipa-start[open]")


@pytest.mark.parametrize(("width", "height", "locale"), [(1440, 900, "en-US"), (390, 844, "zh-CN")])
def test_visitors_begin_at_a_start_screen_which_comes_back_with_nothing_left(
    open_page: Any, shoot: Any, width: int, height: int, locale: str
) -> None:
    page = open_page(width=width, height=height, touch=width < 640, dark=width < 640, locale=locale)
    press_the_button(page, "Start presenting" if locale == "en-US" else "开始演示")
    page.wait_for_selector(".ipa-start[open]")
    page.wait_for_function("document.querySelector('.ipa-start img').naturalWidth > 0")
    shoot(page, "start")
    page.mouse.click(8, height - 8)
    page.fill("#variation-prompt textarea", "hat")
    page.fill("#count input[type=number]", "1")
    press(page, "#variation-generate")
    for hidden in ("#more-settings", "#restore-panel", "#words-panel", "#result-actions", "#add-reference"):
        assert not page.is_visible(hidden), hidden
    for shown in ("#reference", "#scale", "#variation-generate", "#language"):
        assert page.is_visible(shown), shown
    shoot(page, "drawn")
    load_presented(page)
    page.fill("#variation-prompt textarea", "hat")
    leave_alone(page)
    assert page.input_value("#variation-prompt textarea") == ""
    assert page.locator(RESULTS).count() == 0


def test_who_showed_the_app_has_the_page_as_it_was_before(open_page: Any) -> None:
    page = open_page()
    page.fill("#variation-prompt textarea", "hat")
    rest(page)
    load_presented(page)
    page.fill("#variation-prompt textarea", "frog")
    page.get_by_role("tab", name="Text + image").click()
    rest(page)
    page.evaluate("window.isLeft = true; location.hash = ''")
    page.wait_for_function("!window.isLeft && document.querySelector('#tasks [role=tab][aria-selected=true]')")
    rest(page)
    assert page.get_by_role("tab", name="Variation").get_attribute("aria-selected") == "true"
    assert page.input_value("#variation-prompt textarea") == "hat"


@pytest.mark.parametrize(("locale", "stay"), [("en-US", "Stay here"), ("zh-CN", "留在这里")])
def test_who_presses_the_button_unawares_is_told_and_loses_nothing(
    open_page: Any, shoot: Any, locale: str, stay: str
) -> None:
    page = open_page(width=390, height=844, touch=True, locale=locale)
    page.fill("#variation-prompt textarea", "hat")
    rest(page)
    page.click("button.ipa-present")
    warning = page.inner_text(".ipa-leads[open] p")
    for told in ("20", "#presentation", "deleted" if locale == "en-US" else "删除"):
        assert told in warning
    shoot(page, "asked")
    assert violations(page) == []
    page.get_by_role("button", name=stay).click()
    page.click("button.ipa-present")
    page.keyboard.press("Escape")
    rest(page)
    assert "#" not in page.url
    assert page.input_value("#variation-prompt textarea") == "hat"


def test_who_goes_back_from_the_mode_has_what_was_entered(open_page: Any) -> None:
    page = open_page()
    page.fill("#variation-prompt textarea", "hat")
    rest(page)
    press_the_button(page)
    page.click(".ipa-begin")
    page.wait_for_selector("body[data-presented]")
    assert page.input_value("#variation-prompt textarea") == ""
    rest(page)
    page.go_back()
    page.wait_for_selector("body:not([data-presented]) button.ipa-present")
    page.wait_for_function("document.querySelector('#variation-prompt textarea')?.value === 'hat'")
    rest(page)


def test_all_that_a_visitor_brought_and_made_is_deleted_the_first_of_it_too(open_page: Any, tmp_path: Path) -> None:
    page, before = open_page(), set(Path(get_upload_folder()).rglob("*.*"))
    load_presented(page)
    page.fill("#count input[type=number]", "2")
    for name in ("first.png", "second.png"):
        Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / name)
        page.click("#reference button[aria-label='Remove Image']")
        page.set_input_files("#reference input[type=file]", str(tmp_path / name))
        page.wait_for_selector(f"#reference img[src*='{name}']")
        rest(page)
        press(page, "#variation-generate")
    visit = set(Path(get_upload_folder()).rglob("*.*")) - before
    assert {"first.png", "second.png", "pictures.zip"} < {path.name for path in visit}
    leave_alone(page)
    until(lambda: not any(path.exists() for path in visit))


def test_who_brought_the_same_picture_elsewhere_keeps_it(open_page: Any, tmp_path: Path) -> None:
    file = tmp_path / "shared.png"
    Image.effect_noise((64, 64), 50).convert("RGB").save(file)
    page, other = open_page(), open_page()
    load_presented(page)
    shown = []
    for each in (page, other):
        each.click("#reference button[aria-label='Remove Image']")
        each.set_input_files("#reference input[type=file]", str(file))
        shown.append(each.wait_for_selector(f"#reference img[src*='{file.name}']").get_attribute("src"))
        rest(each)
    leave_alone(page)
    until(lambda: [other.request.get(address).ok for address in shown] == [False, True])


def test_no_button_leads_visitors_out_and_the_address_does(open_page: Any) -> None:
    page = open_page()
    press_the_button(page)
    page.click(".ipa-begin")
    assert not page.is_visible("button.ipa-present")
    page.evaluate("location.hash = ''")
    page.wait_for_selector("button.ipa-present")
    assert page.is_visible("#more-settings")


@pytest.mark.parametrize("by_keyboard", [False, True])
def test_a_picture_that_is_pressed_is_what_one_begins_with(open_page: Any, by_keyboard: bool) -> None:
    page = open_page()
    load_again_at(page, page.url.split("#")[0] + "#presentation")
    second = page.get_by_role("button", name="Begin with picture 2")
    if by_keyboard:
        second.focus()
        page.keyboard.press("Enter")
    else:
        second.click()
    page.wait_for_selector("#reference img[src*='square.png']")
    assert not page.is_visible(".ipa-start")


def test_the_results_have_most_of_the_screen(open_page: Any) -> None:
    page = open_page()
    usual = page.locator(".ipa-results").bounding_box()["width"]
    load_presented(page)
    assert page.locator(".ipa-results").bounding_box()["width"] > 1.25 * usual


def test_the_next_one_finds_nothing_where_the_browser_keeps_nothing(open_page: Any) -> None:
    page = open_page(prepare=keep_nothing)
    load_presented(page)
    page.fill("#variation-prompt textarea", "hat")
    leave_alone(page)
    assert page.input_value("#variation-prompt textarea") == ""


def test_a_link_opens_the_page_with_everything_set(open_page: Any, shoot: Any) -> None:
    page = open_page()
    page.fill("#variation-prompt textarea", "红色的猫")
    page.fill("#count input[type=number]", "1")
    press(page, "#variation-generate")
    page.click("#share")
    page.wait_for_selector(LINK)
    page.wait_for_function("box => document.querySelector(box).value.includes('#recipe=')", arg=LINK)
    link = page.input_value(LINK)
    with page.expect_download() as download:
        page.click("#share-file")
    assert download.value.suggested_filename == "recipe.json"
    shoot(page, "shared")
    load_again_at(page, link)
    page.wait_for_selector(".toast-body")
    page.wait_for_function("document.querySelector('#variation-prompt textarea').value === '红色的猫'")
    rest(page)
    # The example's picture is there, so the page asks for none.
    assert "please add" not in page.inner_text(".toast-wrap")
    assert page.locator("#reference img").count() == 1
    shoot(page, "opened")
    page.fill("#variation-prompt textarea", "hat")
    rest(page)
    page.reload()
    page.wait_for_selector("#variation-generate")
    rest(page)
    assert page.input_value("#variation-prompt textarea") == "hat", "what was entered since the link was opened stays"
    assert page.locator(".toast-body").count() == 0
    load_again_at(page, link)  # as from a bookmark
    page.wait_for_function("document.querySelector('#variation-prompt textarea').value === '红色的猫'")
    rest(page)
    page.fill("#variation-prompt textarea", "hat")
    page.evaluate("location.hash = ''")
    page.evaluate("link => { location.href = link; }", link)  # as if typed into the address bar of the open page
    page.wait_for_function("document.querySelector('#variation-prompt textarea').value === '红色的猫'")
    rest(page)
