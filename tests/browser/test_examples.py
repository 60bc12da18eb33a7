"""The examples of a tab: pressing one fills the form, and its picture takes the first reference's place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ipa_app.ui.examples import Example
from tests.browser.hands import body, expect_values, marked, rest
from tests.ui.serving import served

pytestmark = [pytest.mark.browser, pytest.mark.slow]

EXAMPLES = "#mix-examples"
RED, BLUE = f"{EXAMPLES} button >> nth=0", f"{EXAMPLES} button >> nth=1"


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two pictures of one colour each."""
    folder = tmp_path_factory.mktemp("examples")
    for colour in ("red", "blue"):
        Image.new("RGB", (80, 60), colour).save(folder / f"{colour}.png")
    return [folder / "red.png", folder / "blue.png"]


@pytest.fixture(scope="module")
def page_url(tiny_bundle_dir: Path, colours: list[Path]) -> Iterator[str]:
    """The page with two examples on the second tab."""
    examples = [
        Example(tab="mix", file=file, prompt=f"a {file.stem} cat", scale=scale)
        for file, scale in zip(colours, (0.4, 0.8), strict=True)
    ]
    with served(tiny_bundle_dir, examples=examples) as url:
        yield url


def shown(page: Any, selector: str) -> bytes:
    page.wait_for_selector(f"{selector} img")
    rest(page)
    return body(page, f"{selector} img")


def test_the_reference_that_an_example_took_the_place_of_comes_back(
    open_page: Any, colours: list[Path], reference_file: Path
) -> None:
    page = open_page()
    page.set_input_files("#reference input[type=file]", str(reference_file))
    page.click("#add-reference")
    page.set_input_files("#reference-2 input[type=file]", str(reference_file))
    own = shown(page, "#reference-2")
    page.click("#tab-mix-button")
    for button, file, words, scale in ((RED, colours[0], "a red cat", "0.4"), (BLUE, colours[1], "a blue cat", "0.8")):
        page.click(button)
        rest(page)
        assert shown(page, "#reference") == file.read_bytes()
        assert page.input_value("#mix-prompt textarea") == words
        expect_values(page, scale=scale)
    for expected, is_left in ((colours[0].read_bytes(), True), (own, False)):
        page.click("#undo-references")
        rest(page)
        assert shown(page, "#reference") == expected
        assert shown(page, "#reference-2") == own, "the second one was never touched"
        assert page.is_visible("#undo-references") == is_left


def test_where_there_was_no_reference_an_example_leaves_nothing_to_undo(open_page: Any, colours: list[Path]) -> None:
    page = open_page()
    page.click("#tab-mix-button")
    for _ in range(2):
        page.click(RED)
        assert shown(page, "#reference") == colours[0].read_bytes()
        assert not page.is_visible("#undo-references")


def test_an_example_is_marked_for_as_long_as_its_picture_is_the_reference(
    open_page: Any, shoot: Any, reference_file: Path
) -> None:
    page = open_page()
    page.click("#tab-mix-button")
    for place, button in ((0, RED), (1, BLUE), (0, RED)):
        page.click(button)
        rest(page)
        assert marked(page, EXAMPLES) == [place]
    shoot(page)
    page.click("#undo-references")
    rest(page)
    assert marked(page, EXAMPLES) == []
    page.click(RED)
    rest(page)
    page.fill("#mix-prompt textarea", "a cat on the beach")
    rest(page)
    assert marked(page, EXAMPLES) == [0], "it is about the picture"
    page.set_input_files("#reference input[type=file]", str(reference_file))
    page.wait_for_function("!document.querySelector('#reference img')?.src.includes('red')")
    rest(page)
    assert marked(page, EXAMPLES) == []
    page.click(BLUE)
    rest(page)
    assert marked(page, EXAMPLES) == [1]
    page.click("#reference button[aria-label='Remove Image']")
    rest(page)
    assert marked(page, EXAMPLES) == []
