from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.browser.hands import EDITOR, enter, open_accordions, press, settle

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ENGLISH = re.compile("[a-z]{3}")
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def choose(page: Any, language: str) -> None:
    page.select_option("#language select", language)


def test_the_page_is_chinese_in_a_chinese_browser_and_what_is_typed_stays(open_page: Any, shoot: Any) -> None:
    page = open_page(locale="zh-CN")
    page.wait_for_function("document.querySelector('#variation-generate').textContent.includes('生成')")
    assert page.get_attribute("html", "lang") == "zh-CN"
    page.fill("#variation-prompt textarea", "Stop")
    page.fill("#count input[type=number]", "1")
    page.click("#variation-generate")
    page.wait_for_selector("#results .grid-wrap img")
    page.wait_for_function("document.querySelector('#status').textContent.includes('用时')")
    assert page.input_value("#variation-prompt textarea") == "Stop"
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
    # A reload that breaks off what is still being asked for leaves an error in the console.
    page.wait_for_selector("#model-state .ipa-ready")
    page.wait_for_timeout(1500)
    page.reload()
    page.wait_for_function("document.querySelector('#variation-generate')?.textContent.includes('生成')")
    choose(page, "en")
    page.wait_for_function("document.querySelector('#variation-generate').textContent.includes('Generate')")
    left = page.inner_text("body")
    assert CHINESE.findall(left.replace("中文", "")) == []


# All texts and names of what is on the page, but for what visitors type and the words that a model knows.
SHOWN = """() => [...document.querySelectorAll('body *')]
    .filter((node) => !node.closest('script, style, textarea, pre, code, #result-settings, #words li'))
    .flatMap((node) => [
        ...['aria-label', 'title', 'placeholder', 'alt'].map((name) => node.getAttribute(name) ?? ''),
        ...[...node.childNodes].filter((child) => child.nodeType === Node.TEXT_NODE).map((child) => child.data),
    ])"""
NAMES = {"English", "IP-Adapter Studio", "Toybox", "Tiny"}
TINY_GROUPS = {"animals", "colours", "things"}


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
        page.wait_for_timeout(1000)
        left |= {text.strip() for text in page.evaluate(SHOWN) if ENGLISH.search(text) and not CHINESE.search(text)}
    shoot(page)
    assert left - NAMES - TINY_GROUPS == set()


def test_what_the_engine_says_is_chinese_too(open_page: Any, shoot: Any, reference_file: Path) -> None:
    page = open_page(locale="zh-CN")
    page.wait_for_function("document.querySelector('#variation-generate').textContent.includes('生成')")
    page.click("#more-settings > button")
    enter(page, "steps", "100")
    page.fill("#count input[type=number]", "2")
    page.click("#variation-generate")
    page.wait_for_function("document.querySelector('#status').textContent.includes('张，共 2 张')")
    shoot(page, "progress")
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
