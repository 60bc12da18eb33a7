"""Any upload becomes an upright RGB picture or one clear sentence."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.imaging.mask_files import read_mask
from ipa_app.imaging.opening import CLIP_MEAN, Opened, decode, open_image, read_image
from tests.effort import check_cpu_s
from tests.picture_files import encoded, grey_png, noise

RED, GREEN, BLUE = (200, 30, 40), (20, 180, 60), (30, 40, 200)


def png_header(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes that declares `width` x `height` RGB pixels."""

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


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"])
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


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF", "HEIF"])
def test_a_truncated_file_is_refused_as_what_it_is(kind: str) -> None:
    data = encoded(noise(64, 64), kind)
    for length in (len(data) // 2, 24):
        with pytest.raises(UserError, match="damaged or incomplete"):
            open_image(data[:length])


def test_a_picture_without_its_palette_is_damaged() -> None:
    data = encoded(noise().convert("P"), "PNG")
    at = data.index(b"PLTE") - 4
    without = data[:at] + data[at + 12 + int.from_bytes(data[at : at + 4], "big") :]
    for opening in (open_image, lambda data: read_mask(data, Opened(image=noise()))):
        with pytest.raises(UserError, match="damaged or incomplete"):
            opening(without)


def test_damaged_files_never_end_in_another_error() -> None:
    rng = random.Random(0)
    files = [encoded(noise(), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")]
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
    def refused() -> None:
        with pytest.raises(UserError, match="50 million pixels"):
            open_image(png_header(*size))

    check_cpu_s(refused, most=1)


def test_decoded_pictures_are_bounded_as_well() -> None:
    with pytest.raises(UserError, match="100 x 100 pixels"):
        open_image(Image.new("RGB", (100, 100)), max_pixels=9_999)


@pytest.mark.parametrize("size", [(1, 1), (1, 100), (100, 7)])
def test_too_small_pictures_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UserError, match=f"{size[0]} x {size[1]} pixels.*at least 8 x 8"):
        open_image(encoded(Image.new("RGB", size), "PNG"))


def test_eight_pixels_a_side_are_enough_unless_more_or_fewer_are_asked_for() -> None:
    for source in (noise(8, 8), encoded(noise(8, 8))):
        for opening in (open_image, read_image, decode):
            opening(source)
            with pytest.raises(UserError, match="8 x 8 pixels.*at least 9 x 9"):
                opening(source, min_side=9)
    for source in (noise(1, 2), encoded(noise(1, 2))):
        assert read_image(source, min_side=1).image.size == (1, 2)


@pytest.mark.parametrize("make", [Image.fromarray, lambda values: encoded(Image.fromarray(values), "TIFF")])
def test_a_guess_is_told_by_the_name_of_the_picture(make: Callable[[np.ndarray], Image.Image | bytes]) -> None:
    values = np.full((16, 16), 255, np.float32)
    told = "The pose has values up to 255; 255 was taken as white."
    assert read_image(make(values), name="The pose").notes == (told,)


def test_cmyk_jpeg() -> None:
    opened = open_image(encoded(Image.new("RGB", (32, 32), RED).convert("CMYK"), "JPEG", quality=95))
    assert near(opened.getpixel((9, 9)), RED)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_the_first_frame_of_an_animation_and_the_first_page_are_used_and_it_is_said(kind: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, GREEN, BLUE)]
    opened = read_image(
        encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100), name="The pose"
    )
    assert near(opened.image.getpixel((3, 3)), RED)
    assert opened.notes == ("The pose has several frames or pages; the first is used.",)
    assert read_image(encoded(frames[0], kind)).notes == ()


def test_the_main_picture_of_a_heic_file_is_used_and_it_is_said() -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in (RED, GREEN, BLUE)]
    opened = read_image(encoded(frames[0], "HEIF", save_all=True, append_images=frames[1:], primary_index=1))
    assert near(opened.image.getpixel((3, 3)), GREEN)
    assert opened.notes == ("This picture is in a file with several pictures; the main one is used.",)


def test_what_phones_append_to_a_photo_is_no_matter() -> None:
    opened = read_image(encoded(noise(64, 64), "MPO", save_all=True, append_images=[noise(32, 32)]))
    assert opened.image.size == (64, 64)
    assert opened.notes == ()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    upright = Image.new("RGB", (128, 64), GREEN)
    upright.paste(RED, (0, 0, 64, 32))
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
    options = {"tiffinfo": {0x0112: orientation}} if kind == "TIFF" else {"exif": exif.tobytes()}
    opened = open_image(encoded(stored, kind, **options))
    assert opened.size == upright.size
    assert np.abs(np.asarray(opened).astype(int) - np.asarray(upright)).mean() < (3 if kind == "HEIF" else 0.1)


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


def test_transparency_is_kept_where_it_is_asked_for() -> None:
    for data in (
        encoded(with_alpha("RGBA"), "PNG"),
        encoded(with_alpha("LA"), "PNG"),
        encoded(with_alpha("LA"), "TIFF"),
    ):
        image = read_image(data).image
        assert image.mode == "RGBA"
        assert (image.getpixel((15, 5)), image.getpixel((5, 5))) == ((0, 0, 0, 0), (120, 120, 120, 255))
    assert read_image(encoded(noise().convert("RGBA"), "PNG")).image.mode == "RGB"


@pytest.mark.parametrize(("opacity", "is_seen"), [(249, True), (250, False), (254, False)])
def test_traces_of_transparency_are_kept_but_not_seen(opacity: int, is_seen: bool) -> None:
    picture = noise()
    picture.putalpha(opacity)
    kept = read_image(encoded(picture)).image
    assert (kept.mode, kept.tobytes()) == ("RGBA", picture.tobytes())
    assert (open_image(encoded(picture), background=CLIP_MEAN).tobytes() != noise().tobytes()) == is_seen


@pytest.mark.parametrize("mode", ["L", "La", "LA", "PA", "RGBa", "RGBA", "RGBX", "HSV", "YCbCr", "P"])
def test_pictures_of_every_mode(mode: str) -> None:
    grey = Image.new("RGB", (20, 20), (102, 102, 102))
    way = {"La": "LA", "RGBa": "RGBA", "PA": "P"}.get(mode, mode)
    assert near(open_image(grey.convert(way).convert(mode)).getpixel((3, 3)), (102, 102, 102), 1)


def test_a_picture_in_which_nothing_can_be_seen_is_refused() -> None:
    with pytest.raises(UserError, match="transparent all over"):
        open_image(encoded(Image.new("RGBA", (20, 20), (9, 9, 9, 0)), "PNG"))


def bitmap(image: Image.Image) -> bytes:
    """Return a BMP with a mask for its alpha channel (BITMAPV4HEADER), which Pillow does not write."""
    rows = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).tobytes("raw", "BGRA")
    header = struct.pack("<IiiHHIIiiII", 108, *image.size, 1, 32, 3, len(rows), 2835, 2835, 0, 0)
    header += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(rows), 0, 0, 14 + len(header)) + header + rows


def test_an_alpha_channel_of_a_bitmap_counts_unless_nothing_is_in_it() -> None:
    # Windows' own programs write such files and use the colours only.
    for data in (
        bitmap(Image.new("RGBA", (20, 20), (*RED, 0))),
        encoded(Image.new("RGBA", (20, 20), (*RED, 0)), "BMP"),
    ):
        opened = read_image(data).image
        assert (opened.mode, opened.getpixel((3, 3))) == ("RGB", RED)
    half = Image.new("RGBA", (20, 20), (*RED, 0))
    half.paste((*GREEN, 200), (10, 0, 20, 20))
    opened = read_image(bitmap(half)).image
    assert (opened.mode, opened.tobytes()) == ("RGBA", half.tobytes())
    assert open_image(bitmap(half)).getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize(("mode", "transparent"), [("RGB", b"\1"), ("P", (1, 2, 3)), ("L", b"\1")])
def test_colours_that_cannot_be_read_are_told_with_their_mode(mode: str, transparent: object) -> None:
    picture = Image.new(mode, (16, 16))
    picture.info["transparency"] = transparent
    with pytest.raises(UserError) as refused:
        open_image(picture)
    assert str(refused.value) == (
        f"The colours of this picture (mode {mode}) cannot be read: please save it as a plain PNG or JPEG."
    )


def test_rgb_with_one_transparent_colour() -> None:
    image = Image.new("RGB", (20, 20), GREEN)
    image.paste(RED, (0, 0, 10, 20))
    opened = open_image(encoded(image, "PNG", transparency=GREEN))
    assert opened.getpixel((15, 5)) == (255, 255, 255)
    assert opened.getpixel((5, 5)) == RED


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_one_transparent_grey_of_a_png_of_any_depth(bits: int) -> None:
    largest = 2**bits - 1
    levels = np.arange(20 * 20).reshape(20, 20) % (largest + 1)
    for transparent in {0, largest // 3, largest}:
        seen = np.asarray(read_image(grey_png(levels, bits=bits, transparent=transparent)).image)
        assert np.array_equal(seen[..., 3], np.where(levels == transparent, 0, 255))
        assert np.array_equal(seen[..., 0], levels * 255 // largest)


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
    assert read_image(encoded(with_alpha("RGBA"), "PNG", icc_profile=b"profile", dpi=(300, 300))).image.info == {}
