"""Files with the same content are found without reading more than needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipa_app.training import copies
from ipa_app.training.copies import FileUsers, content_digest


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names of the files that are read completely."""
    names: list[str] = []
    whole = copies._digest
    monkeypatch.setattr(copies, "_digest", lambda file: names.append(file.name) or whole(file))
    return names


def written(folder: Path, **contents: bytes) -> dict[str, Path]:
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def test_what_uses_a_copy_uses_the_file(tmp_path: Path) -> None:
    middle = b"x" * copies.PART_BYTES * 2
    files = written(tmp_path, a=b"0" + middle, b=b"0" + middle, c=b"1" + middle, d=b"alone")
    users = FileUsers([{files["a"]}, {files["b"], files["d"]}, {files["c"]}, {files["a"], files["c"]}])
    assert users.of(files["a"]) == users.of(files["b"]) == {0, 1, 3}
    assert users.of(files["c"]) == {2, 3}
    assert users.of(files["d"]) == {1}


def test_files_that_are_gone_are_copies_of_none(tmp_path: Path) -> None:
    gone = [tmp_path / "a", tmp_path / "b"]
    users = FileUsers([{file} for file in gone])
    assert [users.of(file) for file in gone] == [{0}, {1}]
    assert content_digest(gone) is None


def test_only_what_may_be_a_copy_of_what_is_asked_for_is_read(tmp_path: Path, read: list[str]) -> None:
    files = written(tmp_path, a=b"12", b=b"12", c=b"34", d=b"123", e=b"1234", f=b"1234")
    users = FileUsers([{file} for file in files.values()])
    assert users.of(files["d"]) == {3}
    assert read == []
    assert users.of(files["a"]) == {0, 1}
    assert sorted(read) == ["a", "b"]
    assert users.of(files["b"]) == {0, 1}
    assert len(read) == 2


def test_a_digest_follows_what_files_hold_in_their_order(tmp_path: Path) -> None:
    a, b = written(tmp_path, a=b"1", b=b"2").values()
    before = content_digest([a, b])
    assert before not in (None, content_digest([b, a]), content_digest([a]))
    b.write_bytes(b"3")
    assert content_digest([a, b]) != before
