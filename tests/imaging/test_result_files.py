"""Result files of every format carry their settings, are reproducible, and are as exact as documented."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageChops
from PIL.PngImagePlugin import PngInfo

from ipa_app.errors import UserError
from ipa_app.imaging.other_programs import read_other
from ipa_app.imaging.packing import pack_picture
from ipa_app.imaging.result_files import (
    EXACT_FORMATS,
    OutputFormat,
    file_suffix,
    is_whole_file,
    read_recipe,
    read_record,
    read_settings,
    whole_file,
    write_result,
)
from tests.noted_files import noted_file, with_data

FORMATS = get_args(OutputFormat)

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


@pytest.mark.parametrize("output_format", FORMATS)
def test_settings_and_pixels_come_back(picture: Image.Image, tmp_path: Path, output_format: OutputFormat) -> None:
    path = tmp_path / "result"
    write_result(picture, path, SETTINGS, output_format=output_format)
    assert read_settings(path) == SETTINGS
    with Image.open(path) as image:
        assert image.format == output_format.upper()
        assert (image.tobytes() == picture.tobytes()) == (output_format in EXACT_FORMATS)
        difference = ImageChops.difference(image.convert("RGB"), picture)
    assert int(np.asarray(difference).max()) < 64


def test_exact_formats_keep_what_is_transparent(picture: Image.Image, tmp_path: Path) -> None:
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    for output_format in ("png", "webp"):
        write_result(picture, tmp_path / "a", SETTINGS, output_format=output_format)
        with Image.open(tmp_path / "a") as image:
            assert (image.mode, image.tobytes()) == ("RGBA", picture.tobytes())
    assert set(EXACT_FORMATS) == {"png", "webp"}


@pytest.mark.parametrize("output_format", FORMATS)
def test_the_same_picture_gives_the_same_file(
    picture: Image.Image, tmp_path: Path, output_format: OutputFormat
) -> None:
    write_result(picture, tmp_path / "a", SETTINGS, output_format=output_format)
    write_result(picture, tmp_path / "b", dict(reversed(SETTINGS.items())), output_format=output_format)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_that_is_being_read_stays_whole(picture: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_result(picture, path, SETTINGS)
    whole = path.read_bytes()
    with path.open("rb") as reading:
        begun = reading.read(10)
        write_result(picture, path, SETTINGS)
        assert begun + reading.read() == whole
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.skipif(os.name == "nt", reason="permissions are of another kind")
def test_a_result_may_be_read_by_whom_new_files_may(picture: Image.Image, tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    write_result(picture, tmp_path / "a.png", SETTINGS)
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_a_file_that_two_write_at_once_is_that_of_the_last(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with whole_file(path) as first:
        first.write(b"first")
        with whole_file(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_other_programs_find_their_parameters(picture: Image.Image, tmp_path: Path) -> None:
    write_result(picture, tmp_path / "a.png", SETTINGS)
    text = Image.open(tmp_path / "a.png").info["parameters"]
    assert text.startswith("a cat,\nin snow: ❄ 雪\nNegative prompt: hat\nSteps: 20, ")
    assert "CFG scale: 3.0, Seed: 7, Size: 24x16, Model: toybox" in text


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
def test_other_programs_find_them_in_the_user_comment(
    picture: Image.Image, tmp_path: Path, output_format: OutputFormat
) -> None:
    settings = {**SETTINGS, "scheduler": "DDIM"}
    write_result(picture, tmp_path / "a", settings, output_format=output_format)
    write_result(picture, tmp_path / "b", settings)
    with Image.open(tmp_path / "a") as image, Image.open(tmp_path / "b") as png:
        comment = image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
        assert comment[:8] == b"UNICODE\0"
        assert comment[8:].decode("utf-16-be") == png.info["parameters"]
    other = read_other(tmp_path / "a")
    assert other is not None
    assert (other.prompt, other.negative_prompt, other.seed) == (SETTINGS["prompt"], "hat", 7)


def test_a_value_with_a_comma_stays_one_value_for_other_programs(picture: Image.Image, tmp_path: Path) -> None:
    write_result(picture, tmp_path / "a.png", {"prompt": "", "steps": 2, "model": 'my, "own": modèle ❄ 雪'})
    assert Image.open(tmp_path / "a.png").info["parameters"] == (
        '\nSteps: 2, Size: 24x16, Model: "my, \\"own\\": modèle ❄ 雪"'
    )


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("prompt", ["", "\0", "half \ud83d surrogate", "x" * 10_000])
def test_odd_prompts_are_written(
    picture: Image.Image, tmp_path: Path, prompt: str, output_format: OutputFormat
) -> None:
    write_result(picture, tmp_path / "a", {"prompt": prompt}, output_format=output_format)
    assert read_settings(tmp_path / "a") == {"prompt": prompt}
    with Image.open(tmp_path / "a") as image:
        comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, b"")
        parameters = image.info.get("parameters") or comment[8:].decode("utf-16-be")
    assert parameters.endswith("Size: 24x16")
    assert "\0" not in parameters, "a text ends there for other programs"


def test_settings_must_be_finite(picture: Image.Image, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_result(picture, tmp_path / "a.png", {"scale": float("nan")})


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("note", [None, "not json", "[1, 2]", "[" * 100_000])
def test_files_of_others_have_no_settings(
    picture: Image.Image, tmp_path: Path, note: str | None, output_format: OutputFormat
) -> None:
    notes = {} if note is None else {"ip_adapter_studio": note}
    assert read_settings(noted_file(tmp_path / "a", picture, output_format, notes)) is None


def test_what_is_no_picture_has_no_settings(picture: Image.Image, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    for name in ("a.txt", "missing.png"):
        assert read_settings(tmp_path / name) is None


def test_a_file_larger_than_any_result_is_not_read(picture: Image.Image, tmp_path: Path) -> None:
    write_result(picture, tmp_path / "a.png", {**SETTINGS, "scheduler": "DDIM"})
    for size, is_read in ((64 * 2**20, True), (64 * 2**20 + 1, False)):
        os.truncate(tmp_path / "a.png", size)
        for reading in (read_settings, read_other):
            assert (reading(tmp_path / "a.png") is not None) == is_read


NAMES = {"reference_1": "reference", "pose": "pose"}


@pytest.mark.parametrize("output_format", FORMATS)
def test_input_pictures_travel_in_the_file(picture: Image.Image, tmp_path: Path, output_format: OutputFormat) -> None:
    inputs = {"reference_1": pack_picture(picture, longest=512)}
    write_result(picture, tmp_path / "a", SETTINGS, inputs=inputs, output_format=output_format)
    settings, pictures = read_record(tmp_path / "a", names=NAMES)
    assert settings == SETTINGS
    assert list(pictures) == ["reference_1"]
    assert pictures["reference_1"].tobytes() == picture.tobytes()


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_recipe_is_a_file_of_its_own_that_is_read_as_the_picture_is(
    picture: Image.Image, tmp_path: Path, output_format: OutputFormat
) -> None:
    inputs = {"pose": pack_picture(picture.rotate(180), longest=512), "reference_1": pack_picture(picture, longest=512)}
    write_result(picture, tmp_path / "a", SETTINGS, inputs=inputs, output_format=output_format)
    recipe = read_recipe(tmp_path / "a")
    assert recipe == {"ip_adapter_studio": SETTINGS, "pictures": inputs}
    (tmp_path / "a.json").write_text(json.dumps(recipe), encoding="utf-8")
    settings, pictures = read_record(tmp_path / "a.json", names=NAMES)
    assert settings == read_settings(tmp_path / "a.json") == SETTINGS
    assert {name: each.tobytes() for name, each in pictures.items()} == {
        "reference_1": picture.tobytes(),
        "pose": picture.rotate(180).tobytes(),
    }
    write_result(picture, tmp_path / "b", SETTINGS, output_format=output_format)
    assert read_recipe(tmp_path / "b") == {"ip_adapter_studio": SETTINGS, "pictures": {}}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        '{"pictures": {}}',
        '{"ip_adapter_studio": {}, "pictures": []}',
        '{"ip_adapter_studio": {"scale": NaN}}',
        "[1]",
    ],
)
def test_json_that_is_no_recipe_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    for reading in (read_recipe, lambda path: read_record(path, names=NAMES)):
        with pytest.raises(UserError, match=r"does not say how it was made: .*\.$"):
            reading(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{"ip_adapter_studio": {"scale": 1}}')
    assert read_record(tmp_path / "a.json", names=NAMES) == ({"scale": 1}, {})


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_file_is_whole_where_nothing_of_it_is_missing(
    picture: Image.Image, tmp_path: Path, output_format: OutputFormat
) -> None:
    path = tmp_path / f"a{file_suffix(output_format)}"
    assert not is_whole_file(path)
    write_result(picture, path, SETTINGS, output_format=output_format)
    assert is_whole_file(path)
    with Image.open(path) as image:
        assert Image.registered_extensions()[path.suffix] == image.format
    whole = path.read_bytes()
    for length in (0, 20, len(whole) // 2 if output_format == "png" else 30):
        path.write_bytes(whole[:length])
        assert not is_whole_file(path)


def test_a_file_of_another_format_is_none_of_ours(picture: Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.gif")
    (tmp_path / "a.txt").write_text("hello")
    assert not any(is_whole_file(tmp_path / name) for name in ("a.gif", "a.txt", "missing.png"))


@pytest.mark.parametrize("output_format", FORMATS)
def test_many_and_large_notes_are_read_by_others_too(
    picture: Image.Image, tmp_path: Path, output_format: OutputFormat
) -> None:
    names = ("reference_1", "reference_2", "image", "mask")
    inputs = dict.fromkeys(names, pack_picture(Image.effect_noise((900, 900), 90), longest=1536))
    write_result(picture, tmp_path / "a", SETTINGS, inputs=inputs, output_format=output_format)
    assert (tmp_path / "a").stat().st_size > 2_000_000
    with Image.open(tmp_path / "a") as image:
        image.load()
        assert image.size == picture.size
    settings, pictures = read_record(tmp_path / "a", names=dict.fromkeys(names, "image"))
    assert settings == SETTINGS
    assert set(pictures) == set(names)


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("note", ["not json", "[1, 2]", "[" * 100_000, '{"scale": NaN}', "1" * 2_000_000])
def test_damaged_settings_are_refused_in_one_sentence(
    picture: Image.Image, tmp_path: Path, note: str, output_format: OutputFormat
) -> None:
    path = noted_file(tmp_path / "a", picture, output_format, {"ip_adapter_studio": note})
    with pytest.raises(UserError, match=r"damaged: .*\.$"):
        read_record(path, names=NAMES)


DATA = {
    "nothing": (b"", "does not say"),
    "a name alone": (b"ip_adapter_studio", "does not say"),
    "zeros": (bytes(1_000_000), "does not say"),
    "no text": (b"ip_adapter_studio\0{\xff\xfe}", "damaged"),
    "cut off": (b'ip_adapter_studio\0{"scale": 1', "damaged"),
    "a picture cut off": (b"ip_adapter_studio\0{}\0ip_adapter_studio:reference_1\0UklG", "damaged"),
}


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
@pytest.mark.parametrize("which", DATA)
def test_damaged_data_in_place_of_notes_is_refused_in_one_sentence(
    picture: Image.Image, tmp_path: Path, which: str, output_format: OutputFormat
) -> None:
    data, told = DATA[which]
    with pytest.raises(UserError, match=told):
        read_record(with_data(tmp_path / "a", picture, output_format, data), names=NAMES)


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
def test_a_file_with_damaged_exif_data_or_cut_anywhere_is_refused_in_one_sentence(
    picture: Image.Image, tmp_path: Path, output_format: OutputFormat
) -> None:
    write_result(picture, tmp_path / "a", SETTINGS, output_format=output_format)
    whole = (tmp_path / "a").read_bytes()
    exif = whole.index(b"MM\0*")
    broken = [whole[: exif + at] + b"\xff" * 4 + whole[exif + at + 4 :] for at in range(0, 64, 2)]
    for data in (*broken, *(whole[:length] for length in range(0, len(whole), 37))):
        (tmp_path / "b").write_bytes(data)
        try:
            settings, _ = read_record(tmp_path / "b", names=NAMES)
        except UserError as error:
            assert str(error).endswith(".")  # noqa: PT017 - most of them are refused, some are whole enough
        else:
            assert settings == SETTINGS
        read_other(tmp_path / "b")


def unfolding_note(picture: Image.Image, path: Path, note: bytes) -> Path:
    notes = PngInfo()
    notes.add_text("ip_adapter_studio", json.dumps(SETTINGS))
    notes.add_text("ip_adapter_studio", note, zip=True)
    picture.save(path, pnginfo=notes)
    return path


def test_a_note_that_unfolds_without_end_is_refused(picture: Image.Image, tmp_path: Path) -> None:
    path = unfolding_note(picture, tmp_path / "a.png", b"0" * 300_000_000)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(UserError, match="does not say how it was made"):
        read_record(path, names=NAMES)


@pytest.mark.parametrize("name", ["foreign.png", "picture.jpg", "picture.webp", "text.png", "missing.png", "empty.png"])
def test_files_of_others_are_refused_in_one_sentence(picture: Image.Image, tmp_path: Path, name: str) -> None:
    picture.save(tmp_path / "foreign.png")
    picture.save(tmp_path / "picture.jpg")
    picture.save(tmp_path / "picture.webp")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    with pytest.raises(UserError, match=r"does not say how it was made: .*\.$"):
        read_record(tmp_path / name, names=NAMES)


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_bomb_inside_is_refused_before_it_is_decoded(
    picture: Image.Image, tmp_path: Path, output_format: OutputFormat
) -> None:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, format="PNG")
    for text in (
        base64.b64encode(buffer.getvalue()).decode(),
        "no base64!",
        "äöü",
        "",
        base64.b64encode(b"x").decode(),
    ):
        notes = {"ip_adapter_studio": json.dumps(SETTINGS), "ip_adapter_studio:reference_1": text}
        path = noted_file(tmp_path / "a", picture, output_format, notes)
        with pytest.raises(UserError, match="inside this file is damaged"):
            read_record(path, names=NAMES)
