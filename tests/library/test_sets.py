"""Files stored under names people give them."""

from __future__ import annotations

import errno
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ipa_app.errors import UserError
from ipa_app.library import deleted, sets
from ipa_app.library.deleted import remove_for_good
from ipa_app.library.sets import NamedFiles


def name_in(data: bytes) -> str | None:
    try:
        return json.loads(data)["name"]
    except (ValueError, KeyError, TypeError):
        return None


@pytest.fixture
def files(tmp_path: Path) -> NamedFiles:
    return NamedFiles(tmp_path / "sets", deleted=tmp_path / "deleted", name_in=name_in)


def content(name: str, **more: int) -> str:
    return json.dumps({"name": name, **more})


def test_files_are_found_by_their_names_and_a_name_is_saved_over(files: NamedFiles) -> None:
    assert files.names() == []
    for name in ("toys", "Animals", "../../etc/passwd", "a/b"):
        files.save(name, content(name))
    assert files.names() == ["../../etc/passwd", "a/b", "Animals", "toys"]
    files.save("toys", content("toys", more=1))
    assert files.read("toys") == content("toys", more=1).encode()
    assert len(files.names()) == 4
    assert files.read("gone") is None


def test_no_name_leads_out_of_the_folder(files: NamedFiles, tmp_path: Path) -> None:
    files.save("../../etc/passwd", content("../../etc/passwd"))
    (path,) = tmp_path.rglob("*.json")
    assert path.parent == tmp_path / "sets"
    assert path.stem.isalnum()


def test_files_that_are_copied_in_appear_and_others_do_not(files: NamedFiles, tmp_path: Path) -> None:
    files.save("toys", content("toys"))
    (tmp_path / "sets" / "from a friend.json").write_text(content("friends"), encoding="utf-8")
    (tmp_path / "sets" / "broken.json").write_text("{", encoding="utf-8")
    (tmp_path / "sets" / "notes.txt").write_text(content("notes"), encoding="utf-8")
    (tmp_path / "sets" / "folder.json").mkdir()
    assert files.names() == ["friends", "toys"]
    files.save("friends", content("friends", more=1))
    assert json.loads((tmp_path / "sets" / "from a friend.json").read_bytes())["more"] == 1


def test_what_is_deleted_lies_in_its_folder(files: NamedFiles, tmp_path: Path) -> None:
    files.save("toys", content("toys"))
    assert files.delete("toys")
    assert not files.delete("toys")
    assert files.names() == []
    (deleted,) = (tmp_path / "deleted").rglob("*.json")
    assert deleted.read_text(encoding="utf-8") == content("toys")


def test_what_is_saved_over_lies_where_what_is_deleted_does(files: NamedFiles, tmp_path: Path) -> None:
    assert not files.save("toys", content("toys"))
    assert files.save("toys", content("toys", more=1))
    (before,) = (tmp_path / "deleted").rglob("*.json")
    assert before.read_text(encoding="utf-8") == content("toys")
    assert not files.save("toys", content("toys", more=1)), "nothing is lost where nothing has changed"
    assert len(list((tmp_path / "deleted").rglob("*.json"))) == 1


def test_what_was_deleted_goes_with_the_pictures_that_were(
    files: NamedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.save("toys", content("toys"))
    files.delete("toys")
    remove_for_good(tmp_path / "deleted")
    assert list((tmp_path / "deleted").rglob("*.json"))
    monkeypatch.setattr(deleted, "KEPT_DELETED_S", -9.0)
    remove_for_good(tmp_path / "deleted")
    assert list((tmp_path / "deleted").iterdir()) == []


def test_there_is_an_end_to_how_many_are_kept(files: NamedFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "MOST_FILES", 2)
    for name in ("toys", "friends", "toys"):
        files.save(name, content(name))
    with pytest.raises(UserError, match="There are already 2 sets"):
        files.save("pets", content("pets"))
    files.delete("toys")
    files.save("pets", content("pets"))
    assert files.names() == ["friends", "pets"]


def test_a_file_is_read_for_its_name_once_until_it_is_another(tmp_path: Path) -> None:
    read: list[bytes] = []
    folder = tmp_path / "sets"
    files = NamedFiles(folder, deleted=tmp_path / "deleted", name_in=lambda data: read.append(data) or name_in(data))
    for name in ("toys", "animals"):
        files.save(name, content(name))
    (folder / "broken.json").write_text("{", encoding="utf-8")
    assert files.names() == ["animals", "toys"]
    read.clear()
    assert (files.names(), files.read("toys")) == (["animals", "toys"], content("toys").encode())
    assert read == [], "nothing has changed"
    (folder / "broken.json").write_text(content("mended"), encoding="utf-8")
    (folder / "from a friend.json").write_text(content("friends"), encoding="utf-8")
    files.delete("toys")
    assert files.names() == ["animals", "friends", "mended"]
    assert sorted(read) == [content("friends").encode(), content("mended").encode()]


def test_a_file_in_place_of_another_of_the_same_size_and_time_is_read(files: NamedFiles, tmp_path: Path) -> None:
    files.save("toys", content("toys"))
    (path,) = (tmp_path / "sets").glob("*.json")
    before = path.stat()
    assert files.names() == ["toys"]
    other = tmp_path / "other.json"
    other.write_text(content("cats"), encoding="utf-8")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert files.names() == ["cats"]


def test_of_two_who_save_the_same_name_at_once_none_is_lost(
    files: NamedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_file = sets.whole_file

    def slow(path: Path) -> Any:
        time.sleep(0.2)
        return whole_file(path)

    monkeypatch.setattr(sets, "whole_file", slow)
    with ThreadPoolExecutor(2) as both:
        replaced = list(both.map(lambda by: files.save("toys", content("toys", by=by)), (1, 2)))
    assert sorted(replaced) == [False, True]
    assert sorted(json.loads(path.read_bytes())["by"] for path in tmp_path.rglob("*.json")) == [1, 2]


def test_what_cannot_be_read_for_the_moment_is_not_replaced(
    files: NamedFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.save("toys", content("toys", by=1))

    def failing(_: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    again = NamedFiles(tmp_path / "sets", deleted=tmp_path / "deleted", name_in=name_in)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        with pytest.raises(OSError, match="Too many open files"):
            again.save("toys", content("toys", by=2))
    assert again.read("toys") == content("toys", by=1).encode()
