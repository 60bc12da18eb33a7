"""File names that were written on another system."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from ipa_app.training.lookup import FileFinder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a.PNG", "Deep/Er/b.jpg", unicodedata.normalize("NFD", "Bär.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.PNG", "a.PNG"),
        ("a.png", "a.PNG"),
        ("./a.PNG", "a.PNG"),
        ("Deep\\Er\\b.jpg", "Deep/Er/b.jpg"),
        ("deep\\er\\B.JPG", "Deep/Er/b.jpg"),
        ("deep/../A.png", "a.PNG"),
        (unicodedata.normalize("NFC", "Bär.png"), unicodedata.normalize("NFD", "Bär.png")),
        (unicodedata.normalize("NFC", "bär.PNG"), unicodedata.normalize("NFD", "Bär.png")),
        ("none.png", None),
        ("none/a.PNG", None),
        ("Deep", None),
        ("a\0.png", None),
        ("x" * 5000, None),
    ],
)
def test_a_file_is_found_however_its_name_is_spelled(name: str, expected: str | None, root: Path) -> None:
    found = FileFinder(root).find(name)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert found.samefile(root / expected)


def test_a_name_that_could_mean_either_of_two_means_none(tmp_path: Path) -> None:
    for name in ("twin.png", "Twin.png"):
        (tmp_path / name).touch()
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system does not tell capital letters from small ones")
    assert FileFinder(tmp_path).find("twin.png") == tmp_path / "twin.png"
    assert FileFinder(tmp_path).find("TWIN.png") is None


def test_an_absolute_name_starts_from_nowhere_else(root: Path, tmp_path: Path) -> None:
    assert FileFinder(root / "Deep").find(str(root / "a.PNG")) == root / "a.PNG"
    assert FileFinder(root / "Deep").find(str(root / "A.png")) == root / "a.PNG"
