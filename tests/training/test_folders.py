"""Folders of pictures in the layouts of trainers and of Hugging Face."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from ipa_app.errors import UserError
from ipa_app.training.data import read_listing
from ipa_app.training.entries import Entry


@pytest.fixture
def write(tmp_path: Path):
    def write_one(name: str, content: bytes | str = b"") -> None:
        file = tmp_path / "toys" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())

    (tmp_path / "toys").mkdir()
    return write_one


def test_captions_lie_beside_their_pictures(write, tmp_path: Path) -> None:
    write("a.PNG")
    write("a.txt", "a bear,\r\n sitting\r\n")
    write("b.jpg")
    write("b.caption", "a frog")
    write("c.webp")
    write("c.webp.txt", "a cat".encode("utf-16"))
    write("d.jpeg")
    write("D.TXT", "a dog".encode("utf-8-sig"))
    found = read_listing(tmp_path / "toys")
    texts = {entry.image: entry.text for entry in found.entries}
    assert texts == {"a.PNG": "a bear, sitting", "b.jpg": "a frog", "c.webp": "a cat", "d.jpeg": "a dog"}
    assert not found.notes


def test_accents_may_be_spelled_otherwise_in_the_caption_s_name(write, tmp_path: Path) -> None:
    write(unicodedata.normalize("NFD", "bär.png"))
    write(unicodedata.normalize("NFC", "bär.txt"), "a bear")
    assert [entry.text for entry in read_listing(tmp_path / "toys").entries] == ["a bear"]


def test_folders_named_with_a_number_count_so_often(write, tmp_path: Path) -> None:
    write("10_sks bear/a.png")
    write("10_sks bear/b.png")
    write("10_sks bear/b.txt", "a bear on a beach")
    write("1_frog/c.png")
    found = read_listing(tmp_path / "toys")
    assert found.entries == [
        Entry(image="10_sks bear/a.png", text="sks bear", repeats=10),
        Entry(image="10_sks bear/b.png", text="a bear on a beach", repeats=10),
        Entry(image="1_frog/c.png", text="frog"),
    ]
    assert found.notes == [
        "Every picture in 10_sks bear counts 10 times, as the folder's name says.",
        "Pictures in 10_sks bear without a caption (a .txt or .caption file of the same name): 1 of 2; they are "
        'trained with the text "sks bear"; the first is a.png.',
        "Pictures in 1_frog without a caption (a .txt or .caption file of the same name): 1 of 1; they are "
        'trained with the text "frog"; the first is c.png.',
    ]


def test_the_folder_itself_may_be_such_a_one(write, tmp_path: Path) -> None:
    write("5_bear/a.png")
    assert read_listing(tmp_path / "toys" / "5_bear").entries == [Entry(image="a.png", text="bear", repeats=5)]


def test_a_date_or_a_year_before_a_folder_s_name_is_no_number_of_times(write, tmp_path: Path) -> None:
    write("20230615_birthday/a.png")
    write("2023_holiday/b.png")
    write("200_bear/c.png")
    found = read_listing(tmp_path / "toys")
    assert found.entries == [
        Entry(image="200_bear/c.png", text="bear", repeats=200),
        Entry(image="20230615_birthday/a.png", text=""),
        Entry(image="2023_holiday/b.png", text=""),
    ]
    said = [note for note in found.notes if "taken as part of its name" in note]
    assert [note.split(" is taken")[0] for note in said] == [
        "The number in 20230615_birthday",
        "The number in 2023_holiday",
    ]


@pytest.mark.parametrize("mark", ["run.lock", "log.jsonl"])
def test_what_a_run_has_drawn_is_none_of_the_data(mark: str, write, tmp_path: Path) -> None:
    write("a.png")
    write("samples-3.png")
    write("runs/first/samples-00000002.png")
    write(f"runs/first/{mark}")
    found = read_listing(tmp_path / "toys")
    assert [entry.image for entry in found.entries] == ["a.png", "samples-3.png"]
    run = tmp_path / "toys" / "runs" / "first"
    assert f"The folder {run} is skipped, as it is the --output of a run." in found.notes
    write(mark)  # even if the data's own folder is one
    assert [entry.image for entry in read_listing(tmp_path / "toys").entries] == ["a.png"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.jsonl", '{"file_name": "a.png", "text": "a bear"}\n{"file_name": "/b.png", "text": ""}'),
        ("metadata.csv", 'file_name,text\na.png,a bear\n/b.png,""\n'),
    ],
)
def test_a_list_in_a_folder_says_what_counts(name: str, content: str, write, tmp_path: Path) -> None:
    write(f"train/{name}", content)
    write("train/a.png")
    write("train/a.txt", "not this one")
    write("train/unlisted.png")
    write("train/deeper/unlisted.png")
    found = read_listing(tmp_path / "toys")
    assert found.entries == [Entry(image="train/a.png", text="a bear"), Entry(image="/b.png", text="")]


def test_a_list_that_cannot_be_read_is_refused(write, tmp_path: Path) -> None:
    write("metadata.parquet", b"PAR1")
    write("a.png")
    with pytest.raises(UserError, match=r"metadata.parquet cannot be read here; save it as metadata.csv"):
        read_listing(tmp_path / "toys")


def test_bad_rows_of_lists_in_two_folders_are_told_apart(write, tmp_path: Path) -> None:
    for folder in ("train", "test"):
        write(f"{folder}/metadata.csv", "file_name,text\na.png\nb.png,a bear\n")
    found = read_listing(tmp_path / "toys")
    assert set(found.skipped.reasons) == {"line 2 of train/metadata.csv", "line 2 of test/metadata.csv"}
    assert len(found.entries) == 2


def test_what_systems_and_other_trainers_leave_there_is_passed_over(write, tmp_path: Path) -> None:
    write("a.png")
    write("a.txt", "a bear")
    for name in ("._a.png", ".DS_Store", "Thumbs.db", "a.npz", "a-masklabel.png", "__MACOSX/a.png", ".cache/a.png"):
        write(name)
    assert read_listing(tmp_path / "toys").entries == [Entry(image="a.png", text="a bear")]


def test_a_caption_that_is_not_unicode_is_used_and_said(write, tmp_path: Path) -> None:
    write("a.png")
    write("a.txt", "a bear’s hat".encode("cp1252"))
    found = read_listing(tmp_path / "toys")
    assert found.entries[0].text == "a bear’s hat"
    assert found.notes[0].startswith(f"Captions in {tmp_path / 'toys'} that are not Unicode: 1; ")
