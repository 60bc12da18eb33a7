"""A visitor drops an adapter file on the page and draws with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ipa_app.imaging.result_files import read_settings
from ipa_app.models.hashing import file_hash
from tests.adapter_files import published_shapes, write_adapter, write_shapes
from tests.browser.hands import RESULTS, body, press, rest
from tests.tiny_models import random_adapter_tensors, tiny_unet

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def add(page: Any, file: Path) -> str:
    """Drop a file, and return what the page says about it."""
    if not page.is_visible("#adapter-file"):
        page.click("#adapter-file-panel > button")
        page.wait_for_selector("#adapter-file", state="visible")
    page.evaluate("document.querySelector('#adapter-note .ipa-note')?.setAttribute('data-before', '')")
    page.set_input_files("#adapter-file input[type=file]", str(file))
    page.wait_for_selector("#adapter-note .ipa-note:not([data-before])")
    return page.inner_text("#adapter-note")


def chosen(page: Any) -> str:
    return page.locator("#adapter label:has(input:checked)").inner_text().strip()


def test_a_dropped_adapter_is_chosen_and_drawn_with(open_page: Any, shoot: Any, tmp_path: Path) -> None:
    tensors = random_adapter_tensors(tiny_unet(), kind="full", seed=8)
    file = write_adapter(tmp_path / "my toys.safetensors", tensors)
    page = open_page()
    page.fill("#count input[type=number]", "1")
    assert add(page, file) == "my-toys has been added and chosen."
    page.wait_for_function("document.querySelector('#adapter label:has(input:checked)').innerText.includes('my-toys')")
    shoot(page, "added")
    press(page, "#variation-generate")
    (tmp_path / "drawn.png").write_bytes(body(page, RESULTS))
    noted = read_settings(tmp_path / "drawn.png") or {}
    assert (noted["adapter"], noted["adapter_sha256"]) == ("my-toys", file_hash(file))

    page.locator("#compared-adapters").get_by_label("my-toys").check()
    press(page, "#variation-both-adapters")
    captions = [text.strip() for text in page.locator("#results .caption-label").all_inner_texts()]
    assert captions == ["Base", "Fine-grained", "my-toys"]
    shoot(page, "compared")
    page.locator("#compared-adapters").get_by_label("Fine-grained").uncheck()
    press(page, "#variation-both-adapters")
    page.wait_for_selector("#compared img")
    assert "right of it: my-toys" in page.inner_text("#status")

    stranger = open_page()
    stranger.wait_for_selector("#model-state .ipa-ready")
    assert stranger.locator("#adapter label").all_inner_texts() == ["Base — overall look", "Fine-grained — more detail"]


def test_what_does_not_fit_is_said_and_the_choice_stays(open_page: Any, shoot: Any, tmp_path: Path) -> None:
    page = open_page(locale="zh-CN")
    page.wait_for_function("document.querySelector('#variation-generate').textContent.includes('生成')")
    page.get_by_label("精细 — 更多细节").check()
    file = write_shapes(tmp_path / "sd15.safetensors", published_shapes("ip-adapter_sd15"))
    add(page, file)
    page.wait_for_function("document.querySelector('#adapter-note').innerText.includes('而这个基础模型是')")
    assert chosen(page) == "精细 — 更多细节"
    shoot(page)


def test_what_is_chosen_before_the_page_has_its_answer_stays(open_page: Any) -> None:
    held: list[Any] = []
    is_held = True

    def hold(route: Any) -> None:
        held.append(route) if is_held else route.continue_()

    page = open_page(prepare=lambda page: page.route("**/gradio_api/run/**", hold))
    while not held:  # on opening, the page requests the list of adapters
        page.evaluate("new Promise(requestAnimationFrame)")
    page.get_by_label("Fine-grained — more detail").check()
    is_held = False
    for route in held:
        route.continue_()
    rest(page)
    assert chosen(page) == "Fine-grained — more detail"
