from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ipa_app.models.catalog import entry_from_folder
from ipa_app.ui import kept, results
from ipa_app.ui.controls import Update
from ipa_app.ui.running import Runner
from tests.browser.hands import EDITOR, PATIENCE_MS, RESULTS, enter, expect_values, press, rest, settle, watch
from tests.browser.test_accessibility import violations
from tests.browser.test_downloads import open_and_choose
from tests.ui.serving import served

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def result_pictures(page: Any) -> list[np.ndarray]:
    page.wait_for_selector(RESULTS)
    sources = [image.get_attribute("src") for image in page.query_selector_all(RESULTS)]
    bodies = [page.request.get(source).body() for source in sources]
    return [np.asarray(Image.open(io.BytesIO(body)).convert("RGB")) for body in bodies]


def press_generate(page: Any, task: str, *, count: int = 1) -> None:
    page.fill("#count input[type=number]", str(count))
    page.click(f"#{task}-generate")


def test_the_first_click_gives_pictures(open_page: Any, shoot: Any) -> None:
    page = open_page()
    shoot(page, "opened")
    page.click("#variation-generate")
    assert len(result_pictures(page)) == 4
    captions = page.locator("#results .caption-label").all_inner_texts()
    seeds = [int(re.fullmatch(r"seed (\d+)", caption.strip())[1]) for caption in captions]
    assert seeds == list(range(seeds[0], seeds[0] + 4))
    page.wait_for_selector("#status .ipa-done")
    assert "toy characters only" in page.inner_text("#model-note")
    shoot(page, "pictures")


def test_tabs_keep_what_was_entered(open_page: Any, shoot: Any) -> None:
    page = open_page()
    page.fill("#variation-prompt textarea", "a red frog")
    page.get_by_role("tab", name="Text + image").click()
    page.fill("#mix-prompt textarea", "a purple frog")
    page.wait_for_selector("#mix-unknown em")
    assert page.inner_text("#mix-unknown em") == "purple"
    page.wait_for_function("document.querySelector('#scale input[type=number]').value === '0.6'")
    shoot(page)
    page.get_by_role("tab", name="Variation").click()
    assert page.input_value("#variation-prompt textarea") == "a red frog"
    page.wait_for_function("document.querySelector('#scale input[type=number]').value === '1'")
    assert page.is_visible("#reference img")
    for name in ("Inpaint", "Pose"):
        page.get_by_role("tab", name=name).click()
        page.wait_for_selector(f"#{name.lower()}-generate")
    assert page.get_by_role("tab").count() == 4


def test_inpainting_without_a_mask_asks_for_one(open_page: Any, reference_file: Path) -> None:
    page = open_page()
    page.get_by_role("tab", name="Inpaint").click()
    page.set_input_files("#inpaint-image input[type=file]", str(reference_file))
    settle(page, EDITOR)
    press_generate(page, "inpaint")
    page.wait_for_selector("#status .ipa-failed")
    assert "mask" in page.inner_text("#status")
    assert page.is_enabled("#inpaint-generate")


def test_what_failed_is_over_when_it_is_put_right(open_page: Any, reference_file: Path) -> None:
    failed = "#status .ipa-failed"
    page = open_page()
    page.get_by_role("tab", name="Inpaint").click()
    press_generate(page, "inpaint")
    page.wait_for_selector(failed)
    page.set_input_files("#inpaint-image input[type=file]", str(reference_file))
    settle(page, EDITOR)
    assert "Ready" in page.inner_text("#status")
    press_generate(page, "inpaint")
    page.wait_for_selector(failed)
    page.click("#more-settings > button")
    rest(page)
    assert "mask" in page.inner_text(failed), "nothing was changed"
    page.locator(EDITOR).click()
    page.wait_for_selector(failed, state="detached")


def test_a_chosen_pose_is_followed(open_page: Any, shoot: Any) -> None:
    page = open_page()
    page.get_by_role("tab", name="Pose").click()
    wrist = "#skeleton [aria-label='left wrist']"
    page.wait_for_selector(wrist)
    before = page.get_attribute(wrist, "transform")
    page.locator("#pose-presets .grid-wrap button").nth(3).click()
    moved = "([wrist, before]) => document.querySelector(wrist).getAttribute('transform') !== before"
    page.wait_for_function(moved, arg=[wrist, before])
    press_generate(page, "pose")
    assert len(result_pictures(page)) == 1
    shoot(page)


def test_stop_ends_a_long_job_and_the_next_one_works(open_page: Any) -> None:
    page = open_page()
    page.click("#more-settings button")
    enter(page, "steps", "100")
    press_generate(page, "variation", count=8)
    page.wait_for_selector("#status .ipa-busy")
    page.click("#variation-stop:not([disabled])")
    page.wait_for_selector("#status .ipa-done")
    assert page.inner_text("#status") == "Stopped."
    page.fill("#steps input[type=number]", "0")
    press_generate(page, "variation")
    assert len(result_pictures(page)) == 1


def test_what_is_pressed_as_soon_as_the_pictures_are_there_draws(
    open_page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even before the server has told Gradio's client that the event is complete."""
    is_over, guarded = Event(), Runner.guarded

    def slow(runner: Runner, updates: Iterator[Update]) -> Iterator[Update]:
        yield from guarded(runner, updates)
        is_over.wait(PATIENCE_MS / 1000)

    monkeypatch.setattr(Runner, "guarded", slow)
    page = open_page()
    page.fill("#count input[type=number]", "1")
    press(page, "#variation-generate")
    press(page, "#variation-generate")
    is_over.set()


def test_what_is_pressed_at_once_and_twice_starts_one_job_which_can_be_stopped(open_page: Any) -> None:
    page = open_page()
    page.click("#more-settings button")
    enter(page, "steps", "100")
    page.fill("#count input[type=number]", "8")
    pressed = ("#variation-generate", "#variation-scale-strip", "#variation-generate")
    page.evaluate("pressed => pressed.forEach((each) => document.querySelector(each).click())", pressed)
    page.wait_for_selector("#status .ipa-busy")
    page.click("#variation-stop:not([disabled])")
    page.wait_for_selector("#status .ipa-done")
    rest(page)
    assert page.inner_text("#status") == "Stopped."


def test_a_long_title_of_a_model_leaves_the_rest_of_the_bar_free(open_page: Any) -> None:
    page = open_page()
    page.wait_for_selector("#model-state .ipa-ready")
    title = "Loading some model of a very long name that somebody gave to it " * 2
    page.evaluate("title => { document.querySelector('.ipa-pill > span').textContent = title; }", title)
    pill, choice = (page.locator(each).bounding_box() for each in (".ipa-pill", "#language select"))
    assert pill["x"] + pill["width"] <= choice["x"]
    assert pill["height"] < 48  # one line


def test_a_job_survives_that_the_page_is_closed_and_opened_again(
    open_page: Any, shoot: Any, may_end: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipa_app.ui.running._CLOSING_S", PATIENCE_MS / 1000)  # long enough for a busy machine
    page = open_page()
    kept = page.evaluate("localStorage['ipa-running']")
    press_generate(page, "variation", count=8)
    page.wait_for_selector("#status .ipa-bar span")
    page.wait_for_function("before => (localStorage['ipa-running'] ?? null) !== before", arg=kept)
    context, url = page.context, page.url
    page.close()
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(url)
    page.wait_for_selector("#variation-stop:enabled")
    may_end.set()
    page.wait_for_selector("#status .ipa-done")
    assert len(result_pictures(page)) == 8
    shoot(page)


def test_what_was_entered_is_there_when_the_page_is_loaded_anew(open_page: Any, reference_file: Path) -> None:
    page = open_page()
    shown = page.get_attribute("#reference img", "src")
    page.set_input_files("#reference input[type=file]", str(reference_file))
    page.click("#more-settings > button")
    enter(page, "steps", "3")
    page.fill("#count input[type=number]", "2")
    page.get_by_role("tab", name="Text + image").click()
    page.fill("#mix-prompt textarea", "a red frog")
    enter(page, "scale", "0.75")
    uploaded = page.get_attribute("#reference img", "src")
    page.reload()
    page.wait_for_function("document.querySelector('#mix-prompt textarea')?.value === 'a red frog'")
    rest(page)
    assert page.get_by_role("tab", name="Text + image").get_attribute("aria-selected") == "true"
    expect_values(page, scale="0.75", count="2")
    assert page.get_attribute("#reference img", "src") == uploaded != shown
    page.click("#more-settings > button")
    expect_values(page, steps="3")
    page.click("#mix-generate")
    page.wait_for_selector("#status .ipa-done")
    assert page.locator(RESULTS).count() == 2


def tick(page: Any, box: str, value: str) -> None:
    page.locator(f"#{box} input[value={value}]").check()
    rest(page)


def test_what_counts_of_a_place_is_seen_when_the_page_is_loaded_anew(open_page: Any) -> None:
    page, chosen = open_page(), "#region-1 input:checked"
    page.click("#add-reference")
    enter(page, "weight-1", "0")
    page.click("#seen-panel-1 > button")
    tick(page, "region-1", "left")
    page.fill("#region-prompt-1 textarea, #region-prompt-1 input", "a red frog")
    rest(page)
    page.reload()
    page.click("#seen-panel-1 > button")
    rest(page)
    assert page.input_value(chosen) == "left"
    assert page.input_value("#region-prompt-1 textarea, #region-prompt-1 input") == "a red frog"
    assert page.is_visible("#region-words-1")
    page.click("#add-reference")
    expect_values(page, weight_1="1")  # with a single picture, nobody would have seen the others
    tick(page, "region-1", "painted")
    page.reload()
    page.click("#seen-panel-1 > button")
    rest(page)
    assert page.input_value(chosen) == "everywhere", "what was painted is gone, and with it the place"
    assert not page.is_visible("#region-words-1")


def test_a_page_that_opens_leaves_alone_what_is_not_kept(open_page: Any) -> None:
    """The visitor may have entered something before the page has opened completely."""
    page = open_page()
    rest(page)
    page.evaluate(f"sessionStorage.setItem('{kept._STORED}', JSON.stringify({{ count: 2 }}))")
    assert page.evaluate(kept._RESTORE % '["count", "model"]') == [2, {"__type__": "update"}]


def test_a_tab_whose_job_has_ended_leaves_that_of_another_to_the_page_that_is_opened_next(chromium: Any) -> None:
    context = chromium.new_context()
    context.route("http://page.test/", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
    one, other = context.new_page(), context.new_page()
    for tab in (one, other):
        tab.goto("http://page.test/")
        tab.evaluate(
            """script => {
                window.props = {};
                new Function("props", "watch", script)(props, (_, then) => { window.told = then; });
            }""",
            results._KEEP_RUNNING,
        )
    for tab, job in ((one, "first"), (other, "second"), (one, "")):
        tab.evaluate("job => { props.value = job; told(); }", job)
    kept = "[sessionStorage['ipa-running'] ?? null, localStorage['ipa-running'] ?? null]"
    assert one.evaluate(kept) == [None, "second"]
    assert other.evaluate(kept) == ["second", "second"]
    other.evaluate("props.value = ''; told();")
    assert other.evaluate(kept) == [None, None]
    context.close()


def test_two_tabs_have_a_job_each(open_page: Any, may_end: Event) -> None:
    page = open_page()
    page.fill("#count input[type=number]", "8")
    page.click("#variation-generate")
    page.wait_for_selector("#status .ipa-bar span")
    page.wait_for_function("sessionStorage['ipa-running']")
    kept = page.evaluate("sessionStorage['ipa-running']")
    other = page.context.new_page()
    other.set_default_timeout(PATIENCE_MS)
    other.goto(page.url)
    other.wait_for_selector("#variation-generate:enabled")
    other.fill("#count input[type=number]", "1")
    other.click("#variation-generate")
    other.wait_for_function("sessionStorage['ipa-running']")
    assert other.evaluate("sessionStorage['ipa-running']") != kept
    page.reload()
    page.wait_for_selector("#variation-stop:enabled")
    assert page.evaluate("sessionStorage['ipa-running']") == kept
    page.click("#variation-stop")
    page.wait_for_selector("#status .ipa-done")
    may_end.set()
    other.wait_for_selector("#status .ipa-done")
    assert other.locator(RESULTS).count() == 1


@pytest.mark.parametrize("width", [360, 800, 1000, 1100, 1280, 1440])
def test_it_fits_the_screen_and_the_dark(open_page: Any, shoot: Any, width: int) -> None:
    page = open_page(width=width, dark=True)
    rest(page)
    shoot(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("Variation", "Text + image", "Inpaint", "Pose"):
        assert page.get_by_role("tab", name=name).is_visible(), f"{name} has gone into a menu"


@pytest.fixture(scope="module")
def url_with_a_broken_model(tiny_bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page with a second model that is missing; its folder's name has no space to wrap at."""
    folder = tmp_path_factory.mktemp("models") / "-".join(["a-folder-with-a-long-name"] * 4)
    with served(tiny_bundle_dir, others=[entry_from_folder(folder, name="broken")]) as url:
        yield url


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_why_a_model_failed_can_be_read_on_a_small_screen(
    chromium: Any, shoot: Any, url_with_a_broken_model: str, dark: bool
) -> None:
    size = {"width": 360, "height": 740}
    page = chromium.new_context(viewport=size, color_scheme="dark" if dark else "light").new_page()
    page.set_default_timeout(PATIENCE_MS)
    watch(page)
    page.goto(url_with_a_broken_model)
    page.wait_for_selector("#variation-generate")
    open_and_choose(page, "Broken")
    page.wait_for_selector("#model-state .ipa-reason")
    shoot(page)
    for seen in (".ipa-reason", ".ipa-pill", "#language select", "#keys button", ".ipa-present"):
        box = page.locator(seen).first.bounding_box()
        assert box["x"] >= 0, seen
        assert box["x"] + box["width"] <= 360, seen
    assert violations(page) == []
    page.context.close()


@pytest.mark.parametrize("scrolled", [0, 400])
def test_what_draws_and_what_was_drawn_stay_in_sight_on_a_small_screen(
    open_page: Any, shoot: Any, scrolled: int
) -> None:
    page = open_page(width=1280, height=720)
    press_generate(page, "variation")
    page.wait_for_selector("#status .ipa-done")
    for task in ("variation", "mix", "inpaint", "pose"):
        page.click(f"#tab-{task}-button")
        page.wait_for_selector(f"#{task}-generate")
        page.evaluate("y => scrollTo(0, y)", scrolled if task in ("inpaint", "pose") else 0)
        shoot(page, task)
        for seen in (f"#{task}-generate", f"#{task}-stop", "#newest img"):
            box = page.locator(seen).first.bounding_box()
            assert box["y"] >= 0, seen
            assert box["y"] + box["height"] <= 720, seen
        page.evaluate("scrollTo(0, 0)")


def test_a_broken_picture_to_paint_on_is_told_in_words(open_page: Any, shoot: Any, tmp_path: Path) -> None:
    page = open_page()
    page.get_by_role("tab", name="Inpaint").click()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    page.set_input_files("#inpaint-image input[type=file]", broken)
    page.wait_for_selector(".toast-body.error")
    shoot(page)
    told = page.inner_text(".toast-body.error")
    assert "picture" in told
    assert "500" not in told
