"""The files are the truth: what lies in the folder is there, and the index follows."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from ipa_app.imaging.result_files import read_settings
from ipa_app.library import pictures as module
from ipa_app.library.pictures import Pictures

MANY = 10_000


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[Pictures]:
    opened = Pictures(tmp_path / "pictures", index=tmp_path / "index.sqlite")
    yield opened
    opened.close()


def saved(pictures: Pictures, seed: int, *, age: int = 0, output_format: str = "png") -> Path:
    """Save a picture that was last changed so many seconds ago."""
    path = pictures.save(
        Image.new("RGB", (8, 8), (seed, 0, 0)),
        name=f"mix-{seed}",
        made=1e9 + seed,
        settings={"seed": seed, "output_format": output_format},
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
        f"{path} is left out of the library: it is damaged, or no picture." for path in (half, text)
    )
    half.write_bytes(whole)
    assert set(pictures.newest(5)) == {good, half}


def test_links_lead_nowhere(pictures: Pictures, tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "outside.png")
    (pictures.folder / "link.png").symlink_to(tmp_path / "outside.png")
    (pictures.folder / "round").symlink_to(pictures.folder)
    assert pictures.newest(5) == []


@pytest.mark.parametrize("damage", [b"", b"no table at all" * 1000])
def test_the_index_is_made_anew_from_the_files(tmp_path: Path, damage: bytes) -> None:
    index = tmp_path / "index.sqlite"
    first = Pictures(tmp_path / "pictures", index=index)
    path = saved(first, 1)
    assert first.newest(5) == [path]
    first.close()
    index.write_bytes(damage)
    again = Pictures(tmp_path / "pictures", index=index)
    assert again.newest(5) == [path]
    again.close()
    index.unlink()
    without = Pictures(tmp_path / "pictures", index=index)
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
