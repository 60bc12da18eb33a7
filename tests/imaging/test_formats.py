"""Picture formats are declared once, and recognised correctly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.imaging.formats import FORMATS, MAX_PIXELS, SHOWN_BY_BROWSERS, format_names, format_of, pixel_count
from ipa_app.imaging.opening import open_image
from tests.picture_files import encoded

GUIDE = (Path(__file__).parents[2] / "docs" / "guide.md").read_text(encoding="utf-8")
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))


def test_every_format_that_is_named_opens_and_no_other_is_named() -> None:
    with pytest.raises(UserError) as refused:
        open_image(b"no picture")
    assert str(refused.value) == (
        "This file cannot be opened as a picture: please use one of these formats: PNG, JPEG, WebP, GIF, BMP, TIFF, "
        "AVIF, HEIC."
    )
    assert format_names().split(", ") == list(FORMATS.values())
    for name in FORMATS:
        assert open_image(encoded(PICTURE, name)).size == PICTURE.size
    for other in ("PPM", "ICO", "TGA", "JPEG2000", "PDF"):
        with pytest.raises(UserError, match="one of these formats"):
            open_image(encoded(PICTURE, other))


def test_the_guide_names_the_formats() -> None:
    *names, last = FORMATS.values()
    assert f"{', '.join(names)} and {last}" in " ".join(GUIDE.split())


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "BMP"])
def test_a_format_is_told_from_the_first_bytes(name: str) -> None:
    assert format_of(encoded(PICTURE, name)[:64]) == name
    assert set(SHOWN_BY_BROWSERS) < set(FORMATS)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x10ftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x10ftypavis\0\0\0\0", "AVIF"),
        (b"\0\0\0\x10ftypheic\0\0\0\0", "HEIF"),
        (b"\0\0\0\x10ftypmsf1\0\0\0\0", "HEIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "AVIF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommif1", "HEIF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp41", None),
        (b"RIFF\x24\0\0\0WEBPVP8L", "WEBP"),
        (b"RIFF\x24\0\0\0WAVEfmt ", None),
        (b"MM\0+\0\x08\0\0", "TIFF"),
        (b"", None),
    ],
)
def test_a_format_is_told_from_whichever_brand_a_file_names(data: bytes, name: str | None) -> None:
    assert format_of(data) == name


@pytest.mark.parametrize("name", FORMATS)
def test_pixels_are_counted_without_decoding(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").write_bytes(encoded(PICTURE.crop((0, 0, 40, 30)), name))
    assert pixel_count(tmp_path / "a") == pixel_count(str(tmp_path / "a")) == 40 * 30


def test_of_what_cannot_be_counted_a_tiff_is_as_large_as_any_and_all_else_nothing(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "deep.tif", np.zeros((20, 20, 3), np.float32), photometric="rgb")
    assert pixel_count(tmp_path / "deep.tif") == MAX_PIXELS
    (tmp_path / "a.txt").write_text("no picture")
    Image.new("1", (8_000, 8_000)).save(tmp_path / "huge.png")
    for name in ("a.txt", "huge.png", "missing.png"):
        assert pixel_count(tmp_path / name) == 0


def test_without_its_package_a_heic_picture_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(PICTURE, "HEIF")
    monkeypatch.delitem(Image.OPEN, "HEIF")
    with pytest.raises(UserError) as refused:
        open_image(data)
    assert str(refused.value) == (
        "HEIC pictures cannot be opened here, as the package pillow-heif is not installed: please save this one as a "
        "JPEG or PNG."
    )
    with pytest.raises(UserError, match="TIFF, AVIF\\.$"):
        open_image(b"no picture")
    assert open_image(encoded(PICTURE)).tobytes() == PICTURE.tobytes()


@pytest.mark.parametrize("tags", [{254: 1, 271: "NIKON"}, {50706: b"\x01\x04\0\0"}], ids=["a preview", "DNG"])
def test_the_preview_in_a_cameras_raw_file_is_not_taken_for_the_photo(tags: dict[int, object]) -> None:
    with pytest.raises(UserError, match="camera's raw file.*save it from your photo program as a JPEG or PNG"):
        open_image(encoded(PICTURE, "TIFF", tiffinfo=tags))
    assert open_image(encoded(PICTURE, "TIFF", tiffinfo={254: 0})).size == PICTURE.size


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_jpeg_may_have_many_parts_of_exif_data_but_no_more_than_programs_write(kind: str, tmp_path: Path) -> None:
    data = encoded(PICTURE, kind)
    part = b"\xff\xe1" + (2 + 6).to_bytes(2, "big") + b"Exif\0\0"
    for count, is_opened in ((64, True), (65, kind == "PNG")):
        path = tmp_path / "a"
        # Data after a PNG is ignored.
        path.write_bytes(data[:2] + count * part + data[2:] if kind == "JPEG" else data + count * part)
        assert pixel_count(path) == (40 * 40 if is_opened else 0)
