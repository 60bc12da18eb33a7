"""The files are authoritative: what is in the folder is in the library, and the index follows."""

from __future__ import annotations

import errno
import io
import logging
import os
import shutil
import sqlite3
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ipa_app.imaging.result_files import read_settings
from ipa_app.library import pictures as module
from ipa_app.library.deleted import KEPT_DELETED_S
from ipa_app.library.index import Search
from ipa_app.library.pictures import Pictures

MANY = 10_000


def over(folder: Path) -> Pictures:
    return Pictures(folder / "pictures", index=folder / "index.sqlite", deleted=folder / "deleted")


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[Pictures]:
    opened = over(tmp_path)
    yield opened
    opened.close()


def saved(pictures: Pictures, seed: int, *, age: int = 0, output_format: str = "png", **settings: Any) -> Path:
    """Save a picture last modified `age` seconds before a fixed time."""
    path = pictures.save(
        Image.new("RGB", (8, 8), (seed, 0, 0)),
        name=f"mix-{seed}",
        made=1e9 + seed,
        settings={"seed": seed, "output_format": output_format, **settings},
        inputs={},
    )
    os.utime(path, (2e9 - age, 2e9 - age))
    return path


def test_pictures_are_ordinary_files_by_day_that_say_how_they_were_made(pictures: Pictures) -> None:
    for output_format, suffix in (("png", ".png"), ("jpeg", ".jpg"), ("webp", ".webp")):
        path = saved(pictures, 3, output_format=output_format)
        assert path.parent.name == "2001-09-09"
        assert path.name.endswith(f"-mix-3{suffix}")
        assert read_settings(path) == {"seed": 3, "output_format": output_format}
    assert len(pictures.newest(5)) == 3


def test_a_picture_is_on_the_disk_before_it_counts_as_saved(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda opened: brought.append(os.fstat(opened).st_ino))
    path = saved(pictures, 1)
    assert brought == [each.stat().st_ino for each in (path, path.parent, pictures.folder)]


def test_the_newest_come_first_and_no_more_than_asked_for(pictures: Pictures) -> None:
    old, new, middle = (saved(pictures, seed, age=age) for seed, age in ((1, 30), (2, 10), (3, 20)))
    assert pictures.newest(10) == [new, middle, old]
    assert pictures.newest(2) == [new, middle]


def test_what_is_copied_in_appears_and_what_is_deleted_disappears(pictures: Pictures, tmp_path: Path) -> None:
    first = saved(pictures, 1, age=10)
    assert pictures.newest(5) == [first]
    Image.new("L", (4, 4)).save(tmp_path / "foreign.png")
    copied = pictures.folder / "from a friend" / "猫.PNG"
    copied.parent.mkdir()
    shutil.copy(tmp_path / "foreign.png", copied)
    assert set(pictures.newest(5)) == {first, copied}
    shutil.rmtree(first.parent)
    assert pictures.newest(5) == [copied]


def test_what_is_damaged_or_no_picture_is_left_out_until_it_changes(
    pictures: Pictures, caplog: pytest.LogCaptureFixture
) -> None:
    good, half, text = (saved(pictures, seed, age=seed) for seed in (1, 2, 3))
    whole = half.read_bytes()
    half.write_bytes(whole[:-20])
    text.write_text("no picture")
    with caplog.at_level(logging.WARNING):
        assert pictures.newest(5) == [good]
        assert pictures.newest(5) == [good]
    assert sorted(record.getMessage() for record in caplog.records) == sorted(
        f"{path} is left out of the library: it is damaged, or not a picture." for path in (half, text)
    )
    half.write_bytes(whole)
    assert set(pictures.newest(5)) == {good, half}


def test_links_lead_nowhere(pictures: Pictures, tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "outside.png")
    (pictures.folder / "link.png").symlink_to(tmp_path / "outside.png")
    (pictures.folder / "round").symlink_to(pictures.folder)
    assert pictures.newest(5) == []


def found(pictures: Pictures, **search: Any) -> set[Path]:
    page = pictures.page(Search(**search), offset=0, count=99, reading_s=60)
    assert page.unread == 0
    return {pictures.folder / each.name for each in page.entries}


def test_words_are_found_in_any_case_and_language_in_prompts_and_names(pictures: Pictures) -> None:
    frog = saved(pictures, 1, prompt="A Red FROG", negative_prompt="blurred")
    cat = saved(pictures, 2, prompt="一只紫色的猫, ÄRMEL")
    assert found(pictures, words="frog red") == found(pictures, words="BLUR") == {frog}
    assert found(pictures, words="紫色") == found(pictures, words="ärmel") == found(pictures, words="mix-2") == {cat}
    assert found(pictures, words="frog 猫") == set()
    assert found(pictures, words="\ud83d") == found(pictures, task="\ud83d") == set(), "half an emoji"
    assert found(pictures, words="100% _") == set(), "they are no wildcards"


def test_of_a_long_text_its_beginning_is_searched_for(pictures: Pictures) -> None:
    frog = saved(pictures, 1, prompt="a red frog " * 100)
    saved(pictures, 2, prompt="a red cat")
    assert found(pictures, words="frog " * 1001) == {frog}
    assert found(pictures, words="red frog " * 100_000) == {frog}


def test_a_question_that_makes_no_sense_costs_nobody_the_index(
    pictures: Pictures, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(pictures, 1)
    assert found(pictures) == {path}
    with pytest.raises(sqlite3.Error):
        found(pictures, task=["x"])
    assert found(pictures) == {path}
    assert "rebuilt" not in caplog.text


def test_pictures_are_found_by_what_made_them(pictures: Pictures) -> None:
    reference = [{"weight": 1.0}]
    one = saved(pictures, 1, task="mix", model="toybox", adapter="base", references=reference)
    two = saved(pictures, 2, task="pose", model="toybox", adapter="fine", references=reference)
    plain = saved(pictures, 3, task="mix", model="other", adapter="base", references=[])
    assert found(pictures, task="mix") == {one, plain}
    assert found(pictures, model="toybox") == {one, two}
    assert found(pictures, adapter="base") == {one}, "without a reference no adapter was used"
    assert found(pictures, task="mix", model="other", words="3") == {plain}
    assert [pictures.choices(what) for what in ("task", "model", "adapter")] == [
        ["mix", "pose"],
        ["other", "toybox"],
        ["base", "fine"],
    ]


@pytest.mark.parametrize("value", [None, 3, ["mix"], {"a": 1}, "\ud800"])
def test_settings_may_say_anything(pictures: Pictures, value: Any) -> None:
    path = saved(pictures, 1, prompt=value, task=value, model=value, adapter=value, references=[1])
    assert found(pictures) == {path}


def test_a_picture_of_another_program_is_found_by_its_words(pictures: Pictures) -> None:
    notes = PngInfo()
    notes.add_text("parameters", "a lighthouse\nNegative prompt: fog\nSteps: 20, Sampler: Euler, Seed: 1, Size: 8x8")
    path = pictures.folder / "other.png"
    Image.new("RGB", (8, 8)).save(path, pnginfo=notes)
    assert found(pictures, words="lighthouse") == found(pictures, words="fog") == {path}


def test_favourites_outlive_the_index_and_are_the_folder_s(tmp_path: Path) -> None:
    first = over(tmp_path)
    one, two = saved(first, 1), saved(first, 2)
    name = one.relative_to(first.folder).as_posix()
    first.set_favourite(name, is_favourite=True)
    first.set_favourite("gone.png", is_favourite=True)
    assert found(first, favourites=True) == {one}
    first.close()
    (tmp_path / "index.sqlite").unlink()
    again = over(tmp_path)
    assert found(again, favourites=True) == {one}
    again.set_favourite(name, is_favourite=False)
    assert found(again, favourites=True) == set()
    assert found(again) == {one, two}
    again.close()


def test_what_is_deleted_comes_back_as_it_was(pictures: Pictures) -> None:
    one, two, kept = (saved(pictures, seed) for seed in (1, 2, 3))
    names = [path.relative_to(pictures.folder).as_posix() for path in (one, two)]
    pictures.set_favourite(names[0], is_favourite=True)
    stamp, data = one.stat().st_mtime_ns, one.read_bytes()
    deletion = pictures.delete([*names, "gone.png"])
    assert deletion.count == 2
    assert found(pictures) == {kept}
    saved(pictures, 2, prompt="has taken its name")
    assert pictures.restore(deletion.id) == 2
    assert (one.stat().st_mtime_ns, one.read_bytes()) == (stamp, data)
    assert found(pictures) == {one, two, kept, two.with_stem(f"{two.stem} (2)")}
    assert found(pictures, favourites=True) == {one}
    assert pictures.restore(deletion.id) == 0


def test_where_not_all_can_be_deleted_nothing_is(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    one, stuck = saved(pictures, 1), saved(pictures, 2)
    names = [path.relative_to(pictures.folder).as_posix() for path in (one, stuck)]
    pictures.set_favourite(names[0], is_favourite=True)
    replace = Path.replace

    def replaced(path: Path, target: Path) -> Path:
        if path == stuck:
            raise PermissionError("another program has it open")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", replaced)
    with pytest.raises(PermissionError):
        pictures.delete(names)
    assert found(pictures) == {one, stuck}
    assert found(pictures, favourites=True) == {one}


def fail_at(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let listing one folder fail as where too many files are open."""
    scandir = os.scandir

    def failing(path: Path) -> Any:
        if Path(path) == folder:
            raise OSError(errno.EMFILE, "Too many open files")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)


@pytest.mark.parametrize("beneath", ["", "2001-09-09"])
def test_what_cannot_be_listed_for_the_moment_is_not_lost_by_undoing(
    pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beneath: str
) -> None:
    deleted = [saved(pictures, seed) for seed in (1, 2)]
    deletion = pictures.delete(path.relative_to(pictures.folder).as_posix() for path in deleted)
    with monkeypatch.context() as patch:
        fail_at(patch, tmp_path / "deleted" / deletion.id / beneath)
        with pytest.raises(OSError, match="Too many open files"):
            pictures.restore(deletion.id)
    assert pictures.restore(deletion.id) == 2
    assert found(pictures) == set(deleted)
    assert not list((tmp_path / "deleted").iterdir())


def test_undoing_removes_no_file_that_it_does_not_restore(pictures: Pictures, tmp_path: Path) -> None:
    path = saved(pictures, 1)
    deletion = pictures.delete([path.relative_to(pictures.folder).as_posix()])
    other = tmp_path / "deleted" / deletion.id / "notes.txt"
    other.write_text("mine")
    assert pictures.restore(deletion.id) == 1
    assert other.read_text() == "mine"


@pytest.mark.parametrize("beneath", ["", "2001-09-09"])
def test_what_cannot_be_listed_for_the_moment_stays_as_it_was(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, beneath: str
) -> None:
    frog, other = saved(pictures, 1, prompt="a frog"), pictures.folder / "other.png"
    shutil.copy(frog, other)
    pictures.set_favourite(frog.relative_to(pictures.folder).as_posix(), is_favourite=True)
    assert found(pictures, words="frog") == {frog, other}
    other.unlink()
    with monkeypatch.context() as patch:
        fail_at(patch, pictures.folder / beneath)
        for _ in range(2):
            page = pictures.page(Search(words="frog", favourites=True), offset=0, count=9)
            assert [pictures.folder / each.name for each in page.entries] == [frog]
            assert [note.key for note in page.notes] == ["library.not_listed"]
        assert caplog.text.count("cannot be listed: Too many open files") == 1
        assert found(pictures) == ({frog} if beneath else {frog, other})
    page = pictures.page(Search(words="frog"), offset=0, count=9)
    assert ([pictures.folder / each.name for each in page.entries], page.notes) == ([frog], [])


def test_a_file_that_cannot_be_opened_for_the_moment_is_read_later(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(pictures, 1, prompt="a frog")
    name = path.relative_to(pictures.folder).as_posix()

    def failing(*_: object, **__: object) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", failing)
        assert pictures.page(Search(), offset=0, count=9).unread == 1
        patch.setattr(Path, "read_bytes", failing)
        assert pictures.thumbnail(name) is None
    assert found(pictures, words="frog") == {path}
    assert pictures.thumbnail(name) is not None


def test_what_was_deleted_long_ago_is_removed_and_nothing_else(tmp_path: Path) -> None:
    first = over(tmp_path)
    old, new = (first.delete([saved(first, seed).relative_to(first.folder).as_posix()]) for seed in (1, 2))
    first.close()
    long_ago = f"{int(time.time() - KEPT_DELETED_S) - 9}-{old.id.split('-')[1]}"
    (tmp_path / "deleted" / old.id).rename(tmp_path / "deleted" / long_ago)
    (tmp_path / "deleted" / "mine").mkdir()
    over(tmp_path).close()
    assert {path.name for path in (tmp_path / "deleted").iterdir()} == {new.id, "mine"}


def test_a_thumbnail_is_made_once_and_anew_where_the_file_has_changed(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(pictures, 1)
    Image.new("RGBA", (900, 600), (255, 0, 0, 0)).save(path)
    name = path.relative_to(pictures.folder).as_posix()
    assert found(pictures) == {path}
    small = pictures.thumbnail(name)
    with Image.open(io.BytesIO(small or b"")) as image:
        assert (image.format, image.size, image.getpixel((0, 0))) == ("JPEG", (192, 128), (255, 255, 255))
    with monkeypatch.context() as patch:
        patch.setattr(module, "read_image", None)
        assert pictures.thumbnail(name) == small
    Image.new("RGB", (10, 10), "blue").save(path)
    assert found(pictures) == {path}
    assert pictures.thumbnail(name) != small


def test_what_cannot_be_opened_is_left_out(pictures: Pictures, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = saved(pictures, 1), pictures.folder / "bad.png"
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, format="PNG")
    pixels = data.getvalue().index(b"IDAT")
    length = int.from_bytes(data.getvalue()[pixels - 4 : pixels], "big")
    spoiled = b"IDAT" + bytes(length)  # its checksum is valid
    head, tail = data.getvalue()[:pixels], data.getvalue()[pixels + 8 + length :]
    bad.write_bytes(head + spoiled + zlib.crc32(spoiled).to_bytes(4, "big") + tail)
    assert found(pictures) == {good, bad}
    with caplog.at_level(logging.WARNING):
        assert pictures.thumbnail("bad.png") is None
    assert "bad.png is left out of the library" in caplog.text
    assert found(pictures) == {good}


def test_two_processes_may_have_the_folder(tmp_path: Path) -> None:
    first, second = over(tmp_path), over(tmp_path)
    one, two = saved(first, 1), saved(second, 2)
    name = one.relative_to(first.folder).as_posix()
    assert found(first) == found(second) == {one, two}
    first.thumbnail(name)
    deletion = second.delete([name])
    assert first.thumbnail(name) is not None, "kept from before"
    assert found(first) == {two}
    first.set_favourite(name, is_favourite=True)
    assert second.restore(deletion.id) == 1
    assert found(first) == {one, two}
    for each in (first, second):
        each.close()


@pytest.mark.parametrize("damage", [b"", b"no table at all" * 1000])
def test_the_index_is_made_anew_from_the_files(tmp_path: Path, damage: bytes) -> None:
    index = tmp_path / "index.sqlite"
    first = over(tmp_path)
    path = saved(first, 1)
    assert first.newest(5) == [path]
    first.close()
    index.write_bytes(damage)
    again = over(tmp_path)
    assert again.newest(5) == [path]
    again.close()
    index.unlink()
    without = over(tmp_path)
    assert without.newest(5) == [path]
    without.close()


def test_of_many_files_only_those_are_looked_into_that_are_shown(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(pictures, 1)
    for number in range(MANY):
        os.link(path, path.with_name(f"{number}.png"))
    looked_into: list[Path] = []
    is_whole_file = module.is_whole_file
    monkeypatch.setattr(module, "is_whole_file", lambda path: looked_into.append(path) or is_whole_file(path))
    first = pictures.newest(30)
    assert len(first) == len(looked_into) == 30
    assert pictures.newest(30) == first
    assert len(looked_into) == 30
