"""A model that must be downloaded, from choosing it to drawing with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipa_app.models.entry import ModelEntry
from tests.browser.hands import rest
from tests.hub_fixtures import cache, point_at, real_entry, real_files  # noqa: F401 - fixtures are found by being here
from tests.hub_server import FakeHub, serving
from tests.ui.serving import served

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def hub(cache: Path, tiny_bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:  # noqa: F811
    with serving(FakeHub({"maker/real": real_files(tiny_bundle_dir)})) as served_hub:
        point_at(served_hub, monkeypatch)
        yield served_hub


@pytest.fixture
def page_url(hub: FakeHub, real_entry: ModelEntry, tiny_bundle_dir: Path) -> Iterator[str]:  # noqa: F811
    with served(tiny_bundle_dir, others=[real_entry]) as url:
        yield url


def choose(page: Any, title: str) -> None:
    page.click("#model input")
    page.get_by_role("option", name=title).click()


def open_and_choose(page: Any, title: str) -> None:
    """Open the settings, wait until they are idle, since opening resets what is in them, and then choose a model."""
    page.click("#more-settings > button")
    rest(page)
    choose(page, title)


def chosen(page: Any) -> str:
    return page.input_value("#model input")


def test_a_model_is_offered_fails_is_downloaded_and_draws(open_page: Any, shoot: Any, hub: FakeHub) -> None:
    page = open_page()
    open_and_choose(page, "Real")
    page.wait_for_selector("#offer-download")
    assert "Real is not on this computer yet" in page.inner_text("#offer-text")
    assert "Apache-2.0" in page.inner_text("#offer-text")
    page.wait_for_function("document.querySelector('#model input').value === 'Tiny'")
    shoot(page, "offered")
    assert hub.asked == []

    hub.refusals["maker/real"] = (503, "")
    page.click("#offer-download")
    page.wait_for_selector("#offer-text .ipa-failed")
    assert "please try again later" in page.inner_text("#offer-text")
    assert chosen(page) == "Tiny"
    shoot(page, "failed")

    hub.refusals.clear()
    hub.pause_s = 0.5
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector("#offer-text .ipa-busy")
    page.get_by_role("button", name="Cancel").wait_for()
    shoot(page, "busy")
    hub.pause_s = 0.0
    page.wait_for_function("document.querySelector('#model input').value === 'Real'")
    page.wait_for_selector("#offer-text", state="hidden")
    page.get_by_role("tab", name="Text + image").click()
    page.fill("#mix-prompt textarea", "a cat")
    page.fill("#count input[type=number]", "1")
    page.click("#mix-generate")
    page.wait_for_selector("#results .grid-wrap img")
