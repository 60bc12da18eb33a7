"""Any upload becomes an upright RGB picture or one clear sentence."""

from __future__ import annotations

import io
import random
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.imaging.opening import CLIP_MEAN, open_image

RED, GREEN, BLUE = (200, 30, 40), (20, 180, 60), (30, 40, 200)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int = 40, height: int = 24) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises `width` x `height` RGB pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def near(pixel: Any, colour: tuple[int, int, int], tolerance: int = 12) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(pixel, colour, strict=True))


def test_path_bytes_picture_and_array_give_the_same_pixels(tmp_path: Path) -> None:
    picture = noise()
    path = tmp_path / "a picture.png"
    picture.save(path)
    for source in (path, str(path), path.read_bytes(), picture, np.asarray(picture)):
        opened = open_image(source)
        assert opened.mode == "RGB"
        assert opened.tobytes() == picture.tobytes()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_common_formats_open(kind: str) -> None:
    opened = open_image(encoded(Image.new("RGB", (32, 16), RED), kind))
    assert opened.size == (32, 16)
    assert near(opened.getpixel((5, 5)), RED)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"just some words, not a picture",
        b'<svg xmlns="http://www.w3.org/2000/svg" width="100" height="100"><rect width="9" height="9"/></svg>',
        b"<!DOCTYPE html><html><body><script>alert(1)</script></body></html>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n",
        b"%PDF-1.7\n",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
    ],
)
def test_what_is_not_a_picture_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    for source in (data, path):
        with pytest.raises(UserError, match="cannot be opened as a picture"):
            open_image(source)


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.png"):
        with pytest.raises(UserError):
            open_image(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF"])
def test_a_truncated_file_is_refused(kind: str) -> None:
    data = encoded(noise(64, 64), kind)
    with pytest.raises(UserError):
        open_image(data[: len(data) // 2])


def test_damaged_files_never_end_in_another_error() -> None:
    rng = random.Random(0)
    files = [encoded(noise(), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")]
    for data in files * 40:
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 8)):
            damaged[rng.randrange(min(len(damaged), 200))] = rng.randrange(256)
        try:
            assert open_image(bytes(damaged)).mode == "RGB"
        except UserError as error:
            assert str(error).endswith(".")


@pytest.mark.parametrize("size", [(20_000, 20_000), (8_000, 8_000), (60_000, 1_000), (2**31 - 1, 2**31 - 1)])
def test_too_many_pixels_are_refused_from_the_header(size: tuple[int, int]) -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match="50 million pixels"):
        open_image(png_header(*size))
    assert time.monotonic() - started < 1


def test_decoded_pictures_are_bounded_as_well() -> None:
    with pytest.raises(UserError, match="100 x 100 pixels"):
        open_image(Image.new("RGB", (100, 100)), max_pixels=9_999)


@pytest.mark.parametrize("size", [(1, 1), (1, 100), (100, 7)])
def test_too_small_pictures_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UserError, match=f"{size[0]} x {size[1]} pixels.*at least 8 x 8"):
        open_image(encoded(Image.new("RGB", size), "PNG"))


def test_cmyk_jpeg() -> None:
    opened = open_image(encoded(Image.new("RGB", (32, 32), RED).convert("CMYK"), "JPEG", quality=95))
    assert near(opened.getpixel((9, 9)), RED)


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, GREEN, BLUE)]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
        assert near(open_image(data).getpixel((3, 3)), RED)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = Image.new("RGB", (32, 16), GREEN)
    upright.paste(RED, (0, 0, 16, 8))
    stored = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    opened = open_image(encoded(stored, "PNG", exif=exif))
    assert opened.size == upright.size
    assert opened.tobytes() == upright.tobytes()


def test_damaged_exif_counts_as_upright() -> None:
    opened = open_image(encoded(noise(), "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff\x01"))
    assert opened.size == (40, 24)


def with_alpha(mode: str) -> Image.Image:
    image = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    image.paste((120, 120, 120, 255), (0, 0, 10, 20))
    return image.convert(mode)


def test_transparency_shows_the_background() -> None:
    palette = Image.new("P", (20, 20), 0)
    palette.putpalette([0, 0, 0, 120, 120, 120])
    palette.paste(1, (0, 0, 10, 20))
    files = [
        encoded(with_alpha("RGBA"), "PNG"),
        encoded(with_alpha("LA"), "PNG"),
        encoded(with_alpha("RGBA"), "WEBP", lossless=True),
        encoded(palette, "PNG", transparency=0),
        encoded(palette, "GIF", transparency=0),
    ]
    for data in files:
        assert open_image(data).getpixel((15, 5)) == (255, 255, 255)
        opened = open_image(data, background=CLIP_MEAN)
        assert opened.getpixel((15, 5)) == CLIP_MEAN
        assert opened.getpixel((5, 5)) == (120, 120, 120)


def test_rgb_with_one_transparent_colour() -> None:
    image = Image.new("RGB", (20, 20), GREEN)
    image.paste(RED, (0, 0, 10, 20))
    opened = open_image(encoded(image, "PNG", transparency=GREEN))
    assert opened.getpixel((15, 5)) == (255, 255, 255)
    assert opened.getpixel((5, 5)) == RED


def test_sixteen_bit_grey_keeps_its_brightness() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    for kind in ("PNG", "TIFF"):
        opened = np.asarray(open_image(encoded(Image.fromarray(ramp), kind)))
        assert np.abs(opened[:, :, 0].astype(int) - np.arange(256).reshape(16, 16)).max() <= 1


def test_floating_point_grey() -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    ramp[0, 0] = np.nan
    opened = np.asarray(open_image(encoded(Image.fromarray(ramp), "TIFF")))
    assert opened[0, 0, 0] == 0
    assert opened[15, 15, 0] == 255


def test_black_and_white_bits() -> None:
    assert open_image(encoded(Image.new("1", (16, 16), 1), "PNG")).getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((20, 20, 5), np.uint8),
        np.zeros((20,), np.uint8),
        np.zeros((0, 20, 3), np.uint8),
        np.zeros((20, 20, 3), np.float32),
    ],
)
def test_arrays_that_are_no_picture_are_refused(array: np.ndarray) -> None:
    with pytest.raises(UserError, match="not a picture"):
        open_image(array)


def test_metadata_of_uploads_does_not_travel_on() -> None:
    assert open_image(encoded(noise(), "JPEG", icc_profile=b"profile", comment=b"home address")).info == {}
