from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ipa_app.messages import english
from ipa_app.models.catalog import BUNDLED, catalog, entry_from_folder, with_styles
from ipa_app.models.styles import SHIPPED, STYLES_VARIABLE, Style, find_styles, read_styles


@pytest.mark.parametrize(
    ("template", "prompt", "styled"),
    [
        ("oil painting of {prompt}, canvas", "a cat", "oil painting of a cat, canvas"),
        ("{prompt}, by {prompt}", "a cat", "a cat, by a cat"),
        ("canvas", "a cat", "a cat, canvas"),
        ("", "a cat", "a cat"),
        ("{prompt}, canvas", " ", "canvas"),
        ("canvas", "", "canvas"),
        ("({prompt}:1.2)", "{x}", "({x}:1.2)"),
    ],
)
def test_a_prompt_stands_where_a_style_has_room_for_it(template: str, prompt: str, styled: str) -> None:
    assert Style(name="s", prompt=template).styled(prompt, "") == (styled, "")
    assert Style(name="s", negative_prompt=template).styled("", prompt) == ("", styled)


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_lists_are_read_as_other_programs_write_them(tmp_path: Path) -> None:
    ink = Style(name="Ink", prompt="ink, {prompt}", negative_prompt="grey")
    entries = [vars(ink), {"name": "Plain"}]
    assert read_styles(write(tmp_path / "a.json", entries)) == ([ink, Style(name="Plain")], [])
    table = '\ufeffname,prompt,negative_prompt\nInk,"ink, {prompt}",grey\nPlain,,\n'
    assert read_styles(write(tmp_path / "a.csv", table)) == ([ink, Style(name="Plain")], [])


def test_of_a_list_what_is_no_style_is_left_out_and_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [{"name": "Ink"}, "x", {"prompt": "y"}, {"name": "a" * 101}, {"name": 3}])
    styles, wrong = read_styles(path)
    assert styles == [Style(name="Ink")]
    assert wrong == [
        f"{path}: style {number} is left out, as it must have a name, and a prompt and negative prompt of at most 2000 "
        "characters."
        for number in (2, 3, 4, 5)
    ]
    styles, (sentence,) = read_styles(write(path, [{"name": "Loud", "prompt": "(x:9)"}]))
    assert sentence.startswith("Loud gives “x” the weight 9;")


def test_files_and_folders_may_be_named_and_the_later_of_two_alike_counts(tmp_path: Path) -> None:
    one = write(tmp_path / "one.json", [{"name": "ink", "prompt": "mine"}])
    folder = tmp_path / "more"
    folder.mkdir()
    write(folder / "b.csv", "name,prompt\nb,x\n")
    write(folder / "broken.json", "{")
    write(folder / "notes.txt", "no style")
    found, trouble = find_styles(f"{one}; {folder};{tmp_path / 'gone.json'}")
    assert found["ink"].prompt == "mine"
    assert found["b"] == Style(name="b", prompt="x")
    assert set(find_styles("")[0]) < set(found)
    assert [path.name for path, _ in trouble] == ["broken.json", "gone.json"]
    assert trouble[1][1] == (
        f"IPA_STYLES names {tmp_path / 'gone.json'}, but nothing is there; please check that its disk is connected."
    )


def test_what_cannot_be_used_is_named_beside_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "mine.json", {"name": "x"})
    monkeypatch.setenv(STYLES_VARIABLE, str(path))
    models = catalog()
    assert models.left_out == {
        "mine.json": "mine.json is not a list of styles: it must be a JSON list of objects with name, prompt and "
        "negative_prompt."
    }
    assert all(entry.styles for entry in models.values())


def test_what_is_shipped_is_whole_and_has_a_name_on_the_page() -> None:
    styles, wrong = read_styles(SHIPPED)
    assert wrong == []
    assert {f"style.{style.name}" for style in styles} == {
        key for key in english().sentences if key.startswith("style.")
    }


def test_a_model_with_words_of_its_own_is_offered_the_styles_made_of_them() -> None:
    toybox = entry_from_folder(BUNDLED, name="toybox")
    styles = {style.name: style for style in read_styles(SHIPPED)[0]}
    assert list(with_styles(toybox, styles).styles) == ["at_the_sea", "winter", "night", "party"]
