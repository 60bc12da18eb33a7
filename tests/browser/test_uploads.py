"""Pictures and masks as people have them, and how the page shows them and what it says."""

from __future__ import annotations

import io
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ipa_app.ui import controls
from ipa_app.ui.pictures import show_anywhere
from tests.browser.hands import EDITOR, PATIENCE_MS, RESULTS, body, load, press, rest
from tests.picture_files import COLOURS, encoded, in_p3, p3_profile, patches

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SIZE = (288, 192)
HOLE = (20, 30, 110, 120)


def in_stripes(colours: np.ndarray) -> Image.Image:
    return patches(colours, side=48).resize(SIZE, Image.Resampling.NEAREST)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photo in Display P3 whose stripes are `COLOURS` in sRGB."""
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(in_stripes(in_p3()), icc_profile=p3_profile()))
    return path


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """A copy of the photo with a transparent hole."""
    copy, alpha = in_stripes(in_p3()), Image.new("L", SIZE, 255)
    ImageDraw.Draw(alpha).rectangle(HOLE, fill=0)
    copy.putalpha(alpha)
    path = tmp_path / "mask.png"
    path.write_bytes(encoded(copy, icc_profile=p3_profile()))
    return path


def choose_mask(page: Any, path: Path) -> None:
    if not page.is_visible("#inpaint-mask"):
        page.get_by_text("A mask from a file, added to what you paint").click()
    page.set_input_files("#inpaint-mask input[type=file]", str(path))


def picture_at(page: Any, selector: str) -> np.ndarray:
    page.wait_for_selector(selector)
    return np.asarray(Image.open(io.BytesIO(body(page, selector))).convert("RGB")).astype(int)


def test_a_wide_gamut_photo_and_a_mask_with_a_hole(open_page: Any, shoot: Any, photo: Path, mask: Path) -> None:
    page = open_page()
    load(page, photo)
    choose_mask(page, mask)
    shown = picture_at(page, "#mask-shown img")
    seen = np.asarray(in_stripes(COLOURS)).astype(int)
    tinted = np.abs(shown - seen).max(axis=2) > 40
    assert page.inner_text("#mask-notes") == "What is transparent in the mask is redrawn."
    assert tinted[50:100, 40:90].mean() > 0.95
    assert tinted[:, 140:].mean() < 0.05
    shoot(page, "understood")
    page.fill("#count input[type=number]", "1")
    press(page, "#inpaint-generate")
    assert "What is transparent in the mask is redrawn." in page.inner_text("#status")
    unlike = np.abs(picture_at(page, RESULTS) - seen).max(axis=2)
    inside = np.zeros(unlike.shape, bool)
    inside[HOLE[1] : HOLE[3] + 1, HOLE[0] : HOLE[2] + 1] = True
    assert unlike[~inside].max() <= 2
    assert (unlike[inside] > 2).mean() > 0.5
    shoot(page, "done")


def test_a_mask_that_is_not_understood_is_asked_about_and_goes(
    open_page: Any, shoot: Any, photo: Path, tmp_path: Path
) -> None:
    page = open_page(width=390, height=844)
    load(page, photo)
    Image.new("L", (100, 100), 255).save(tmp_path / "square.png")
    choose_mask(page, tmp_path / "square.png")
    page.wait_for_selector("#mask-notes .ipa-note")
    assert "The mask is 100 x 100 pixels and the picture 288 x 192" in page.inner_text("#mask-notes")
    assert not page.is_visible("#mask-shown")
    shoot(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.click("#inpaint-mask button[aria-label='Remove Image']")
    page.wait_for_selector("#mask-view", state="hidden")


def test_a_picture_of_one_colour_can_be_painted_on(open_page: Any, shoot: Any, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), (60, 90, 200)).save(tmp_path / "blue.png")
    page = open_page()
    load(page, tmp_path / "blue.png")
    box = page.locator(EDITOR).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 10, y)
    page.mouse.down()
    page.mouse.move(x + 10, y, steps=4)
    page.mouse.up()
    page.click("#edges-panel > button")
    page.click("#mask-show")
    shown = picture_at(page, "#mask-shown img")
    pink = shown[..., 0] - 60 > 40
    assert pink[95:105, 145:155].all()
    assert pink.mean() < 0.2
    shoot(page)


def test_a_heic_photo_is_seen_in_its_box(open_page: Any, shoot: Any, tmp_path: Path) -> None:
    (tmp_path / "photo.heic").write_bytes(encoded(in_stripes(in_p3()), "HEIF", icc_profile=p3_profile(), quality=95))
    page = open_page()
    page.click("#reference button[aria-label='Remove Image']")
    page.set_input_files("#reference input[type=file]", str(tmp_path / "photo.heic"))
    page.wait_for_function("document.querySelector('#reference img')?.naturalWidth === 288")
    assert np.abs(picture_at(page, "#reference img")[96, 24::48] - COLOURS).max() <= 6
    page.wait_for_selector("#seen-1 .ipa-seen-square")
    shoot(page)


@pytest.mark.parametrize("chosen", [True, False], ids=["another", "none"])
def test_what_is_chosen_while_a_photo_is_exchanged_stays(
    open_page: Any, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: bool
) -> None:
    (tmp_path / "slow.heic").write_bytes(encoded(in_stripes(in_p3()), "HEIF", icc_profile=p3_profile(), quality=95))
    chosen_meanwhile, remove = Event(), "#reference button[aria-label='Remove Image']"

    def slow(upload: Any) -> Any:
        if "slow" in upload["path"]:
            chosen_meanwhile.wait(PATIENCE_MS / 1000)
        return show_anywhere(upload)

    monkeypatch.setattr(controls, "show_anywhere", slow)
    page = open_page()
    page.click(remove)
    page.set_input_files("#reference input[type=file]", str(tmp_path / "slow.heic"))
    page.click(remove)
    if chosen:
        page.set_input_files("#reference input[type=file]", str(photo))
        page.wait_for_selector(f"#reference img[src*='{photo.name}']")
    chosen_meanwhile.set()
    rest(page)
    assert page.locator("#reference img").count() == chosen
    assert page.locator(f"#reference img[src*='{photo.name}']").count() == chosen


def test_a_transparent_picture_says_what_becomes_of_it(open_page: Any, shoot: Any, tmp_path: Path) -> None:
    sticker = in_stripes(COLOURS)
    sticker.putalpha(Image.linear_gradient("L").resize(SIZE))
    sticker.save(tmp_path / "sticker.png")
    page = open_page(locale="zh-CN")
    load(page, tmp_path / "sticker.png")
    page.wait_for_selector("#inpaint-note .ipa-note")
    assert page.inner_text("#inpaint-note") == "这张图有透明的地方，模型看到的是白色，结果里仍然透明。"
    shoot(page)


@pytest.mark.parametrize("button", ["#reference .source-selection button >> nth=0", ".ipa-choose"])
def test_the_picture_that_is_there_stays_until_another_is_chosen(open_page: Any, photo: Path, button: str) -> None:
    page = open_page()
    there = page.get_attribute("#reference img", "src")
    with page.expect_file_chooser() as chooser:
        page.click(button)
    assert page.get_attribute("#reference img", "src") == there
    chooser.value.set_files(str(photo))
    page.wait_for_selector("#reference img[src*='photo']")


def test_a_picture_is_pasted_and_without_one_in_the_clipboard_nothing_is_lost(open_page: Any) -> None:
    page = open_page()
    there = page.get_attribute("#reference img", "src")
    paste = "#reference .source-selection button >> nth=1"
    page.click(paste)  # the browser has not been asked for the clipboard yet, and refuses it
    page.get_by_text("There is no picture in the clipboard").wait_for()
    assert page.get_attribute("#reference img", "src") == there
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("""async () => {
        const picture = await (await fetch(document.querySelector("#reference img").src)).blob();
        await navigator.clipboard.write([new ClipboardItem({ "image/png": picture })]);
    }""")
    page.click(paste)
    page.wait_for_selector("#reference img[src*='pasted.png']")
