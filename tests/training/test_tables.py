"""Data files in common formats, and the messages for entries that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ipa_app.errors import UserError
from ipa_app.training.data import read_listing
from ipa_app.training.entries import Entry, Listing

ENTRIES = [
    {"image_file": "a.png", "text": "a bear"},
    {"image_file": "b.png", "text": "ein Bär, “rot”", "reference_file": "c.png"},
]
EXPECTED = [Entry(image="a.png", text="a bear"), Entry(image="b.png", text="ein Bär, “rot”", reference="c.png")]


def listing(content: str | bytes, folder: Path, *, name: str = "data.json") -> Listing:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_listing(file)


def lines(*entries: object) -> str:
    return "\n".join(json.dumps(entry) for entry in entries) + "\n"


FORMS = {
    "list": json.dumps(ENTRIES),
    "lines": lines(*ENTRIES),
    "lines of Windows, with an empty one": lines(*ENTRIES).replace("\n", "\r\n\r\n"),
    "Hugging Face's names": lines(
        {"file_name": "a.png", "text": "a bear"},
        {"file_name": "b.png", "text": "ein Bär, “rot”", "reference_file_name": "c.png"},
    ),
    "capital keys": lines(
        {"Image_File": "a.png", "Caption": "a bear"},
        {"IMAGE": "b.png", " prompt ": "ein Bär, “rot”", "reference": "c.png"},
    ),
    "mapping": json.dumps({"a.png": "a bear", "b.png": {"caption": "ein Bär, “rot”", "reference_file": "c.png"}}),
    "kohya's tags": json.dumps({"a.png": {"tags": "a bear"}, "b.png": {"caption": EXPECTED[1].text, "image": "b.png"}}),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_json_file_may_be_a_list_or_lines_or_a_mapping(form: str, tmp_path: Path) -> None:
    found = listing(FORMS[form], tmp_path).entries
    expected = EXPECTED if form != "kohya's tags" else [EXPECTED[0], Entry(image="b.png", text=EXPECTED[1].text)]
    assert found == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("form", ["list", "lines"])
def test_any_unicode_is_read_with_and_without_its_mark(form: str, encoding: str, tmp_path: Path) -> None:
    content = json.dumps(ENTRIES, ensure_ascii=False) if form == "list" else lines(*ENTRIES)
    found = listing(content.encode(encoding), tmp_path)
    assert found.entries == EXPECTED
    assert not found.notes


def test_what_is_not_unicode_is_read_as_windows_has_it_and_said(tmp_path: Path) -> None:
    found = listing(json.dumps(ENTRIES, ensure_ascii=False).encode("cp1252"), tmp_path)
    assert found.entries == EXPECTED
    assert found.notes == ["data.json is not Unicode and was read as Windows-1252, which may garble it."]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_table_names_its_columns_in_any_order(mark: str, tmp_path: Path) -> None:
    rows = [("Text", "file_name", "reference_file"), ("a bear", "a.png", ""), ('"ein Bär, “rot”"', "b.png", "c.png")]
    content = "\ufeff" + "".join(mark.join(row) + "\r\n" for row in rows)
    assert listing(content, tmp_path, name="metadata.CSV").entries == EXPECTED


def test_a_text_in_quotes_may_have_commas_and_line_breaks(tmp_path: Path) -> None:
    found = listing('file_name,text\na.png,"a bear,\nsitting"\n', tmp_path, name="data.csv")
    assert found.entries == [Entry(image="a.png", text="a bear,\nsitting")]


BAD = {
    "no object": ('["a.png", {"image_file": "a.png", "text": ""}]', "entry 1", "it must look like"),
    "no text": ('[{"image_file": "b.png"}, {"image_file": "a.png", "text": ""}]', "entry 1", 'it has no "text"'),
    "no name": (
        '[{"image_file": " ", "text": ""}, {"image_file": "a.png", "text": ""}]',
        "entry 1",
        "names no picture",
    ),
    "number": ('[{"image_file": "a.png", "text": ""}, {"image_file": 3, "text": ""}]', "entry 2", "must be a string"),
    "null": ('{"image_file": "a.png", "text": ""}\n{"image_file": "b.png", "text": null}', "line 2", "not None"),
    "half a line": ('{"image_file": "a.png", "text": ""}\n{"image_file": "b', "line 2", "not valid JSON"),
    "misspelt": (
        '[{"image_file": "a.png", "text": ""}, {"image_file": "b", "text": "", "refrence_file": "c"}]',
        "entry 2",
        'it has "refrence_file"; is that "reference_file"?',
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_one_bad_entry_is_left_out_with_its_reason(case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content, place, words = BAD[case]
    found = listing(content, tmp_path)
    assert found.entries == [Entry(image="a.png", text="")]
    assert len(found.skipped) == 1
    (message,) = caplog.messages
    assert message.startswith(f"skipped {place} of data.json: ")
    assert words in message


def test_a_row_with_an_unquoted_comma_is_not_cut_short(tmp_path: Path) -> None:
    found = listing("file_name,text\na.png,a bear\nb.png,a bear, red\n", tmp_path, name="data.csv")
    assert [entry.image for entry in found.entries] == ["a.png"]
    assert found.skipped.first.startswith("line 3 of data.csv: it has 3 cells for 2 columns")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("data.json", "[{", "is not valid JSON"),
        ("data.json", "{", "is not valid JSON"),
        ("data.json", "", "is not valid JSON"),
        ("data.json", "3", "must hold a list"),
        ("data.json", "[" * 100_000, "nested too deeply"),
        ("data.json", "[]", "lists no pictures"),
        ("data.json", '["a.png"]', "Nothing in .* can be used; the first problem is entry 1"),
        ("data.json", '[{"image_file": "a.png"}]', '"text"'),
        ("data.csv", "a.png,a bear\n", "must name its columns"),
        ("data.csv", "", "must name its columns"),
    ],
)
def test_a_data_file_that_is_none_is_refused(name: str, content: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        listing(content, tmp_path, name=name).check()


def test_there_must_be_a_data_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no data file or folder"):
        read_listing(tmp_path / "none.json")


@pytest.mark.parametrize("content", ["# Toys\n\nBears\nand frogs.\n", b"\x89PNG\r\n\x1a\n\x00\x00\n\xff", "a bear"])
def test_what_is_no_data_at_all_is_told_once_and_what_is_beside_it(
    content: str | bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UserError, match=r"is not valid JSON: .*\. Data is a JSON list, JSON lines, a table"):
        listing(content, tmp_path, name="README.md")
    assert not caplog.messages


def test_keys_that_nothing_is_done_with_are_remembered(tmp_path: Path) -> None:
    found = listing('[{"image_file": "a.png", "text": "", "caption": "b", "width": 3}]', tmp_path)
    assert found.entries == [Entry(image="a.png", text="")]
    assert found.unused_keys == {"caption", "width"}


@pytest.mark.parametrize("key", ["image_h", "image_w", "prompt_id", "text_2", "filename", "caption_zh", "images"])
def test_a_key_is_no_slip_for_what_the_entry_has(key: str, tmp_path: Path) -> None:
    found = listing(json.dumps([{"image": "a.png", "caption": "a bear", key: "b"}]), tmp_path)
    assert found.entries == [Entry(image="a.png", text="a bear")]
    assert found.unused_keys == {key}


@pytest.mark.parametrize(
    ("entry", "slip"),
    [
        ({"images": "a.png", "text": ""}, "image"),
        ({"image": "a.png", "captions": ""}, "caption"),
        ({"image": "a.png", "text": "", "references": "b.png"}, "reference"),
    ],
)
def test_a_key_is_a_slip_for_what_the_entry_lacks(entry: dict[str, str], slip: str, tmp_path: Path) -> None:
    assert listing(json.dumps([entry]), tmp_path).skipped.first.endswith(f'; is that "{slip}"?')


@pytest.mark.parametrize("more", [{}, {"reference": "c.png"}])
def test_a_reference_of_null_is_none(more: dict[str, str], tmp_path: Path) -> None:
    found = listing(json.dumps([ENTRIES[0] | {"reference_file": None} | more]), tmp_path)
    assert found.entries == [Entry(image="a.png", text="a bear", reference=more.get("reference"))]


def test_a_long_list_of_bad_entries_is_told_in_part_and_counted_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = listing(json.dumps([3] * 50 + [ENTRIES[0]]), tmp_path)
    assert len(found.skipped) == 50
    assert len(caplog.messages) == 20
    assert found.skipped.summary(51).startswith("Left out: 50 of 51 pictures (50 x it must look like")
