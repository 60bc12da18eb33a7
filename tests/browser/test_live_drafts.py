"""Live pictures of a model with a fast way: a draft while the hand moves, then the requested quality."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.live import LiveVisitor
from ipa_app.imaging.transparency import on_white
from ipa_app.messages import Message
from ipa_app.models.catalog import entry_from_folder
from ipa_app.ui.examples import Example
from ipa_app.ui.pictures import inline_picture
from tests.browser.hands import RESULTS, press, rest
from tests.browser.test_downloads import open_and_choose
from tests.browser.test_live import PICTURE
from tests.tiny_models import tiny_fast_way
from tests.ui.serving import WatchedEngine, served_engine

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# From now on, notes each picture shown and whether it is a draft.
_NOTE = """() => {
    const box = document.querySelector("#live-picture");
    window.shown = [];
    new MutationObserver(() => {
        const picture = box.querySelector("img");
        if (picture && picture.src !== window.shown.at(-1)?.src)
            window.shown.push({src: picture.src, isDraft: picture.classList.contains("ipa-draft")});
    }).observe(box, {subtree: true, childList: true, attributes: true});
}"""


@pytest.fixture(scope="module")
def engine_at(
    tiny_bundle_dir: Path, reference_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, WatchedEngine]]:
    quick = replace(entry_from_folder(tiny_bundle_dir, name="quick"), title="Quick", live=True)
    quick = replace(quick, fast=tiny_fast_way(tiny_bundle_dir))
    example = Example(tab="variation", file=reference_file)
    temporary = tmp_path_factory.mktemp("served")
    with served_engine(tiny_bundle_dir, temporary=temporary, examples=[example], others=[quick]) as served:
        yield served


@pytest.fixture(scope="module")
def page_url(engine_at: tuple[str, WatchedEngine]) -> str:
    return engine_at[0]


@pytest.fixture
def live_page(open_page: Any) -> Any:
    """A page that shows its first live picture."""
    page = open_page()
    open_and_choose(page, "Quick")
    page.wait_for_selector(f"{PICTURE}:not(.ipa-draft)")
    rest(page)
    return page


def test_a_draft_is_seen_first_and_what_was_asked_for_stays(
    live_page: Any, engine_at: tuple[str, WatchedEngine]
) -> None:
    page, engine = live_page, engine_at[1]
    page.evaluate(_NOTE)
    before = len(engine.jobs)
    page.fill("#variation-prompt textarea", "a dog")
    rest(page)
    assert [each["isDraft"] for each in page.evaluate("window.shown")] == [True, False]
    draft, whole = (job.plan.request for job in engine.jobs[before:])
    assert (draft.speed, whole.speed) == ("fast", "best")
    assert replace(draft, speed="best") == whole
    for request, shown in zip((draft, whole), page.evaluate("window.shown"), strict=True):
        image = on_white(engine.submit(request, live=True).result().images[0])
        assert shown["src"] in inline_picture(image, alt=Message("page.live_picture"), css_class="ipa-live")
    press(page, "#live-keep")
    page.wait_for_selector(RESULTS)
    assert replace(engine.jobs[-1].plan.request, notes=whole.notes) == whole


def test_after_the_slider_was_dragged_the_picture_is_what_was_asked_for(
    live_page: Any, engine_at: tuple[str, WatchedEngine]
) -> None:
    page, engine = live_page, engine_at[1]
    slider = page.locator("#scale input[type=range]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.evaluate(_NOTE)
    page.mouse.move(box["x"] + box["width"] * 0.9, middle)
    page.mouse.down()
    for number in range(40):
        page.mouse.move(box["x"] + box["width"] * (0.9 - number / 50), middle)
    page.mouse.up()
    rest(page)
    assert [each["isDraft"] for each in page.evaluate("window.shown")][-2:] == [True, False]
    last = engine.jobs[-1].plan.request
    assert (last.speed, last.scale) == ("best", float(page.input_value("#scale input[type=number]")))


@pytest.mark.parametrize("button", ["#variation-generate", "#live-keep"])
def test_what_is_drawn_comes_into_sight_where_the_live_picture_leaves_room_for_the_status_alone(
    live_page: Any, button: str
) -> None:
    page = live_page
    page.set_viewport_size({"width": 1280, "height": 720})
    press(page, "#variation-generate")
    rest(page)
    page.evaluate("scrollBy(0, document.querySelector('#status').getBoundingClientRect().top - 600)")
    press(page, button)
    page.wait_for_function(f"""() => {{
        const {{ top, bottom }} = document.querySelector("{RESULTS}").getBoundingClientRect();
        return top > 0 && (top + bottom) / 2 < innerHeight - 64;
    }}""")


def test_the_benchmark_tells_drafts_from_what_was_asked_for(live_page: Any) -> None:
    visitor = LiveVisitor(live_page)
    with visitor.dragging() as drag:
        seen = visitor.follows("dragged", drag, 2)
    assert 0 < seen.median_s < seen.whole_median_s
