"""A tokenizer is loaded whole, in either layout, or its fault is reported before it splits a prompt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ipa_app.errors import UserError
from ipa_app.models.catalog import BUNDLED
from ipa_app.models.tokenizer import load_tokenizer
from tests.tiny_models import tiny_tokenizer

PROMPT = "a red cat"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Return the tiny tokenizer in the layout of CLIP's authors: vocabulary, merges and settings."""
    model = json.loads(tiny_tokenizer().backend_tokenizer.to_str())["model"]
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 24}))
    return folder


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Return the same in the layout of transformers: everything in tokenizer.json, and the settings."""
    tiny_tokenizer().save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def read(folder: Path, most_tokens: int = 77) -> list[int]:
    tokenizer = load_tokenizer(folder, title="Tiny", most_tokens=most_tokens)
    return tokenizer(PROMPT, padding="max_length").input_ids


def test_either_layout_is_read(published: Path, saved: Path) -> None:
    assert read(published) == read(saved) == tiny_tokenizer()(PROMPT, padding="max_length").input_ids


def test_the_bundled_models_own_is_whole() -> None:
    assert load_tokenizer(BUNDLED / "tokenizer", title="Toybox", most_tokens=77).model_max_length == 48


@pytest.mark.parametrize("most", [16, 24, 77])
def test_no_more_tokens_than_the_encoder_takes_are_made(published: Path, most: int) -> None:
    assert len(read(published, most)) == min(24, most)
    (published / "tokenizer_config.json").unlink()
    assert len(read(published, most)) == most


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("merges.txt", Path.unlink, r"Tiny is incomplete: .*tokenizer holds no merges\.txt"),
        ("vocab.json", Path.unlink, r"Tiny is incomplete: .*tokenizer holds no vocab\.json"),
        ("merges.txt", lambda path: path.write_text(""), r"files in .*tokenizer are missing or damaged"),
        ("merges.txt", lambda path: path.write_text("<html>Sign in</html>"), r"files in .*tokenizer are .* damaged"),
        ("merges.txt", halved, r"files in .*tokenizer are missing or damaged"),
        ("vocab.json", lambda path: path.write_text(""), r"vocab\.json is not readable JSON"),
        ("vocab.json", lambda path: path.write_text("{}"), r"files in .*tokenizer are missing or damaged"),
        ("vocab.json", halved, r"vocab\.json is not readable JSON"),
        ("tokenizer_config.json", halved, r"tokenizer_config\.json is not readable JSON"),
    ],
)
def test_what_is_missing_or_cut_off_is_named(
    published: Path, file: str, change: Callable[[Path], object], words: str
) -> None:
    change(published / file)
    with pytest.raises(UserError, match=words):
        read(published)


def test_a_broken_file_of_the_newer_layout_is_named(saved: Path) -> None:
    path = saved / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["merges"] = content["model"]["merges"][:9]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"files in .*saved are missing or damaged"):
        read(saved)
    halved(path)
    with pytest.raises(UserError, match=r"tokenizer\.json is not readable JSON"):
        read(saved)
