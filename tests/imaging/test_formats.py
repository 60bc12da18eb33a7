"""Which files are pictures is declared once, and told truly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.imaging.formats import FORMATS, SHOWN_BY_BROWSERS, format_names, format_of
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


@pytest.mark.parametrize("tags", [{254: 1}, {50706: b"\x01\x04\0\0"}], ids=["a preview", "DNG"])
def test_the_preview_in_a_cameras_raw_file_is_not_taken_for_the_photo(tags: dict[int, object]) -> None:
    with pytest.raises(UserError, match="camera's raw file.*save it from your photo program as a JPEG or PNG"):
        open_image(encoded(PICTURE, "TIFF", tiffinfo=tags))
    assert open_image(encoded(PICTURE, "TIFF", tiffinfo={254: 0})).size == PICTURE.size
