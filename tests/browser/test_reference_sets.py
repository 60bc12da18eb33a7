"""Sets of pictures as a visitor uses them: kept under a name, handed on as a file, deleted."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from PIL import Image

from ipa_app.engine.metadata import read_request
from ipa_app.engine.reference_sets import ReferenceSet
from ipa_app.library.sets import NamedFiles
from tests.browser.hands import PATIENCE_MS, drawn, enter, expect_values, open_accordions, rest
from tests.browser.test_accessibility import violations
from tests.engine.conftest import noise_picture
from tests.engine.test_keeping import opened
from tests.ui.serving import served

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NAME = "#sets-name :is(input, textarea)"
CHOICE = "#sets-saved input"
NOTHING_TOLD = "!document.querySelector('#sets-note').innerText.trim()"
DAMAGED = "This file is not a set of pictures, or it is damaged: please use another copy of it."
SECOND = {"weight_2": "0.5", "start_2": "0.25", "end_2": "0.75", "across_2": "0.2"}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("library")


@pytest.fixture(scope="module")
def page_url(tiny_bundle_dir: Path, library: Path) -> Iterator[str]:
    with opened(library) as (keeper, _), served(tiny_bundle_dir, keeper=keeper) as url:
        yield url


@pytest.fixture(scope="module")
def without_library(tiny_bundle_dir: Path) -> Iterator[str]:
    with served(tiny_bundle_dir) as url:
        yield url


def put(page: Any, number: int) -> None:
    """Put a picture into a reference box."""
    data = io.BytesIO()
    noise_picture(number).save(data, "PNG")
    box = "#reference" if number == 1 else f"#reference-{number}"
    file = {"name": f"{number}.png", "mimeType": "image/png", "buffer": data.getvalue()}
    page.set_input_files(f"{box} input[type=file]", file)
    page.wait_for_selector(f"{box} img")


def set_out(page: Any) -> None:
    """Put in two pictures with different settings."""
    put(page, 1)
    page.click("#add-reference")
    put(page, 2)
    open_accordions(page)
    page.locator("#region-1").get_by_label("Left half").check()
    page.locator("#region-2").get_by_label("Right half").check()
    for box, number in SECOND.items():
        enter(page, box.replace("_", "-"), number)
    enter(page, "weight-1", "1.5")


def is_set_out(page: Any) -> None:
    """Wait until the page is as `set_out` leaves it."""
    for box in ("#reference", "#reference-2"):
        page.wait_for_selector(f"{box} img")
    expect_values(page, **SECOND, weight_1="1.5")
    assert page.locator("#region-1").get_by_label("Left half").is_checked()
    assert page.locator("#region-2").get_by_label("Right half").is_checked()


def unfold(page: Any) -> None:
    if not page.is_visible("#sets-save"):
        page.click("#sets-panel > button")
        page.wait_for_selector("#sets-save")
        rest(page)


def save(page: Any, name: str) -> None:
    unfold(page)
    page.fill(NAME, name)
    page.click("#sets-save")
    page.wait_for_function("name => document.querySelector('#sets-note').innerText === `Saved as ${name}.`", arg=name)


def choose(page: Any, name: str) -> None:
    unfold(page)
    page.click(CHOICE)
    page.get_by_role("option", name=name, exact=True).click()


def offered(page: Any) -> list[str]:
    unfold(page)
    page.click(CHOICE)
    rest(page)
    names = [each.get_attribute("aria-label") for each in page.get_by_role("option").all()]
    page.keyboard.press("Escape")
    return names


def told(page: Any, sentence: str) -> None:
    page.wait_for_function("said => document.querySelector('#sets-note').innerText === said", arg=sentence)


def refused(page: Any, sentence: str) -> None:
    page.wait_for_selector(".toast-body.error")
    assert sentence in page.inner_text(".toast-body.error")


def upload(page: Any, file: Any) -> None:
    unfold(page)
    with page.expect_file_chooser() as chooser:
        page.click("#sets-open")
    chooser.value.set_files(file)


def hand_on(page: Any, target: Path) -> Path:
    with page.expect_download() as download:
        page.click("#sets-file")
    assert download.value.suggested_filename == "references.json"
    download.value.save_as(target)
    return target


def references_drawn(page: Any, folder: Path) -> list[tuple[Any, ...]]:
    """Draw, and return the references recorded in the file."""
    page.fill("#count input[type=number]", "1")
    (folder / "made.png").write_bytes(drawn(page, "#variation-generate"))
    references = read_request(folder / "made.png").references
    said = ("view", "centre_x", "centre_y", "weight", "region", "start", "end")
    return [(each.image.tobytes(), *(getattr(each, name) for name in said)) for each in references]


def test_a_set_comes_back_with_all_that_was_said_of_it(open_page: Any, shoot: Any, tmp_path: Path) -> None:
    page = open_page()
    set_out(page)
    before = references_drawn(page, tmp_path)
    assert [each[4:] for each in before] == [(1.5, "left", 0.0, 1.0), (0.5, "right", 0.25, 0.75)]
    save(page, "My toys")
    shoot(page, "saved")
    for box in ("#reference", "#reference-2"):
        page.click(f"{box} button[aria-label='Remove Image']")
        page.wait_for_selector(f"{box} img", state="detached")
    for box, number in {"weight-1": "1", "weight-2": "1", "start-2": "0", "end-2": "1", "across-2": "0.5"}.items():
        enter(page, box, number)
    page.locator("#region-1").get_by_label("Everywhere").check()
    page.locator("#region-2").get_by_label("Everywhere").check()
    rest(page)
    choose(page, "My toys")
    told(page, "These are the pictures of My toys.")
    rest(page)
    is_set_out(page)
    assert references_drawn(page, tmp_path) == before


def test_it_is_saved_chosen_elsewhere_and_deleted_by_keyboard(open_page: Any, library: Path, shoot: Any) -> None:
    page = open_page()
    set_out(page)
    unfold(page)
    page.focus(NAME)
    page.keyboard.type("By hand")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    told(page, "Saved as By hand.")

    other = open_page(dark=True)
    other.focus("#sets-panel > button")
    other.keyboard.press("Enter")
    other.wait_for_selector(CHOICE)
    rest(other)
    other.focus(CHOICE)
    other.keyboard.type("By h")
    other.get_by_role("option", name="By hand").wait_for()
    other.keyboard.press("Enter")
    told(other, "These are the pictures of By hand.")
    rest(other)
    open_accordions(other)
    is_set_out(other)
    assert violations(other) == []
    shoot(other, "chosen")
    other.focus("#sets-delete")
    other.keyboard.press("Enter")
    told(other, "By hand has been deleted; its file stays in the library's folder “deleted” for 30 days.")
    assert "By hand" not in offered(other)
    assert other.locator("#reference-2 img").count() == 1, "the pictures stay"
    (deleted,) = (library / "deleted").rglob("*.json")
    assert ReferenceSet.from_json(deleted.read_bytes()).name == "By hand"

    choose(page, "By hand")
    refused(page, "This set is no longer there.")
    assert page.locator("#reference-2 img").count() == 1


def test_as_a_file_goes_what_is_shown_and_other_pictures_are_not_called_by_a_sets_name(
    open_page: Any, tmp_path: Path, reference_file: Path
) -> None:
    page = open_page()
    put(page, 1)
    save(page, "Two")
    rest(page)
    assert (page.input_value(CHOICE), page.input_value(NAME)) == ("Two", "Two")
    page.click("#reference button[aria-label='Remove Image']")
    page.wait_for_selector("#reference img", state="detached")
    page.wait_for_function(NOTHING_TOLD)
    page.set_input_files("#reference input[type=file]", str(reference_file))
    page.wait_for_selector("#reference img")
    rest(page)
    assert (page.input_value(CHOICE), page.input_value(NAME)) == ("", "")
    assert not page.is_visible("#sets-delete")
    page.fill(NAME, "Three")
    (picture,) = ReferenceSet.from_json(hand_on(page, tmp_path / "three.json").read_bytes()).references
    with Image.open(reference_file) as shown:
        assert picture.image.tobytes() == shown.tobytes()

    choose(page, "Two")
    told(page, "These are the pictures of Two.")
    rest(page)
    assert (page.input_value(CHOICE), page.inner_text("#sets-note")) == ("Two", "These are the pictures of Two.")
    page.click("#undo-references")
    page.wait_for_function(NOTHING_TOLD)
    rest(page)
    assert (page.input_value(CHOICE), page.input_value(NAME)) == ("", "")


def test_a_set_is_handed_on_as_a_file_even_where_nothing_is_kept(
    open_page: Any, chromium: Any, without_library: str, shoot: Any, tmp_path: Path
) -> None:
    page = open_page()
    set_out(page)
    save(page, "For you")
    file = hand_on(page, tmp_path / "for you.json")

    other = chromium.new_context(locale="en-US", accept_downloads=True).new_page()
    other.set_default_timeout(PATIENCE_MS)
    other.goto(without_library)
    other.wait_for_selector("#variation-generate")
    unfold(other)
    assert other.inner_text("#sets-panel .ipa-help").startswith(
        "Save these pictures, with all their settings, as a file"
    )
    assert not other.locator(CHOICE).count()
    upload(other, file)
    told(other, "These are the pictures of For you.")
    rest(other)
    open_accordions(other)
    is_set_out(other)
    shoot(other)
    other.fill(NAME, "Mine now")
    other.click("#sets-save")
    told(other, "Mine now is ready: press “As a file” to save it.")
    again = hand_on(other, tmp_path / "again.json")
    other.context.close()

    upload(page, again)
    told(page, "These are the pictures of Mine now.")


@pytest.mark.parametrize("content", [b"{", b"{}", b"\x89PNG", None], ids=["cut", "empty", "other", "half"])
def test_a_damaged_file_is_told_and_nothing_is_lost(
    open_page: Any, shoot: Any, tmp_path: Path, content: bytes | None
) -> None:
    page = open_page()
    put(page, 1)
    if content is None:
        save(page, "Whole")
        whole = hand_on(page, tmp_path / "whole.json").read_bytes()
        content = whole[: len(whole) // 2]
    before = page.get_attribute("#reference img", "src")
    upload(page, {"name": "a.json", "mimeType": "application/json", "buffer": content})
    refused(page, DAMAGED)
    shoot(page)
    assert page.get_attribute("#reference img", "src") == before
    save(page, "After all")


def test_a_damaged_file_in_the_library_leaves_the_others(open_page: Any, library: Path) -> None:
    page = open_page()
    put(page, 1)
    save(page, "Sound")
    (library / "references" / "damaged.json").write_text('{"name": "Damaged", "pict', encoding="utf-8")
    (library / "references" / "picture.json").write_bytes(b"\x89PNG")
    other = open_page()
    names = offered(other)
    assert "Sound" in names
    assert "Damaged" not in names


def test_of_two_sets_that_are_chosen_quickly_the_last_one_counts(
    open_page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, chosen, read = open_page(), Event(), NamedFiles.read
    put(page, 1)
    for name in ("This one", "That one"):
        save(page, name)

    def slow(files: NamedFiles, name: str) -> bytes | None:
        chosen.wait(PATIENCE_MS / 1000)
        return read(files, name)

    monkeypatch.setattr(NamedFiles, "read", slow)
    choose(page, "This one")
    choose(page, "That one")
    chosen.set()
    told(page, "These are the pictures of That one.")
    rest(page)
    assert page.input_value(CHOICE) == "That one"
