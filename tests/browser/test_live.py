"""Live mode as a visitor uses it: the picture follows the hand, and ends as the engine draws it on its own."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.live import LiveVisitor
from ipa_app.engine.requests import GenerateRequest
from ipa_app.imaging.transparency import on_white
from ipa_app.messages import Message
from ipa_app.models.catalog import entry_from_folder
from ipa_app.ui.examples import Example
from ipa_app.ui.pictures import inline_picture
from tests.browser.hands import EDITOR, RESULTS, body, enter, keep_nothing, load, press, rest
from tests.browser.test_downloads import choose, open_and_choose
from tests.browser.test_regions import choose_place
from tests.browser.test_skeleton_editor import joint
from tests.ui.serving import WatchedEngine, served_engine

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PICTURE = "#live-picture img"
SWITCH = "#live input"
# Whether, two frames later, no editor is redrawing.
RESTS = """() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(
    () => resolve([...window.ipaCanvases].every((each) => !each.ticker.started))
)))"""


@pytest.fixture(scope="module")
def live_app(
    tiny_bundle_dir: Path, reference_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, WatchedEngine, Path]]:
    temporary = tmp_path_factory.mktemp("served")
    example = Example(tab="variation", file=reference_file)
    quick = replace(entry_from_folder(tiny_bundle_dir, name="quick"), title="Quick", live=True)
    with served_engine(tiny_bundle_dir, temporary=temporary, examples=[example], others=[quick]) as (url, engine):
        yield url, engine, temporary


@pytest.fixture(scope="module")
def page_url(live_app: tuple[str, WatchedEngine, Path]) -> str:
    return live_app[0]


@pytest.fixture
def engine(live_app: tuple[str, WatchedEngine, Path]) -> WatchedEngine:
    return live_app[1]


def switch_on(page: Any) -> None:
    page.check(SWITCH)
    page.wait_for_selector("#live-panel")


def newest(page: Any, engine: WatchedEngine) -> GenerateRequest:
    """Wait until the page is idle, check that it shows its last request as the engine draws it, and return that."""
    while True:
        rest(page)
        asked, request = len(engine.jobs), engine.jobs[-1].plan.request
        alone = engine.submit(request).result()
        if len(engine.jobs) == asked + 1:  # the page has requested nothing else meanwhile
            break
    shown = inline_picture(on_white(alone.images[0]), alt=Message("page.live_picture"), css_class="ipa-live")
    assert page.get_attribute(PICTURE, "src") in shown
    return request


def test_a_model_that_suits_it_begins_with_it_and_what_the_visitor_sets_stays(
    open_page: Any, engine: WatchedEngine
) -> None:
    page = open_page()
    open_and_choose(page, "Quick")
    page.wait_for_selector(PICTURE)
    assert newest(page, engine).model == "quick"
    choose(page, "Tiny")
    page.wait_for_selector("#live-panel", state="hidden")
    switch_on(page)
    page.uncheck(SWITCH)
    choose(page, "Quick")
    rest(page)
    assert not page.is_checked(SWITCH)


def test_it_is_switched_on_and_off_where_the_browser_keeps_nothing(open_page: Any, engine: WatchedEngine) -> None:
    page = open_page(prepare=keep_nothing)
    open_and_choose(page, "Quick")
    page.wait_for_selector(PICTURE)
    page.uncheck(SWITCH)
    page.wait_for_selector("#live-panel", state="hidden")
    switch_on(page)
    page.fill("#variation-prompt textarea", "a dog")
    assert newest(page, engine).prompt == "a dog"


def test_it_is_off_until_it_is_switched_on_and_remembered_for_the_visit(open_page: Any, engine: WatchedEngine) -> None:
    page = open_page()
    before = len(engine.jobs)
    page.fill("#variation-prompt textarea", "a dog")
    rest(page)
    assert len(engine.jobs) == before
    assert not page.is_visible("#live-panel")
    switch_on(page)
    page.wait_for_selector(PICTURE)
    rest(page)
    page.reload()
    page.wait_for_selector(PICTURE)
    assert page.is_checked(SWITCH)
    page.uncheck(SWITCH)
    page.wait_for_selector("#live-panel", state="hidden")
    rest(page)
    before = len(engine.jobs)
    page.fill("#variation-prompt textarea", "a cat")
    rest(page)
    assert len(engine.jobs) == before
    page.evaluate("location.hash = 'live'")
    page.wait_for_selector(PICTURE)
    newest(page, engine)


def test_the_picture_follows_the_strength_while_it_is_dragged(
    open_page: Any, engine: WatchedEngine, shoot: Any
) -> None:
    page = open_page()
    switch_on(page)
    page.wait_for_selector(PICTURE)
    first = newest(page, engine)
    src = page.get_attribute(PICTURE, "src")
    slider = page.locator("#scale input[type=range]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.9, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.2, middle, steps=12)
    page.wait_for_function("([s, old]) => document.querySelector(s).src !== old", arg=[PICTURE, src])
    page.mouse.move(box["x"] + box["width"] * 0.4, middle, steps=6)
    held = newest(page, engine)
    shoot(page, "held")
    page.mouse.up()
    last = newest(page, engine)
    assert held.scale == last.scale == float(page.input_value("#scale input[type=number]")) != first.scale
    assert held.seed == first.seed
    assert (held.count, held.steps) == (1, 0)


def test_on_a_phone_the_picture_stays_in_sight(open_page: Any, engine: WatchedEngine, shoot: Any) -> None:
    page = open_page(width=390, height=844)
    switch_on(page)
    page.wait_for_selector(PICTURE)
    page.locator("#scale input[type=range]").scroll_into_view_if_needed()
    newest(page, engine)
    shoot(page, "small")
    seen = page.locator(PICTURE).bounding_box()
    assert 0 <= seen["y"] <= 844 - seen["height"]
    page.locator("#live-keep").scroll_into_view_if_needed()
    rest(page)
    assert page.locator(PICTURE).bounding_box()["width"] > 2 * seen["width"] * 0.9


def lies_on(page: Any, selector: str, other: str) -> bool:
    """Return whether two elements overlap."""
    one, two = (page.locator(each).bounding_box() for each in (selector, other))
    ends = (("x", "width"), ("y", "height"))
    return all(one[at] < two[at] + two[size] and two[at] < one[at] + one[size] for at, size in ends)


def test_on_a_phone_the_picture_is_put_into_the_bar_and_taken_out(open_page: Any, engine: WatchedEngine) -> None:
    page = open_page(width=390, height=844, touch=True)
    switch_on(page)
    page.wait_for_selector(PICTURE)
    page.locator("#scale input[type=range]").scroll_into_view_if_needed()
    newest(page, engine)
    large = page.locator(PICTURE).bounding_box()
    size = page.get_by_role("button", name="Make the live picture smaller or larger")
    size.tap()
    rest(page)
    small = page.locator(PICTURE).bounding_box()
    assert small["y"] > 844 - 64
    assert not lies_on(page, PICTURE, "#variation-stop")
    assert not lies_on(page, PICTURE, "#variation-generate")
    size.focus()
    page.fill("#variation-prompt textarea", "a dog")
    newest(page, engine)
    assert page.locator(PICTURE).bounding_box() == small
    size.press("Enter")
    rest(page)
    assert page.locator(PICTURE).bounding_box() == large


def test_on_a_phone_the_picture_does_not_lie_on_what_is_drawn_on(open_page: Any, engine: WatchedEngine) -> None:
    page = open_page(width=390, height=844)
    switch_on(page)
    page.wait_for_selector(PICTURE)
    page.click("#tab-pose-button")
    page.wait_for_selector("#skeleton svg")
    newest(page, engine)
    page.evaluate("document.querySelector('#adapter').scrollIntoView()")
    rest(page)
    width = page.locator(PICTURE).bounding_box()["width"]
    page.evaluate("document.querySelector('#skeleton svg').scrollIntoView({block: 'end'})")
    rest(page)
    assert page.locator(PICTURE).bounding_box()["width"] < width / 2
    assert not lies_on(page, PICTURE, "#skeleton svg")
    page.get_by_role("button", name="Make the live picture smaller or larger").click()
    assert page.locator(PICTURE).bounding_box()["width"] == width
    page.evaluate("document.querySelector('#adapter').scrollIntoView()")
    rest(page)
    assert page.locator(PICTURE).bounding_box()["width"] == width


def test_the_picture_follows_words_for_a_place(open_page: Any, engine: WatchedEngine) -> None:
    page = open_page()
    switch_on(page)
    page.wait_for_selector(PICTURE)
    choose_place(page, 1, "Left half")
    page.locator("#region-prompt-1 textarea").press_sequentially("a red cat", delay=30)
    (reference,) = newest(page, engine).references
    assert (reference.region, reference.region_prompt) == ("left", "a red cat")
    choose_place(page, 1, "Everywhere")
    (reference,) = newest(page, engine).references
    assert (reference.region, reference.region_prompt) == ("everywhere", "")


def test_the_picture_follows_the_words_while_they_are_typed(open_page: Any, engine: WatchedEngine, shoot: Any) -> None:
    page = open_page()
    switch_on(page)
    page.get_by_role("tab", name="Text + image").click()
    page.locator("#mix-prompt textarea").press_sequentially("a red frog", delay=30)
    assert newest(page, engine).prompt == "a red frog"
    shoot(page)


def test_the_picture_follows_a_joint_while_it_is_moved(open_page: Any, engine: WatchedEngine, shoot: Any) -> None:
    page = open_page()
    switch_on(page)
    page.get_by_role("tab", name="Pose").click()
    joint(page, "left wrist").scroll_into_view_if_needed()
    before = newest(page, engine)
    dot = joint(page, "left wrist").locator(".ipa-skel-dot").bounding_box()
    x, y = dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 30, y - 45, steps=6)
    held = newest(page, engine)
    assert held.pose != before.pose, "it is not let go of yet"
    shoot(page, "held")
    page.mouse.up()
    assert newest(page, engine).pose == held.pose
    page.click("#skeleton [data-action=undo]")
    assert newest(page, engine).pose == before.pose, "the whole way is one step back"


def test_the_picture_follows_the_mask_stroke_by_stroke(
    open_page: Any, engine: WatchedEngine, reference_file: Path, shoot: Any
) -> None:
    page = open_page()
    switch_on(page)
    load(page, reference_file)
    rest(page)
    canvas = page.locator(EDITOR).bounding_box()
    masks = []
    for share in (0.3, 0.6):
        uploads: list[str] = []
        page.on("request", lambda sent, seen=uploads: seen.append(sent.url) if sent.url.endswith("/upload") else None)
        before = page.get_attribute(PICTURE, "src")
        x, y = canvas["x"] + canvas["width"] * share, canvas["y"] + canvas["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 20, y + 20, steps=4)
        page.mouse.up()
        assert page.evaluate(RESTS), "the editor does not draw itself on while what was painted is gathered"
        page.wait_for_function("([s, old]) => document.querySelector(s)?.src !== old", arg=[PICTURE, before])
        masks.append(newest(page, engine).mask)
        assert len(uploads) == 3, "the editor's picture, its layer and both together are gathered once"
    first, both = (np.asarray(mask) > 0 for mask in masks)
    assert first.any()
    assert (both & ~first).any(), "the second stroke is there"
    assert not (first & ~both).any(), "and so is the first"
    shoot(page)
    before = page.get_attribute(PICTURE, "src")
    page.get_by_role("button", name="Undo").click()
    page.wait_for_function("([s, old]) => document.querySelector(s).src !== old", arg=[PICTURE, before])
    assert np.array_equal(np.asarray(newest(page, engine).mask) > 0, first)


def test_another_picture_is_drawn_with_its_own_strokes(
    open_page: Any, engine: WatchedEngine, reference_file: Path, tmp_path: Path
) -> None:
    page = open_page()
    load(page, reference_file)
    canvas = page.locator(EDITOR).bounding_box()
    page.mouse.move(canvas["x"] + canvas["width"] / 2, canvas["y"] + canvas["height"] / 2)
    page.mouse.down()
    page.mouse.move(canvas["x"] + canvas["width"] / 2 + 20, canvas["y"] + canvas["height"] / 2, steps=4)
    page.mouse.up()
    switch_on(page)
    page.wait_for_selector(PICTURE)
    assert newest(page, engine).mask is not None, "what was painted before it was switched on counts"
    before = len(engine.jobs)
    page.click("#inpaint-other")
    other = tmp_path / "other.png"
    Image.new("RGB", (200, 200), (90, 160, 90)).save(other)
    page.set_input_files("#inpaint-image input[type=file]", str(other))
    page.wait_for_selector("#live-note p")
    rest(page)
    assert len(engine.jobs) == before, "the strokes of another picture are not taken for those of this one"


def test_what_goes_wrong_is_said_under_the_last_good_picture(open_page: Any, engine: WatchedEngine, shoot: Any) -> None:
    page = open_page()
    switch_on(page)
    page.wait_for_selector(PICTURE)
    rest(page)
    before = page.get_attribute(PICTURE, "src")
    page.get_by_role("tab", name="Inpaint").click()
    page.wait_for_selector("#live-note p")
    assert page.inner_text("#live-note").endswith(".")
    assert page.get_attribute(PICTURE, "src") == before
    look = "(picture) => getComputedStyle(picture).filter"
    assert "grayscale" in page.eval_on_selector(PICTURE, look), "it is not of what is entered now"
    assert not page.locator(".toast-body").count()
    shoot(page)
    page.get_by_role("tab", name="Variation").click()
    page.wait_for_selector("#live-note p", state="detached")
    assert page.eval_on_selector(PICTURE, look) == "none"
    newest(page, engine)


def test_what_is_kept_is_the_same_picture_and_nothing_else_is_kept(
    open_page: Any, engine: WatchedEngine, live_app: tuple[str, WatchedEngine, Path]
) -> None:
    page, folder = open_page(), live_app[2]
    switch_on(page)
    page.wait_for_selector(PICTURE)
    newest(page, engine)
    files = set(folder.rglob("*"))
    before = page.get_attribute(PICTURE, "src")
    page.fill("#variation-prompt textarea", "a frog")
    page.wait_for_function("([s, old]) => document.querySelector(s).src !== old", arg=[PICTURE, before])
    live = newest(page, engine)
    assert set(folder.rglob("*")) == files
    assert not page.is_visible(RESULTS)
    assert not page.is_visible("#history-panel")
    press(page, "#live-keep")
    page.wait_for_selector(RESULTS)
    assert page.locator(RESULTS).count() == 1
    kept = engine.jobs[-1].plan.request
    assert (kept.seed, kept.prompt, kept.count) == (live.seed, "a frog", 1)
    with Image.open(io.BytesIO(body(page, RESULTS))) as file:
        assert file.tobytes() == engine.submit(live).result().images[0].tobytes()
    page.wait_for_selector("#history-panel")
    page.click("#more-settings button")
    enter(page, "steps", "3")
    assert newest(page, engine).steps == 0
    press(page, "#live-keep")
    own = engine.jobs[-1].plan.request
    assert (own.seed, own.steps) == (live.seed, 3)
    enter(page, "steps", "100")
    rest(page)
    page.click("#variation-generate")
    page.wait_for_selector("#variation-stop:enabled")
    assert page.is_disabled("#live-keep"), "one at a time, or else what comes first is forgotten"
    page.click("#variation-stop")
    page.wait_for_selector("#live-keep:enabled")


def test_the_benchmark_sees_the_picture_follow(open_page: Any) -> None:
    visitor = LiveVisitor(open_page())
    with visitor.dragging() as drag:
        seen = visitor.follows("dragged", drag, 2)
    assert (seen.what, seen.events) == ("dragged", 2)
    assert 0 < seen.median_s <= seen.worst_s


def test_two_visitors_see_their_own(open_page: Any, engine: WatchedEngine) -> None:
    pages = [open_page(), open_page()]
    for page, words in zip(pages, ("a dog", "a frog"), strict=True):
        switch_on(page)
        page.fill("#variation-prompt textarea", words)
    sources = []
    for page, words in zip(pages, ("a dog", "a frog"), strict=True):
        rest(page)
        request = next(job.plan.request for job in reversed(engine.jobs) if job.plan.request.prompt == words)
        alone = engine.submit(request).result()
        sources.append(page.get_attribute(PICTURE, "src"))
        assert sources[-1] in inline_picture(
            on_white(alone.images[0]), alt=Message("page.live_picture"), css_class="ipa-live"
        )
    assert sources[0] != sources[1]
