"""The pose in a photo: the download for it is shown, can be stopped and goes on; a photo without people is reported."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipa_app.engine.engine import Engine
from ipa_app.pose.detectors import detectors
from ipa_app.pose.presets import preset_pictures
from tests.browser.hands import marked, rest
from tests.dwpose_files import dwpose_files
from tests.engine.conftest import TIMEOUT_S
from tests.hub_fixtures import cache, point_at  # noqa: F401 - fixtures are found by being here
from tests.hub_server import FakeHub, serving
from tests.pose_files import DWPOSE_REPO, NAMES, REPO, openpose_files, pin_to_the_tests_hub
from tests.ui.serving import served

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:  # noqa: F811
    pin_to_the_tests_hub(monkeypatch)
    with serving(FakeHub({REPO: openpose_files()})) as served_hub:
        point_at(served_hub, monkeypatch)
        yield served_hub


@pytest.fixture
def page_url(hub: FakeHub, tiny_bundle_dir: Path) -> Iterator[str]:
    with served(tiny_bundle_dir) as url:
        yield url


def test_a_download_for_a_photo_is_told_stopped_and_goes_on(
    open_page: Any, shoot: Any, hub: FakeHub, reference_file: Path
) -> None:
    page = open_page()
    page.get_by_role("tab", name="Pose").click()
    page.set_input_files("#pose-image input[type=file]", str(reference_file))
    page.wait_for_selector("#pose-find")
    assert not page.is_visible("#pose-detector")
    page.check("#pose-hands input")
    shoot(page, "photo")
    hub.pause_s = 0.5
    page.click("#pose-find")
    page.get_by_text("of 3 MB, ").wait_for()
    assert "Downloading OpenPose: " in page.inner_text("#status")
    assert page.is_disabled("#pose-generate")
    shoot(page, "downloading")
    page.click("#pose-stop")
    page.get_by_text("Stopped").wait_for()
    assert hub.sent[NAMES[0]] < len(hub.repos[REPO][NAMES[0]])

    hub.pause_s = 0.0
    page.click("#pose-find")
    page.locator("#status .ipa-failed").get_by_text("No person was found").wait_for()
    assert set(hub.sent) == set(NAMES[:2])
    assert hub.sent[NAMES[0]] < 2 * len(hub.repos[REPO][NAMES[0]])
    assert page.is_visible("#pose-image img")
    page.click("#pose-find", trial=True)  # nothing covers it
    shoot(page, "nobody")


@pytest.mark.skipif("dwpose" not in detectors(), reason="needs rtmlib and onnxruntime")
def test_whom_dwpose_finds_is_in_the_editor_with_hands_and_face(
    open_page: Any, shoot: Any, hub: FakeHub, reference_file: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnx", reason="makes the networks")
    dwpose_files(tmp_path)
    hub.repos[DWPOSE_REPO] = {path.name: path.read_bytes() for path in tmp_path.glob("*.onnx")}
    page = open_page()
    page.get_by_role("tab", name="Pose").click()
    page.set_input_files("#pose-image input[type=file]", str(reference_file))
    page.get_by_label("DWPose").check()
    page.check("#pose-hands input")
    page.check("#pose-face input")
    page.click("#pose-find")
    page.locator("#status").get_by_text("2 figures were found").wait_for()
    page.wait_for_selector("#skeleton svg", state="visible")
    assert page.locator("#skeleton .ipa-skel-details circle").count() > 100
    assert page.locator("#pose-image img").count() == 0
    shoot(page)


def test_a_picture_that_is_chosen_while_another_is_searched_stays(
    open_page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_chosen, find = threading.Event(), Engine.find_pose

    def slow(*args: Any, **kwargs: Any) -> Any:
        assert is_chosen.wait(TIMEOUT_S)
        return find(*args, **kwargs)

    monkeypatch.setattr(Engine, "find_pose", slow)
    first, second, *_ = preset_pictures().values()
    page = open_page()
    page.get_by_role("tab", name="Pose").click()
    page.set_input_files("#pose-image input[type=file]", str(first))
    page.click("#pose-find")
    page.wait_for_selector("#status .ipa-busy")
    page.click("#pose-image button[aria-label='Remove Image']")
    page.set_input_files("#pose-image input[type=file]", str(second))
    page.wait_for_selector(f"#pose-image img[src*='{second.name}']")
    is_chosen.set()
    page.wait_for_selector("#status .ipa-done")
    rest(page)
    assert page.locator(f"#pose-image img[src*='{second.name}']").count() == 1
    # A photo goes once its pose has been found.
    page.click("#pose-find")
    page.wait_for_selector("#pose-image img", state="detached")


def test_a_preset_is_marked_for_as_long_as_it_is_the_pose(open_page: Any) -> None:
    page, presets = open_page(), "#pose-presets"
    page.get_by_role("tab", name="Pose").click()
    nose = page.locator('#skeleton [aria-label="nose"]')
    for place in (2, 1):
        page.locator(f"{presets} .grid-wrap button").nth(place).click()
        rest(page)
        assert marked(page, presets) == [place]
    nose.focus()
    page.keyboard.press("ArrowUp")
    rest(page)
    assert marked(page, presets) == []
    page.locator(f"{presets} .grid-wrap button").nth(1).click()
    rest(page)
    assert marked(page, presets) == [1]
    page.set_input_files("#pose-image input[type=file]", str(next(iter(preset_pictures().values()))))
    page.wait_for_selector("#pose-image img")
    rest(page)
    assert marked(page, presets) == []
