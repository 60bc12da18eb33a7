"""Every tab with everything open, measured by axe-core against WCAG 2.2, levels A and AA."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.browser.hands import load, open_accordions, press, rest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], "resultTypes": ["violations"]}


def violations(page: Any) -> list[str]:
    """Return axe-core's complaints: the rule, the element, and why."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    # The whole page at once: otherwise elements under the fixed buttons would be measured with the buttons' contrast.
    page.set_viewport_size({"width": 1440, "height": page.evaluate("document.documentElement.scrollHeight")})
    rest(page)  # colours fade
    found = axe.run(page, options=RULES).response["violations"]
    return [f"{rule['id']}: {node['html'][:200]} {node['failureSummary']}" for rule in found for node in rule["nodes"]]


# The contrast of the words in empty boxes with their background, as WCAG computes it.
CONTRASTS = """() => [...document.querySelectorAll('textarea[placeholder], input[placeholder]')].map((box) => {
    const light = (colour) => {
        const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
        const [r, g, b] = parts.map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
    };
    const [words, behind] = [getComputedStyle(box, '::placeholder').color, getComputedStyle(box).backgroundColor];
    return Math.max(light(words) / light(behind), light(behind) / light(words));
})"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_what_stands_in_empty_boxes_can_be_read(open_page: Any, dark: bool) -> None:
    page = open_page(dark=dark)
    page.click("#more-settings > button")
    rest(page)
    contrasts = page.evaluate(CONTRASTS)
    assert contrasts
    assert min(contrasts) >= 4.5


@pytest.mark.parametrize(("dark", "locale"), [(False, "en-US"), (True, "zh-CN")], ids=["light", "dark"])
def test_no_tab_keeps_anybody_out(open_page: Any, shoot: Any, reference_file: Path, dark: bool, locale: str) -> None:
    page = open_page(dark=dark, locale=locale)
    page.fill("#variation-prompt textarea", "a purple cat")
    page.wait_for_selector("#variation-unknown em")
    page.click("#add-reference")
    page.wait_for_selector("#reference-2")
    press(page, "#variation-both-adapters")
    page.wait_for_selector("#compared img")
    for task in ("variation", "mix", "inpaint", "pose"):
        page.click(f"#tab-{task}-button")
        page.wait_for_selector(f"#{task}-generate")
        if task == "inpaint":
            load(page, reference_file)
        open_accordions(page)
        shoot(page, task)
        assert violations(page) == [], task


# The box around the focused element, its label and its frame, with a small margin.
_FOCUSED = """() => {
    const focused = document.activeElement;
    if (!focused || focused === document.body || focused.closest("footer, .toast-wrap")) return null;
    const around = [focused, focused.closest("label"), focused.closest("[role=combobox]")?.closest(".wrap:not(.hide)")];
    const boxes = around.filter(Boolean).map((each) => each.getBoundingClientRect());
    const ends = (end) => boxes.map((each) => each[end]);
    const [left, top] = [Math.min(...ends("left")), Math.min(...ends("top"))];
    const [right, bottom] = [Math.max(...ends("right")), Math.max(...ends("bottom"))];
    window.stops ??= new Map();
    const isNew = !stops.has(focused);
    stops.set(focused, true);
    const name = `${focused.closest("[id]").id} ${focused.type ?? focused.tagName} ${focused.ariaLabel ?? ""}`;
    return { name, isNew, x: left - 8, y: top - 8, width: right - left + 16, height: bottom - top + 16 };
}"""
_STEADY = "* { transition: none !important; animation: none !important; caret-color: transparent !important; }"


def pixels(page: Any, box: dict[str, float]) -> np.ndarray:
    clip = {key: max(0.0, box[key]) for key in ("x", "y", "width", "height")}
    return np.asarray(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")).astype(int)


@pytest.mark.parametrize(
    ("dark", "task"), [(False, "pose"), (True, "inpaint"), (True, "variation")], ids=["light", "dark", "dark results"]
)
def test_where_the_keyboard_is_can_be_seen(open_page: Any, reference_file: Path, dark: bool, task: str) -> None:
    page = open_page(dark=dark)
    if task == "inpaint":
        load(page, reference_file)
    elif task == "variation":
        press(page, "#variation-both-adapters")
        page.wait_for_selector("#compared img")
    page.click(f"#tab-{task}-button")
    open_accordions(page)
    page.add_style_tag(content=_STEADY)
    page.evaluate("scrollTo(0, 0)")
    page.mouse.click(2, 2)
    seen = {}
    while True:
        page.keyboard.press("Tab")
        page.wait_for_timeout(50)
        stop = page.evaluate(_FOCUSED)
        if not stop or not stop["isNew"]:
            break
        with_focus = pixels(page, stop)
        page.evaluate("() => { window.left = document.activeElement; left.blur(); }")
        seen[stop["name"]] = int((np.abs(with_focus - pixels(page, stop)).max(axis=2) > 40).sum())
        page.evaluate("left.focus({ preventScroll: true })")
    assert len(seen) > 40
    assert {name: count for name, count in seen.items() if count < 40} == {}
