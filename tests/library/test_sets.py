"""Files under names that people give them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
