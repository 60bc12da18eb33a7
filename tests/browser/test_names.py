"""Names on the page in either language: those people give, and those of pictures in galleries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.styles import Style
from ipa_app.ui.examples import read_examples
from tests.adapter_files import write_adapter
from tests.browser.hands import press, rest
from tests.browser.test_language import CHINESE, choose
from tests.engine.test_keeping import opened
from tests.sample_requests import STYLES
from tests.tiny_models import random_adapter_tensors, tiny_unet
from tests.ui.serving import served

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def page_of_names(tiny_bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page with a style, a model and a picture whose names are also words of the page."""
    own = {"Strong": Style(name="Strong", prompt="{prompt}, in thick lines")}
    entry = replace(entry_from_folder(tiny_bundle_dir, name="other"), styles={**STYLES, **own})
    third = replace(entry, name="third", title="Strong")
    with opened(tmp_path_factory.mktemp("library")) as (keeper, library):
        settings = {"output_format": "png", "seed": 1, "prompt": "Strong", "task": "mix", "model": "toybox"}
        library.pictures.save(Image.new("RGB", (64, 64)), name="mix-1", made=1e9, settings=settings, inputs={})
        with served(tiny_bundle_dir, others=[entry, third], keeper=keeper) as url:
            yield url


class TestNamesThatPeopleGive:
    """They are not translated, even when the page uses the same words."""

    @pytest.fixture
    def page_url(self, page_of_names: str) -> str:
        return page_of_names

    def test_of_a_set_a_style_and_a_picture(self, open_page: Any, reference_file: Path) -> None:
        shown = "field => Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').get.call(field)"
        page = open_page(locale="zh-CN")
        page.set_input_files("#reference input[type=file]", str(reference_file))
        page.click("#sets-panel > button")
        page.locator("#sets-name :is(input, textarea)").fill("Strong")
        page.click("#sets-save")
        saved = page.locator("#sets-saved input")
        page.wait_for_function("document.querySelector('#sets-note').innerText.includes('Strong')")
        rest(page)
        assert saved.evaluate(shown) == "Strong"
        saved.click()
        assert page.get_by_role("option", name="Strong").count() == 1
        assert CHINESE.search(page.inner_text("#sets-saved"))
        page.keyboard.press("Escape")
        page.click("#more-settings > button")
        page.click("#model input")
        page.get_by_role("option", name="Tiny").last.click()
        page.locator("#variation-style input").click()
        page.get_by_role("option", name="夜晚").wait_for()
        page.get_by_role("option", name="Strong").click()
        rest(page)
        assert page.locator("#variation-style input").evaluate(shown) == "Strong"
        page.click("#tab-library-button")
        assert page.locator(".ipa-library .ipa-open").get_attribute("title") == "Strong"

    def test_of_an_adapter_and_a_model(self, open_page: Any, reference_file: Path, tmp_path: Path, shoot: Any) -> None:
        adapter = random_adapter_tensors(tiny_unet(), kind="full", seed=8)
        file = write_adapter(tmp_path / "Strong.safetensors", adapter)
        page = open_page(locale="zh-CN")
        page.set_input_files("#reference input[type=file]", str(reference_file))
        page.click("#more-settings > button")
        page.click("#model input")
        page.get_by_role("option", name="Strong").click()
        rest(page)
        page.click("#adapter-file-panel > button")
        page.set_input_files("#adapter-file input[type=file]", str(file))
        page.wait_for_function("document.querySelector('#adapter-note').innerText.includes('Strong')")
        rest(page)
        *ours, own = page.locator("#adapter label").all_inner_texts()
        assert (own.strip(), [bool(CHINESE.search(each)) for each in ours]) == ("Strong", [True, True])
        page.locator("#compared-adapters").get_by_label("Strong").check()
        press(page, "#variation-both-adapters")
        rest(page)
        shoot(page)
        captions = [each.strip() for each in page.locator("#results .caption-label").all_inner_texts()]
        assert captions == ["基础", "精细", "Strong"]
        page.click("#tab-library-button")
        page.click("#library-filters > button")
        rest(page)
        for what in ("model", "adapter"):
            everything, *offered = page.locator(f"#library-{what} label").all_inner_texts()
            assert CHINESE.search(everything)
            assert "Strong" in [each.strip() for each in offered]


@pytest.fixture(scope="module")
def page_of_pictures(tiny_bundle_dir: Path) -> Iterator[str]:
    """The page with the examples that ship with the app."""
    shipped = read_examples(Path(__file__).parents[2] / "assets" / "examples")
    with served(tiny_bundle_dir, examples=shipped) as url:
        yield url


class TestPicturesOfGalleries:
    """Screen readers hear what a picture shows, or its caption, not only its number."""

    @pytest.fixture
    def page_url(self, page_of_pictures: str) -> str:
        return page_of_pictures

    def test_they_are_called_by_what_they_show_in_either_language(self, open_page: Any) -> None:
        page = open_page()

        def called(gallery: str) -> list[str]:
            page.wait_for_selector(f"{gallery} .thumbnail-item")
            rest(page)
            names = "pictures => pictures.map(each => each.getAttribute('aria-label'))"
            return page.locator(f"{gallery} .thumbnail-item").evaluate_all(names)

        page.fill("#count input[type=number]", "2")
        press(page, "#variation-generate")
        for code, mouse, seed, pose in (
            ("en", "A blue mouse in a yellow hat, running on the beach", "seed ", "arms out"),
            ("zh", "戴黄帽子的蓝色老鼠在海滩上奔跑", "种子 ", "张开双臂"),
            ("en", "A blue mouse in a yellow hat, running on the beach", "seed ", "arms out"),
        ):
            choose(page, code)
            page.click("#tab-pose-button")
            assert called("#pose-presets")[0] == pose
            page.click("#tab-variation-button")
            examples = called("#variation-examples")
            assert (examples[0], len(set(examples))) == (mouse, 4)
            results = called("#results")
            assert len(results) == 2
            assert all(each.startswith(seed) for each in results)
