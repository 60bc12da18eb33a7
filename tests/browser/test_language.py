from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from ipa_app.engine.metadata import read_request
from ipa_app.engine.tasks import TASKS
from ipa_app.messages import FOLDER, english, languages
from ipa_app.models.catalog import entry_from_folder
from ipa_app.ui.examples import Example
from tests.browser.hands import (
    EDITOR,
    PATIENCE_MS,
    RESULTS,
    body,
    keep_nothing,
    open_accordions,
    press,
    rest,
    settle,
)
from tests.engine.test_keeping import opened
from tests.sample_requests import PRESETS, STYLES
from tests.tiny_models import tiny_fast_way
from tests.ui.serving import served

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ENGLISH = re.compile("[a-z]{3}")
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def choose(page: Any, language: str) -> None:
    page.select_option("#language select", language)


def test_the_page_is_chinese_in_a_chinese_browser_and_what_is_typed_stays(open_page: Any, shoot: Any) -> None:
    page = open_page(locale="zh-CN")
    page.wait_for_function("document.querySelector('#variation-generate').textContent.includes('生成')")
    assert page.get_attribute("html", "lang") == "zh-CN"
    page.fill("#variation-prompt textarea", "Stop，红色的猫")
    page.fill("#count input[type=number]", "1")
    page.click("#variation-generate")
    page.wait_for_selector("#results .grid-wrap img")
    page.wait_for_function("document.querySelector('#status').textContent.includes('用时')")
    assert page.input_value("#variation-prompt textarea") == "Stop，红色的猫"
    assert page.inner_text("#variation-unknown") == "Tiny 不认识 stop 这个词，已忽略。"
    shoot(page)
    for name in ("文字 + 图片", "局部重绘", "姿势"):
        page.get_by_role("tab", name=name).click()
    page.wait_for_selector("#skeleton [aria-label]")
    shoot(page, "pose")


def test_the_choice_goes_back_and_forth_and_is_remembered(open_page: Any) -> None:
    page = open_page()
    assert not CHINESE.search(page.inner_text("#variation-generate"))
    choose(page, "zh")
    page.wait_for_function("document.querySelector('#variation-generate').textContent.includes('生成')")
    # Reloading while a request is unanswered would leave an error in the console.
    page.wait_for_selector("#model-state .ipa-ready")
    rest(page)
    page.reload()
    page.wait_for_function("document.querySelector('#variation-generate')?.textContent.includes('生成')")
    page.click("#words-panel > button")
    words = page.locator("#words li:visible")
    words.filter(has_text="猫").first.wait_for()
    assert words.all_inner_texts()[:2] == ["猫", "狗"]
    choose(page, "en")
    page.wait_for_function("document.querySelector('#variation-generate').textContent.includes('Generate')")
    words.filter(has_text="bear").first.wait_for()
    assert words.all_inner_texts()[:2] == ["bear", "cat"]
    left = page.inner_text("body")
    assert CHINESE.findall(left.replace("中文", "")) == []


@pytest.mark.parametrize("locale", ["zh-CN", "zh-TW", "de-DE"])
def test_gradios_own_words_are_english_where_the_page_is(open_page: Any, shoot: Any, locale: str) -> None:
    page = open_page(locale=locale)
    page.wait_for_selector("#language option[value=en]", state="attached")
    choose(page, "en")
    page.wait_for_function("document.querySelector('#variation-generate').textContent.includes('Generate')")
    page.fill("#count input[type=number]", "1")
    press(page, "#variation-generate")
    open_accordions(page)
    shoot(page)
    shown = {text.strip() for text in page.evaluate(SHOWN)}
    assert {"Settings", "Download", "Drop File Here", "Click to Upload"} - shown == set()
    assert {text for text in shown if CHINESE.search(text)} - {"中文"} == set()


def test_where_the_browser_keeps_nothing_the_choice_holds_for_the_visit(open_page: Any) -> None:
    page = open_page(locale="zh-CN", prepare=keep_nothing)
    page.wait_for_function("document.querySelector('#variation-generate').textContent.includes('生成')")
    choose(page, "en")
    page.wait_for_function("document.querySelector('#variation-generate').textContent.includes('Generate')")


# All text and labels on the page, and what is chosen on it, except what visitors type and a model's words. A field's
# value is read through the browser's own getter.
SHOWN = """() => [...document.querySelectorAll('body *')]
    .filter((node) => !node.closest('script, style, textarea, pre, code, kbd, #result-settings, .ipa-typed, #words li'))
    .flatMap((node) => [
        ...['aria-label', 'title', 'placeholder', 'alt'].map((name) => node.getAttribute(name) ?? ''),
        ...[...node.childNodes].filter((child) => child.nodeType === Node.TEXT_NODE).map((child) => child.data),
        ...(node.matches('input[role=combobox], input[type=button], input[type=submit]')
            ? [Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').get.call(node)] : []),
    ])"""
NAMES = {"English", "IP-Adapter Studio", "Toybox", "Tiny"}
TINY_SAYS = {"animals", "colours", "things", "A random model that draws noise."}
A_FILE = re.compile(r"[\w-]+\.png")


def english_on(page: Any) -> set[str]:
    texts = {text.strip() for text in page.evaluate(SHOWN) if ENGLISH.search(text) and not CHINESE.search(text)}
    return {text for text in texts - NAMES - TINY_SAYS if not A_FILE.fullmatch(text)}


def test_the_choice_leaves_no_english_on_any_tab(open_page: Any, shoot: Any, reference_file: Path) -> None:
    page = open_page()
    page.fill("#count input[type=number]", "1")
    press(page, "#variation-generate")
    choose(page, "zh")
    page.wait_for_function("document.querySelector('#variation-generate').textContent.includes('生成')")
    left: set[str] = set()
    for task in ("variation", "mix", "inpaint", "pose"):
        page.click(f"#tab-{task}-button")
        page.wait_for_selector(f"#{task}-generate")
        if task == "inpaint":
            page.set_input_files("#inpaint-image input[type=file]", str(reference_file))
            page.wait_for_selector(EDITOR)
        open_accordions(page)
        rest(page)
        left |= english_on(page)
    shoot(page)
    assert left == set()


@pytest.fixture(scope="module")
def page_of_everything(
    tiny_bundle_dir: Path, reference_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The page with a library, and a second model that has parts, styles and speeds."""
    entry = replace(entry_from_folder(tiny_bundle_dir, name="other"), presets=PRESETS, styles=STYLES)
    entry = replace(entry, fast=tiny_fast_way(tiny_bundle_dir, steps=2))
    examples = [Example(tab=task, file=reference_file) for task in TASKS]
    with opened(tmp_path_factory.mktemp("library")) as (keeper, _):
        with served(tiny_bundle_dir, examples=examples, others=[entry], keeper=keeper) as url:
            yield url


def english_choices(page: Any) -> set[str]:
    """Open every visible dropdown, and return what is still in English there and anywhere on the page."""
    left = english_on(page)
    for field in page.locator("input[role=combobox]:visible").all():
        field.click()
        page.locator("[role=listbox]:visible").wait_for()
        rest(page)
        left |= english_on(page)
        page.keyboard.press("Escape")
        field.blur()
        rest(page)
    return left


class TestEverythingThereIs:
    """The page with everything that any of its settings reveals."""

    @pytest.fixture
    def page_url(self, page_of_everything: str) -> str:
        return page_of_everything

    @pytest.fixture
    def page(self, open_page: Any, reference_file: Path) -> Any:
        page = open_page()
        page.click("#more-settings > button")
        page.click("#model input")
        page.get_by_role("option", name="Tiny").last.click()
        page.wait_for_selector("#variation-style:visible")
        page.wait_for_selector("#model-state .ipa-ready")
        for number in (2, 3, 4):
            page.click("#add-reference")
            page.set_input_files(f"#reference-{number} input[type=file]", str(reference_file))
        page.fill("#count input[type=number]", "1")
        press(page, "#variation-generate")
        return page

    def test_it_is_said_in_chinese_every_choice_of_it(self, page: Any, shoot: Any) -> None:
        choose(page, "zh")
        page.click("#share")
        page.wait_for_selector("#sharing")
        open_accordions(page)
        page.fill("#sets-name :is(input, textarea)", "玩具")
        page.click("#sets-save")
        page.wait_for_selector("#sets-note .ipa-note")
        left: set[str] = set()
        for task in TASKS:
            page.click(f"#tab-{task}-button")
            page.wait_for_selector(f"#{task}-generate")
            open_accordions(page)
            rest(page)
            left |= english_choices(page)
            shoot(page, task)
        page.click("#tab-library-button")
        page.wait_for_selector(".ipa-library li")
        open_accordions(page)
        left |= english_choices(page)
        shoot(page, "library")
        page.click("#presentation > * button.ipa-present")
        left |= english_on(page)
        page.get_by_role("button", name="开始演示").click()
        page.wait_for_selector(".ipa-start[open]")
        left |= english_on(page)
        assert left == set()

    def test_a_dropdown_shows_its_choice_in_the_language_and_keeps_it(self, page: Any, tmp_path: Path) -> None:
        shown = "field => Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').get.call(field)"
        style = page.locator("#variation-style input")
        assert style.evaluate(shown) == "No style"
        choose(page, "zh")
        assert style.evaluate(shown) == "无风格"
        style.focus()
        page.get_by_role("option", name="夜晚").wait_for()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.wait_for_function(f"([field, text]) => ({shown})(field) === text", arg=[style.element_handle(), "夜晚"])
        page.keyboard.press("Tab")
        rest(page)
        assert style.evaluate(shown) == "夜晚"
        choose(page, "en")
        assert style.evaluate(shown) == "Night"
        choose(page, "zh")
        press(page, "#variation-generate")
        (tmp_path / "made.png").write_bytes(body(page, RESULTS))
        assert read_request(tmp_path / "made.png").style == "night"


def test_what_the_engine_says_is_chinese_too(open_page: Any, shoot: Any, reference_file: Path, may_end: Event) -> None:
    page = open_page(locale="zh-CN")
    page.wait_for_function("document.querySelector('#variation-generate').textContent.includes('生成')")
    page.fill("#count input[type=number]", "2")
    page.click("#variation-generate")
    page.wait_for_function("document.querySelector('#status').textContent.includes('张，共 2 张')")
    shoot(page, "progress")
    may_end.set()
    page.wait_for_selector("#status .ipa-done")
    assert not ENGLISH.search(page.inner_text("#status"))

    page.get_by_role("tab", name="局部重绘").click()
    page.set_input_files("#inpaint-image input[type=file]", str(reference_file))
    settle(page, EDITOR)
    page.click("#inpaint-generate")
    page.wait_for_selector(".toast-body.error")
    page.wait_for_selector("#status .ipa-failed")
    for place in (".toast-body.error", "#status"):
        page.wait_for_function("place => document.querySelector(place).innerText.includes('还没有蒙版')", arg=place)
        told = page.inner_text(place)
        assert not ENGLISH.search(told), told
    shoot(page, "error")


def test_a_file_of_the_wrong_type_is_refused_in_chinese(open_page: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("a cat", encoding="utf-8")
    page = open_page(locale="zh-CN")
    page.click("#restore-panel > button")
    page.set_input_files("#restore-file input[type=file]", str(tmp_path / "notes.txt"))
    page.wait_for_function(
        "document.querySelector('.toast-message-text')?.innerText.startsWith('文件类型不对：notes.txt。')"
    )


def test_each_time_that_pictures_are_made_they_are_named_in_chinese(open_page: Any) -> None:
    page = open_page(locale="zh-CN")
    page.wait_for_function("document.querySelector('#variation-generate').textContent.includes('生成')")
    for _ in range(3):
        press(page, "#variation-generate")
        rest(page)
        names = page.locator("#results .caption-label").all_inner_texts()
        assert names
        assert not any(ENGLISH.search(name) for name in names), names


@pytest.fixture(scope="module")
def page_in_three_languages(
    tiny_bundle_dir: Path, reference_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The page with a third language beside the existing ones: English with exclamation marks."""
    folder = tmp_path_factory.mktemp("messages")
    for file in FOLDER.glob("*.json"):
        shutil.copy(file, folder)
    sentences = {key: f"{text}!" for key, text in english().sentences.items() if isinstance(text, str)}
    loud = {
        **sentences,
        "language.name": "LOUD",
        "language.tag": "en-AU",
        "list.separator": " & ",
        "option.count.label": "HOW MANY!",
    }
    (folder / "louder.json").write_text(json.dumps(loud), encoding="utf-8")
    examples = [Example(tab="variation", file=reference_file)]
    with served(tiny_bundle_dir, examples=examples, languages=languages(folder)) as url:
        yield url


def test_a_file_more_is_a_language_more(chromium: Any, page_in_three_languages: str, shoot: Any) -> None:
    page = chromium.new_context(locale="en-US").new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(page_in_three_languages)
    page.wait_for_selector("#variation-generate")
    page.wait_for_selector("#language option", state="attached")
    assert page.locator("#language option").all_inner_texts() == ["English", "LOUD", "中文"]
    choose(page, "louder")
    assert page.inner_text("#variation-generate") == "Generate!"
    assert page.inner_text("#status .ipa-status") == "Ready when you are.!"
    assert page.inner_text("#count label").startswith("HOW MANY!")
    page.fill("#count input[type=number]", "1")
    press(page, "#variation-generate")
    page.wait_for_function("document.querySelector('#status').textContent.includes('seconds')")
    assert page.inner_text("#results .caption-label").startswith("seed ")
    assert page.inner_text("#results .caption-label").endswith("!")
    shoot(page)
    choose(page, "zh")
    assert page.inner_text("#variation-generate") == "生成"
    choose(page, "en")
    assert page.inner_text("#variation-generate") == "Generate"
    page.context.close()
