"""Result files carry their settings, are lossless and always the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ipa_app.imaging.png import read_settings, write_png

SETTINGS: dict[str, Any] = {
    "task": "mix",
    "model": "toybox",
    "prompt": "a cat,\nin snow: ❄ 雪",
    "negative_prompt": "hat",
    "seed": 7,
    "seeds": [6, 7],
    "steps": 20,
    "guidance_scale": 3.0,
    "scale": 0.6,
    "references": [{"sha256": "ab", "weight": 1.0}],
}


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8))


def test_settings_and_pixels_come_back(picture: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "result.png"
    write_png(picture, path, SETTINGS)
    assert read_settings(path) == SETTINGS
    assert Image.open(path).tobytes() == picture.tobytes()


def test_the_same_picture_gives_the_same_file(picture: Image.Image, tmp_path: Path) -> None:
    write_png(picture, tmp_path / "a.png", SETTINGS)
    write_png(picture, tmp_path / "b.png", dict(reversed(SETTINGS.items())))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_other_programs_find_their_parameters(picture: Image.Image, tmp_path: Path) -> None:
    write_png(picture, tmp_path / "a.png", SETTINGS)
    text = Image.open(tmp_path / "a.png").info["parameters"]
    assert text.startswith("a cat,\nin snow: ❄ 雪\nNegative prompt: hat\nSteps: 20, ")
    assert "CFG scale: 3.0, Seed: 7" in text
    assert text.endswith("Size: 24x16")


@pytest.mark.parametrize("prompt", ["", "\0", "half \ud83d surrogate", "x" * 10_000])
def test_odd_prompts_are_written(picture: Image.Image, tmp_path: Path, prompt: str) -> None:
    write_png(picture, tmp_path / "a.png", {"prompt": prompt})
    assert read_settings(tmp_path / "a.png") == {"prompt": prompt}


def test_settings_must_be_finite(picture: Image.Image, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_png(picture, tmp_path / "a.png", {"scale": float("nan")})


@pytest.mark.parametrize("note", [None, "not json", "[1, 2]", "[" * 100_000])
def test_files_of_others_have_no_settings(picture: Image.Image, tmp_path: Path, note: str | None) -> None:
    notes = PngInfo()
    if note is not None:
        notes.add_text("ip_adapter_studio", note)
    picture.save(tmp_path / "a.png", pnginfo=notes)
    assert read_settings(tmp_path / "a.png") is None


def test_what_is_no_png_has_no_settings(picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("hello")
    for name in ("a.jpg", "a.txt", "missing.png"):
        assert read_settings(tmp_path / name) is None
