"""Waiting requests are stored on disk with everything they need, and nothing else."""

from __future__ import annotations

import errno
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ipa_app.library import waiting as module
from ipa_app.library.waiting import WaitingRecord, WaitingRequests

RED, BLUE = "a" * 64, "b" * 64
PICTURES = {RED: Image.new("RGB", (5, 3), "red"), BLUE: Image.new("RGBA", (5, 3), (0, 0, 9, 0))}


def record(number: int, *pictures: str, **changes: Any) -> WaitingRecord:
    values: dict[str, Any] = {
        "id": f"{number:032x}",
        "asked": 1000.0 - number,
        "visitor": "somebody",
        "is_series": False,
        "previews": True,
        "parts": ({"prompt": "猫"},),
        "pictures": pictures,
        "begun": (0,),
    }
    return WaitingRecord(**{**values, **changes})


def put(waiting: WaitingRequests, each: WaitingRecord) -> WaitingRecord:
    waiting.put(each, {name: PICTURES[name] for name in each.pictures})
    return each


def stored(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "pictures").iterdir()}


def test_they_come_back_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    waiting = WaitingRequests(tmp_path)
    late, early = put(waiting, record(1, RED)), put(waiting, record(2, RED, BLUE))
    again = WaitingRequests(tmp_path)
    assert again.records() == [early, late]
    for name, picture in PICTURES.items():
        assert (again.picture(name).mode, again.picture(name).tobytes()) == (picture.mode, picture.tobytes())


def test_a_picture_stays_as_long_as_a_request_needs_it(tmp_path: Path) -> None:
    waiting = WaitingRequests(tmp_path)
    one, other = put(waiting, record(1, RED)), put(waiting, record(2, RED, BLUE))
    waiting.remove(one.id)
    assert stored(tmp_path) == {RED, BLUE}
    waiting.put(replace(other, pictures=(RED,)))
    assert stored(tmp_path) == {RED}
    waiting.remove(other.id)
    waiting.remove(other.id)
    assert stored(tmp_path) == set()
    assert waiting.records() == []


def test_what_no_request_needs_is_removed_at_the_beginning(tmp_path: Path) -> None:
    waiting = WaitingRequests(tmp_path)
    put(waiting, record(1, RED))
    PICTURES[BLUE].save(tmp_path / "pictures" / f"{BLUE}.png")
    (tmp_path / "pictures" / "half.part").touch()
    assert len(WaitingRequests(tmp_path).records()) == 1
    assert stored(tmp_path) == {RED}


def test_a_record_that_cannot_be_opened_for_the_moment_loses_no_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (put(WaitingRequests(tmp_path), record(number, name)) for number, name in ((1, RED), (2, BLUE)))
    read = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path.stem == one.id:
            raise OSError(errno.EMFILE, "Too many open files")
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        assert WaitingRequests(tmp_path).records() == [other]
    assert WaitingRequests(tmp_path).records() == [other, one]
    assert stored(tmp_path) == {RED, BLUE}


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"{}", b'{"id": 3}', b"\xff", b"[" * 100_000],
    ids=["empty", "half", "list", "nothing", "other", "no text", "deep"],
)
def test_a_damaged_file_never_takes_the_others_with_it(
    tmp_path: Path, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = WaitingRequests(tmp_path)
    good = put(waiting, record(1))
    (tmp_path / f"{2:032x}.json").write_bytes(text)
    with caplog.at_level(logging.WARNING):
        assert waiting.records() == [good]
    assert "it is damaged, or not a waiting request" in caplog.text


@pytest.mark.parametrize(
    "changes",
    [
        {"asked": float(2**40)},
        {"begun": ()},
        {"begun": ("1",)},
        {"parts": (), "begun": ()},
        {"pictures": ("../../outside",)},
        {"pictures": (3,)},
        {"visitor": ["somebody"]},
        {"visitor": 3},
        {"is_series": "no"},
        {"previews": None},
        {"begun": (True,)},
    ],
)
def test_values_that_cannot_be_are_damage(tmp_path: Path, changes: dict[str, Any]) -> None:
    waiting = WaitingRequests(tmp_path)
    waiting.put(record(1, **changes))
    assert waiting.records() == []


@pytest.mark.parametrize("name", ["../../outside", "a" * 63, "A" * 64, ""])
def test_names_of_pictures_lead_nowhere_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match="no name of a picture"):
        WaitingRequests(tmp_path).picture(name)


def test_where_there_is_no_room_nothing_of_a_request_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = WaitingRequests(tmp_path)
    put(waiting, record(1, RED))

    def full(value: object, **_options: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.json, "dumps", full)
    with pytest.raises(OSError, match="No space left"):
        put(waiting, record(2, RED, BLUE))
    assert stored(tmp_path) == {RED}
    assert [path.name for path in tmp_path.glob("*") if path.is_file()] == [f"{1:032x}.json"]
