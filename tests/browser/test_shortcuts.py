"""The important controls are at hand: in view wherever the page is scrolled to, and reachable by keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ipa_app.imaging.result_files import read_settings
from tests.browser.hands import RESULTS, body, enter, expect_values, load, open_accordions, press, rest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TABS = ("variation", "mix", "inpaint", "pose")
# Which of the elements are not in view: outside the screen, or with something else over their middle.
OUT_OF_SIGHT = """(selectors) => selectors.filter((selector) => {
    const node = document.querySelector(selector), box = node?.getBoundingClientRect();
    if (!box || box.top < 0 || box.bottom > innerHeight || box.left < 0 || box.right > innerWidth) return true;
    return !node.contains(document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2));
})"""

# Whether Escape pressed while a character is being composed, as in Chinese, has pressed Stop.
STOPPED_WHILE_COMPOSING = """() => {
    let isPressed = false;
    document.querySelector("#mix-stop").addEventListener("click", () => { isPressed = true; }, { once: true });
    const key = new KeyboardEvent("keydown", { key: "Escape", bubbles: true, isComposing: true });
    document.querySelector("#mix-prompt textarea").dispatchEvent(key);
    return isPressed;
}"""
TOPS = "[...document.querySelectorAll('.ipa-columns > *')].map((each) => each.getBoundingClientRect().y)"


@pytest.mark.parametrize(
    ("width", "height", "locale"),
    [(1440, 900, "en-US"), (1280, 720, "zh-CN"), (390, 844, "zh-CN"), (390, 844, "en-US")],
)
def test_what_matters_is_in_sight_wherever_the_page_is_scrolled_to(
    open_page: Any, shoot: Any, reference_file: Path, width: int, height: int, locale: str
) -> None:
    page = open_page(width=width, height=height, touch=width < 640, dark=locale == "zh-CN", locale=locale)
    assert len(set(page.evaluate(TOPS))) == (1 if width > 1000 else 3)
    page.fill("#count input[type=number]", "1")
    press(page, "#variation-generate")
    page.wait_for_selector("#newest img")
    for task in TABS:
        page.click(f"#tab-{task}-button")
        page.wait_for_selector(f"#{task}-generate")
        if task == "inpaint":
            load(page, reference_file)
        open_accordions(page)
        for share in (0, 0.5, 1):
            page.evaluate("share => scrollTo(0, share * document.documentElement.scrollHeight)", share)
            rest(page)
            hidden = page.evaluate(OUT_OF_SIGHT, [f"#{task}-generate", f"#{task}-stop", "#newest img"])
            assert hidden == [], (task, share)
        shoot(page, task)
    page.click("#newest button")
    page.wait_for_function("""() => {
        const box = document.querySelector("#results").getBoundingClientRect();
        return box.top >= 0 && box.top < innerHeight / 2;
    }""")
    assert page.evaluate("document.activeElement.closest('#results') !== null")


def test_keys_draw_what_the_open_tab_asks_for_and_stop_it(open_page: Any, tmp_path: Path) -> None:
    page = open_page()
    page.click("#more-settings > button")
    enter(page, "steps", "100")
    page.fill("#count input[type=number]", "8")
    page.click("#tab-mix-button")
    page.fill("#mix-prompt textarea", "a cat")
    page.press("#mix-prompt textarea", "Control+Enter")
    page.wait_for_selector("#mix-stop:not([disabled])")
    assert not page.evaluate(STOPPED_WHILE_COMPOSING)
    page.keyboard.press("Escape")
    page.wait_for_selector("#status .ipa-done")
    assert page.inner_text("#status") == "Stopped."
    page.fill("#steps input[type=number]", "1")
    page.fill("#count input[type=number]", "1")
    page.locator("#count input[type=number]").blur()
    page.keyboard.press("Meta+Enter")
    page.wait_for_selector(RESULTS)
    (tmp_path / "a.png").write_bytes(body(page, RESULTS))
    settings = read_settings(tmp_path / "a.png")
    assert settings is not None
    assert (settings["task"], settings["prompt"]) == ("mix", "a cat")


@pytest.mark.parametrize(("locale", "name"), [("en-US", "Keys"), ("zh-CN", "快捷键")])
def test_the_keys_are_listed_by_a_key(open_page: Any, shoot: Any, locale: str, name: str) -> None:
    page = open_page(locale=locale, dark=locale == "zh-CN")
    page.wait_for_selector(f"#keys button[aria-label='{name}']")
    box = "#variation-prompt textarea"
    page.press(box, "?")
    assert page.input_value(box) == "?"
    listed = page.get_by_role("dialog", name=name, exact=True)
    assert not listed.is_visible()

    opener = page.locator("#keys > * button").first
    opener.focus()
    page.keyboard.press("?")
    listed.wait_for()
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    assert listed.locator("kbd").all_inner_texts() == ["Ctrl", "Enter", "⌘", "Enter", "Esc", "?"]
    rest(page)
    shoot(page)
    page.keyboard.press("Escape")
    listed.wait_for(state="hidden")
    assert opener.evaluate("node => node === document.activeElement")
    page.keyboard.press("Enter")
    listed.wait_for()
    page.keyboard.press("Enter")
    listed.wait_for(state="hidden")


def test_arrow_keys_choose_in_a_group_and_tab_leads_to_the_next(open_page: Any) -> None:
    page = open_page()
    rest(page)
    focused = "() => document.activeElement.type === 'radio' && document.activeElement.value"
    page.locator("#adapter input:checked").focus()
    for key, value in (("ArrowRight", "fine"), ("ArrowLeft", "base")):
        page.keyboard.press(key)
        rest(page)
        assert page.evaluate(focused) == value
        assert page.locator("#adapter input:checked").get_attribute("value") == value
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "usual", "one stop for each group"
    for value, scale in (("strong", "1.2"), ("copy", "1.4"), ("hint", "0.5")):
        page.keyboard.press("ArrowRight")
        rest(page)
        assert page.evaluate(focused) == value
        assert page.locator("#amount input:checked").count() == 1
        expect_values(page, scale=scale)


def test_a_list_of_choices_closes_when_it_is_left(open_page: Any) -> None:
    page = open_page()
    open_accordions(page)
    choices = page.locator("input[role=combobox]:visible")
    assert choices.count()
    for number in range(choices.count()):
        for key in ("Tab", "Shift+Tab"):
            choices.nth(number).focus()
            assert choices.nth(number).get_attribute("aria-expanded") == "true"
            page.keyboard.press(key)
            rest(page)
            assert page.locator("[role=listbox]:visible").count() == 0
            assert page.locator("input[aria-expanded=true]").count() == 0


def test_arrow_keys_lead_from_tab_to_tab(open_page: Any) -> None:
    page = open_page()
    page.locator("#tab-variation-button").focus()
    for key, task in (("ArrowRight", "mix"), ("ArrowRight", "inpaint"), ("ArrowLeft", "mix")):
        page.keyboard.press(key)
        rest(page)
        assert page.evaluate("document.activeElement.id") == f"tab-{task}-button"
        assert page.is_visible(f"#{task}-generate")
    page.keyboard.press("Alt+ArrowRight")  # left to the browser, which goes to the next page
    rest(page)
    assert page.is_visible("#mix-generate")


def test_boxes_that_were_asked_for_are_taken_away_again(open_page: Any, reference_file: Path) -> None:
    page = open_page()
    assert not page.is_visible("#remove-reference")
    page.click("#add-reference")
    page.set_input_files("#reference-2 input[type=file]", str(reference_file))
    page.wait_for_selector("#reference-2 img")
    page.click("#remove-reference")
    page.wait_for_selector("#reference-2", state="hidden")
    assert not page.is_visible("#remove-reference")
    page.click("#add-reference")
    page.wait_for_selector("#reference-2")
    assert page.locator("#reference-2 img").count() == 0


def test_a_file_that_is_dropped_beside_a_box_leaves_the_page_as_it_is(open_page: Any, reference_file: Path) -> None:
    page = open_page()
    url, line = page.url, page.context.new_cdp_session(page)
    dragged = {"items": [], "files": [str(reference_file)], "dragOperationsMask": 1}

    def drop_on(selector: str) -> None:
        page.locator(selector).evaluate("(each) => each.scrollIntoView({ block: 'center' })")
        box = page.locator(selector).bounding_box()
        at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        for act in ("dragEnter", "dragOver", "drop"):
            line.send("Input.dispatchDragEvent", {"type": act, "data": dragged, **at})

    for beside in ("h1", "#status", "#variation-prompt textarea"):
        drop_on(beside)
        rest(page)
        assert ([each.url for each in page.context.pages], page.is_visible("#variation-generate")) == ([url], True)
    page.click("#add-reference")
    page.wait_for_selector("#reference-2")
    drop_on("#reference-2")
    page.wait_for_selector("#reference-2 img")
