"""Which part of a picture counts, and where: chosen in the browser, and restored from the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipa_app.models.catalog import entry_from_folder
from ipa_app.ui.examples import Example
from tests.browser.hands import drawn, restored
from tests.tiny_models import SDXL_BLOCKS
from tests.tiny_sdxl import tiny_sdxl_bundle
from tests.ui.serving import served

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def page_url(tiny_bundle_dir: Path, reference_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page with a second model, which has presets."""
    folder = tiny_sdxl_bundle(tmp_path_factory.mktemp("models") / "xl", blocks=SDXL_BLOCKS)
    with served(
        tiny_bundle_dir,
        examples=[Example(tab="variation", file=reference_file)],
        others=[entry_from_folder(folder, name="xl")],
    ) as url:
        yield url


def choose_model(page: Any, title: str) -> None:
    page.click("#model input")
    page.get_by_role("option", name=title, exact=True).click()


def checked(page: Any, radio: str) -> str:
    return page.locator(f"#{radio} input:checked").get_attribute("value")


def test_style_and_place_are_chosen_and_come_back_from_the_file(open_page: Any, shoot: Any) -> None:
    page = open_page()
    page.click("#more-settings > button")
    page.wait_for_selector("#model input")
    assert not page.is_visible("#part")
    choose_model(page, "Tiny XL")
    page.wait_for_selector("#part")
    page.get_by_label("Only its style").check()
    page.click("#seen-panel-1 > button")
    page.locator("#region-1").get_by_label("Left half").check()
    page.fill("#count input[type=number]", "1")
    made = drawn(page, "#variation-generate")
    shoot(page, "made")

    fresh = restored(open_page, made)
    fresh.wait_for_selector("#part")
    fresh.wait_for_function("document.querySelector('#part input:checked').value === 'style'")
    # Its accordion is open, so the choice is in view.
    fresh.wait_for_selector("#region-1")
    assert checked(fresh, "region-1") == "left"
    shoot(fresh, "restored")
    assert drawn(fresh, "#variation-generate") == made

    fresh.click("#more-settings > button")
    choose_model(fresh, "Tiny")
    fresh.wait_for_selector("#part", state="hidden")
    assert drawn(fresh, "#variation-generate") != made
    choose_model(fresh, "Tiny XL")
    fresh.wait_for_selector("#part")
    assert checked(fresh, "part") == "all"
