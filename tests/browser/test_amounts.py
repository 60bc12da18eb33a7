"""How much of the picture counts, as a visitor sets it: in one choice, slider by slider, and for each picture alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ipa_app.engine.metadata import read_request
from ipa_app.engine.requests import GenerateRequest
from tests.browser.hands import drawn, enter, expect_values, rest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

IS_CHOSEN = """name =>
    (document.querySelector('#amount input:checked')?.closest('label').innerText.trim() ?? null) === name"""


@pytest.fixture
def request_of(tmp_path: Path) -> Any:
    def read(data: bytes) -> GenerateRequest:
        (tmp_path / "made.png").write_bytes(data)
        return read_request(tmp_path / "made.png")

    return read


def point(page: Any, name: str) -> Any:
    return page.locator("#amount").get_by_label(name)


def is_at(page: Any, name: str | None) -> None:
    """Wait until the named point is chosen, or none is."""
    page.wait_for_function(IS_CHOSEN, arg=name)


def test_a_point_moves_the_sliders_and_they_the_point(open_page: Any, shoot: Any, request_of: Any) -> None:
    page = open_page()
    page.click("#when-panel > button")
    is_at(page, "Usual")
    expect_values(page, scale="1", start="0", end="1")
    point(page, "A hint").check()
    expect_values(page, scale="0.5", start="0.2", end="1")
    shoot(page)
    enter(page, "scale", "0.7")
    is_at(page, None)
    expect_values(page, start="0.2", end="1")
    enter(page, "scale", "0.5")
    is_at(page, "A hint")
    enter(page, "end", "0.6")
    is_at(page, None)
    page.fill("#count input[type=number]", "1")
    request = request_of(drawn(page, "#variation-generate"))
    assert (request.scale, request.start, request.end) == (0.5, 0.2, 0.6)


def test_a_point_counts_with_its_sliders_out_of_sight_and_by_keyboard(open_page: Any, request_of: Any) -> None:
    page = open_page()
    page.fill("#count input[type=number]", "1")
    point(page, "Usual").focus()
    page.keyboard.press("ArrowLeft")
    is_at(page, "A hint")
    request = request_of(drawn(page, "#variation-generate"))
    assert (request.scale, request.start, request.end) == (0.5, 0.2, 1.0)
    point(page, "A hint").focus()
    page.keyboard.press("ArrowRight")
    is_at(page, "Usual")
    page.keyboard.press("ArrowRight")
    is_at(page, "Strong")
    request = request_of(drawn(page, "#variation-generate"))
    assert (request.scale, request.start, request.end) == (1.2, 0.0, 1.0)


def test_points_that_follow_one_another_at_once_end_at_the_last(open_page: Any) -> None:
    page = open_page()
    page.click("#when-panel > button")
    for keys, name, values in (
        (("ArrowLeft", "ArrowRight", "ArrowRight", "ArrowRight"), "Copy", {"scale": "1.4", "start": "0"}),
        (("ArrowLeft", "ArrowLeft", "ArrowLeft"), "A hint", {"scale": "0.5", "start": "0.2"}),
    ):
        page.locator("#amount input:checked").focus()
        for key in keys:
            page.keyboard.press(key)
        rest(page)
        is_at(page, name)
        expect_values(page, **values)
    enter(page, "scale", "0.7")
    is_at(page, None)


def test_a_strength_that_is_set_as_soon_as_a_tab_opens_stays_however_slow_the_server_is(open_page: Any) -> None:
    page = open_page()
    rest(page)
    held: list[Any] = []
    is_slow = True
    page.route("**/gradio_api/run/**", lambda call: held.append(call) if is_slow else call.continue_())
    page.click("#tab-mix-button")
    expect_values(page, scale="0.6")
    page.fill("#scale input[type=number]", "0.7")
    page.locator("#scale input[type=number]").blur()
    page.click("#tab-pose-button")
    page.wait_for_selector("#pose-generate")
    is_slow = False
    for call in held:
        call.continue_()
    rest(page)
    expect_values(page, scale="0.7")


def test_a_point_is_another_with_words_than_without(open_page: Any) -> None:
    page = open_page()
    page.click("#when-panel > button")
    point(page, "A hint").check()
    expect_values(page, scale="0.5", start="0.2")
    page.click("#tab-mix-button")
    page.wait_for_selector("#mix-generate")
    is_at(page, None)
    point(page, "A hint").check()
    expect_values(page, scale="0.4", start="0.2", end="1")
    point(page, "Usual").check()
    expect_values(page, scale="0.6", start="0", end="1")
    page.click("#tab-variation-button")
    expect_values(page, scale="1")
    is_at(page, "Usual")


def test_each_reference_keeps_a_range_of_its_own(
    open_page: Any, shoot: Any, reference_file: Path, request_of: Any
) -> None:
    page = open_page()
    page.click("#add-reference")
    page.set_input_files("#reference-2 input[type=file]", str(reference_file))
    page.wait_for_selector("#reference-2 img")
    page.click("#seen-panel-2 > button")
    enter(page, "start-2", "0.25")
    enter(page, "end-2", "0.75")
    point(page, "A hint").check()
    rest(page)
    shoot(page)
    expect_values(page, start_2="0.25", end_2="0.75")
    page.fill("#count input[type=number]", "1")
    request = request_of(drawn(page, "#variation-generate"))
    assert (request.scale, request.start, request.end) == (0.5, 0.2, 1.0)
    assert [(each.start, each.end) for each in request.references] == [(0.0, 1.0), (0.25, 0.75)]
