"""Result files carry their settings, are lossless and always the same."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ipa_app.errors import UserError
from ipa_app.imaging.packing import pack_picture
from ipa_app.imaging.png import read_record, read_settings, write_png

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


def test_a_file_that_is_being_read_stays_whole(picture: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_png(picture, path, SETTINGS)
    whole = path.read_bytes()
    with path.open("rb") as reading:
        begun = reading.read(10)
        write_png(picture, path, SETTINGS)
        assert begun + reading.read() == whole
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]


def test_other_programs_find_their_parameters(picture: Image.Image, tmp_path: Path) -> None:
    write_png(picture, tmp_path / "a.png", SETTINGS)
    text = Image.open(tmp_path / "a.png").info["parameters"]
    assert text.startswith("a cat,\nin snow: ❄ 雪\nNegative prompt: hat\nSteps: 20, ")
    assert "CFG scale: 3.0, Seed: 7, Size: 24x16, Model: toybox" in text


def test_a_value_with_a_comma_stays_one_value_for_other_programs(picture: Image.Image, tmp_path: Path) -> None:
    write_png(picture, tmp_path / "a.png", {"prompt": "", "steps": 2, "model": 'my, "own": model'})
    assert Image.open(tmp_path / "a.png").info["parameters"] == (
        '\nSteps: 2, Size: 24x16, Model: "my, \\"own\\": model"'
    )


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


NAMES = {"reference_1": "reference", "pose": "pose"}


def test_input_pictures_travel_in_the_file(picture: Image.Image, tmp_path: Path) -> None:
    write_png(picture, tmp_path / "a.png", SETTINGS, inputs={"reference_1": pack_picture(picture, longest=512)})
    settings, pictures = read_record(tmp_path / "a.png", names=NAMES)
    assert settings == SETTINGS
    assert list(pictures) == ["reference_1"]
    assert pictures["reference_1"].tobytes() == picture.tobytes()


def test_many_and_large_notes_are_read_by_others_too(picture: Image.Image, tmp_path: Path) -> None:
    inputs = dict.fromkeys(("reference_1", "reference_2", "image", "mask"), "A" * 3000000)
    write_png(picture, tmp_path / "a.png", SETTINGS, inputs=inputs)
    with Image.open(tmp_path / "a.png") as image:
        assert image.tobytes() == picture.tobytes()
    assert read_settings(tmp_path / "a.png") == SETTINGS


def hostile_note(picture: Image.Image, path: Path, note: str | bytes, *, key: str = "ip_adapter_studio") -> Path:
    notes = PngInfo()
    notes.add_text("ip_adapter_studio", json.dumps(SETTINGS))
    notes.add_text(key, note, zip=True)
    picture.save(path, pnginfo=notes)
    return path


@pytest.mark.parametrize("note", ["not json", "[1, 2]", "[" * 100_000, '{"scale": NaN}', '{"scale": -Infinity}'])
def test_damaged_settings_are_refused_in_one_sentence(picture: Image.Image, tmp_path: Path, note: str) -> None:
    with pytest.raises(UserError, match=r"damaged: .*\.$"):
        read_record(hostile_note(picture, tmp_path / "a.png", note), names=NAMES)


def test_a_note_that_unfolds_without_end_is_refused(picture: Image.Image, tmp_path: Path) -> None:
    path = hostile_note(picture, tmp_path / "a.png", b"0" * 300_000_000)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(UserError, match="does not say how it was made"):
        read_record(path, names=NAMES)


@pytest.mark.parametrize("name", ["foreign.png", "picture.jpg", "text.png", "missing.png", "empty.png"])
def test_files_of_others_are_refused_in_one_sentence(picture: Image.Image, tmp_path: Path, name: str) -> None:
    picture.save(tmp_path / "foreign.png")
    picture.save(tmp_path / "picture.jpg")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    with pytest.raises(UserError, match=r"does not say how it was made: .*\.$"):
        read_record(tmp_path / name, names=NAMES)


def test_a_bomb_inside_is_refused_before_it_is_decoded(picture: Image.Image, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, format="PNG")
    for text in (
        base64.b64encode(buffer.getvalue()).decode(),
        "no base64!",
        "äöü",
        "",
        base64.b64encode(b"x").decode(),
    ):
        path = hostile_note(picture, tmp_path / "a.png", text, key="ip_adapter_studio:reference_1")
        with pytest.raises(UserError, match="inside this file is damaged"):
            read_record(path, names=NAMES)
