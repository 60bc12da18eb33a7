"""Pictures with more than eight bits per channel keep their brightness."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.imaging.opening import read_image
from tests.picture_files import COLOURS, encoded, in_p3, linear, p3_profile, patches

EXPECTED = np.random.default_rng(0).integers(0, 256, (24, 40, 3)).astype(np.uint8)
UNITS = EXPECTED / np.float32(255)


def tiff(values: np.ndarray | Iterator[bytes], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **{"photometric": "rgb" if np.ndim(values) == 3 else "minisblack", **options})
    return buffer.getvalue()


def opencv_tiff(values: np.ndarray, compression: int) -> bytes:
    done, data = cv2.imencode(".tif", values[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, compression])
    assert done
    return data.tobytes()


def planes(values: np.ndarray) -> np.ndarray:
    """Return (H, W, channels) as planes (channels, H, W)."""
    return np.moveaxis(values, 2, 0)


def with_tag(data: bytes, tag: int, before: int, after: int) -> bytes:
    """Return a little-endian TIFF with another value of a tag."""
    entry = struct.Struct("<HHIHH")
    assert data.count(entry.pack(tag, 3, 1, before, 0)) == 1
    return data.replace(entry.pack(tag, 3, 1, before, 0), entry.pack(tag, 3, 1, after, 0))


def lzw_tiff(values: np.ndarray, byteorder: str, orientation: int) -> bytes:
    """Return a TIFF like tifffile's, but with LZW, which tifffile needs a package for; TIFF 6.0, section 13.

    The code table is cleared so often that every code has nine bits.
    """
    plain = values.astype(values.dtype.newbyteorder(byteorder)).tobytes()
    codes = [code for at in range(0, len(plain), 250) for code in (256, *plain[at : at + 250])]
    bits = "".join(f"{code:09b}" for code in (*codes, 257)).ljust(-(-9 * (len(codes) + 1) // 8) * 8, "0")
    coded = int(bits, 2).to_bytes(len(bits) // 8, "big")
    data = tiff(
        iter([coded]),
        photometric="rgb",
        shape=values.shape,
        dtype=values.dtype.newbyteorder(byteorder),
        compression="zlib",
        byteorder=byteorder,
        rowsperstrip=len(values),
        extratags=[(274, "H", 1, orientation, True)],
    )
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        at = file.pages.first.tags["Compression"].valueoffset
    return data[:at] + (5).to_bytes(2, "little" if byteorder == "<" else "big") + data[at + 2 :]


def pixels(data: bytes) -> np.ndarray:
    opened = read_image(data)
    assert opened.notes == ()
    return np.asarray(opened.image).astype(int)


@pytest.mark.parametrize(
    "data",
    [
        tiff(UNITS),
        tiff(UNITS.astype(np.float16)),
        tiff(UNITS.astype(np.float64)),
        tiff(UNITS.astype(">f4"), byteorder=">"),
        tiff(planes(UNITS), planarconfig="separate"),
        tiff(UNITS, compression="zlib"),
        tiff(UNITS, bigtiff=True),
        tiff(EXPECTED.astype(np.uint16) * 257),
        tiff(planes(EXPECTED.astype(np.uint16) * 257), planarconfig="separate"),
        tiff(planes(EXPECTED.astype(">u2") * 257), planarconfig="separate", byteorder=">", rowsperstrip=5),
        tiff(planes(EXPECTED.astype(np.uint16) * 257), planarconfig="separate", tile=(16, 16)),
        tiff(planes(EXPECTED.astype(np.uint16) * 257), planarconfig="separate", compression="zlib"),
        tiff(EXPECTED.astype(np.uint32) * 257),
        opencv_tiff(UNITS, 5),
        opencv_tiff(UNITS, 8),
    ],
    ids=[
        *("float", "half", "double", "big-endian", "planes", "deflate", "BigTIFF", "16", "16 in planes"),
        *("16 in planes, big-endian", "16 in tiles of planes", "16 in planes, deflate", "32", "LZW", "Adobe deflate"),
    ],
)
def test_colours_of_every_depth(data: bytes) -> None:
    assert np.abs(pixels(data) - EXPECTED).max() <= 1


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.uint16, np.uint32, np.int32])
def test_grey_of_every_depth(kind: Any) -> None:
    grey = np.arange(256).reshape(16, 16)
    values = (grey / 255).astype(kind) if np.issubdtype(kind, np.floating) else (grey * 257).astype(kind)
    assert np.abs(pixels(tiff(values)) - grey[..., None]).max() <= 1


def test_transparency_of_deep_pictures() -> None:
    opacity = np.linspace(0, 1, 24 * 40, dtype=np.float32).reshape(24, 40, 1)
    for kind, colours in (("unassalpha", UNITS), ("assocalpha", UNITS * opacity)):
        opened = read_image(tiff(np.concatenate([colours, opacity], axis=2), extrasamples=[kind])).image
        assert opened.mode == "RGBA"
        seen = np.asarray(opened).astype(int)
        assert np.abs(seen[..., 3] - 255 * opacity[..., 0]).max() <= 1
        assert np.abs(seen[8:, :, :3] - EXPECTED[8:]).max() <= 2
    grey = np.full((16, 16), 30_000, np.uint16)
    grey[:, 8:] = 7
    opened = read_image(encoded(Image.fromarray(grey), transparency=7)).image
    assert [opened.getpixel(at) for at in ((2, 2), (12, 2))] == [(117, 117, 117, 255), (0, 0, 0, 0)]


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("colours", [EXPECTED, EXPECTED[..., :1]], ids=["colours", "grey"])
def test_transparency_in_a_plane_of_its_own(colours: np.ndarray, kind: Any, compression: str | None) -> None:
    opacity = np.linspace(0, 255, 24 * 40).astype(np.uint8).reshape(24, 40, 1)
    planes = np.moveaxis(np.concatenate([colours, opacity], axis=2), 2, 0).astype(kind)
    data = tiff(
        planes * kind(np.iinfo(kind).max // 255),
        photometric="rgb" if len(planes) == 4 else "minisblack",
        planarconfig="separate",
        extrasamples=["unassalpha"],
        compression=compression,
    )
    seen = np.asarray(read_image(data).image)
    assert np.array_equal(seen, np.concatenate([np.broadcast_to(colours, EXPECTED.shape), opacity], axis=2))


def test_a_deep_file_with_several_pages_says_that_the_first_is_used() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for values in (UNITS, 1 - UNITS):
            file.write(values, photometric="rgb")
    opened = read_image(buffer.getvalue())
    assert np.abs(np.asarray(opened.image).astype(int) - EXPECTED).max() <= 1
    assert opened.notes == ("This picture has several frames or pages; the first is used.",)


@pytest.mark.parametrize("is_negative", [False, True])
@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.uint16])
def test_a_grey_picture_may_say_that_its_planes_are_separate(kind: Any, *, is_negative: bool) -> None:
    grey = np.arange(256).reshape(16, 16)
    values = {np.bool_: grey > 99, np.uint8: grey.astype(np.uint8), np.uint16: (grey * 257).astype(np.uint16)}[kind]
    data = encoded(Image.fromarray(values), "TIFF")
    data = with_tag(data, 262, 1, 0) if is_negative else data
    # With one sample a pixel, this changes nothing.
    expected, seen = (np.asarray(read_image(each).image.convert("L")) for each in (data, with_tag(data, 284, 1, 2)))
    assert np.array_equal(seen, expected) and (seen[0, 0] == 255) == is_negative


def test_colours_in_separate_planes_that_cannot_be_read_are_not_said_to_be_damaged() -> None:
    buffer = io.BytesIO()
    inks = np.zeros((4, 24, 40), np.uint16)
    tifffile.imwrite(buffer, inks, photometric="separated", planarconfig="separate")
    with pytest.raises(UserError, match="colours of this TIFF file cannot be read"):
        read_image(buffer.getvalue())


def test_a_sixteen_bit_picture_in_which_white_is_zero() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    assert (
        np.abs(pixels(tiff(ramp, photometric="miniswhite"))[..., 0] - (255 - np.arange(256).reshape(16, 16))).max() <= 1
    )


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.uint16, np.uint32])
def test_white_is_zero_however_dark_a_picture_is(kind: Any) -> None:
    grey = np.arange(100, 200).reshape(10, 10).repeat(2, axis=0)
    values = (grey / 255).astype(kind) if np.issubdtype(kind, np.floating) else (grey * 257).astype(kind)
    assert np.abs(pixels(tiff(values, photometric="miniswhite"))[..., 0] - (255 - grey)).max() <= 1


def test_where_white_is_zero_nothing_else_is_turned_round() -> None:
    grey, opacity = np.full((16, 16), 0.25, np.float32), np.full((16, 16), 0.75, np.float32)
    values = np.stack([grey, opacity], axis=2)
    data = tiff(values, photometric="miniswhite", planarconfig="contig", extrasamples=["unassalpha"])
    assert read_image(data).image.getpixel((3, 3)) == (191, 191, 191, 191)


def test_a_deep_picture_is_turned_and_its_profile_counts() -> None:
    wide = patches(in_p3())
    units = np.asarray(wide) / np.float32(255)
    tags = [(274, "H", 1, 6, True), (34675, 7, len(p3_profile()), p3_profile(), True)]
    for data in (tiff(units, extratags=tags), tiff(units, extratags=tags, compression="zlib")):
        opened = read_image(data)
        assert opened.turn == Image.Transpose.ROTATE_270
        assert np.abs(np.asarray(opened.image)[8::16, 8].astype(int) - COLOURS).max() <= 2
    # Linear light, as photo software saves it.
    bright = linear(EXPECTED[:, :, :1].repeat(3, axis=2) / 255).astype(np.float32)
    assert np.abs(pixels(tiff(bright)) - 255 * bright).max() <= 1


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("kind", [np.float32, np.uint32])
def test_a_deep_picture_in_lzw_is_turned_once_and_nothing_is_logged(
    kind: Any, byteorder: str, capfd: pytest.CaptureFixture[str]
) -> None:
    values = UNITS if kind == np.float32 else (EXPECTED.astype(kind) * 257)
    opened = read_image(lzw_tiff(values, byteorder, 6))
    assert opened.turn == Image.Transpose.ROTATE_270
    upright = np.asarray(Image.fromarray(EXPECTED).transpose(Image.Transpose.ROTATE_270)).astype(int)
    assert np.abs(np.asarray(opened.image) - upright).max() <= 1
    assert capfd.readouterr().err == ""


WHITE = "This picture is brighter than white in places, and these were made white."


@pytest.mark.parametrize(
    ("values", "expected", "note"),
    [
        (np.where(EXPECTED > 250, np.float32(40), UNITS), np.where(EXPECTED > 250, 255, EXPECTED), WHITE),
        # Most of the picture is at white level.
        (np.where(EXPECTED > 250, np.float32(40), 1), np.full_like(EXPECTED, 255), WHITE),
        (
            EXPECTED.astype(np.float32),
            EXPECTED,
            "This picture has values up to 255; 255 was taken as white.",
        ),
        (
            EXPECTED.astype(np.float32) * 257,
            EXPECTED,
            "This picture has values up to 65535; 65535 was taken as white.",
        ),
        (
            EXPECTED.astype(np.uint32),
            EXPECTED,
            "This picture has values up to 255; 255 was taken as white.",
        ),
        (
            EXPECTED.astype(np.uint32) * 16_843_009,
            EXPECTED,
            "This picture has values up to 4.29497e+09; 4.29497e+09 was taken as white.",
        ),
        (
            EXPECTED.astype(np.float32) * 1000,
            EXPECTED,
            "This picture has values up to 255000; 255000 was taken as white.",
        ),
    ],
    ids=[
        "brighter than white",
        "hardly anything else",
        "0 to 255",
        "0 to 65535",
        "bytes in 32 bits",
        "all of 32 bits",
        "0 to 255000",
    ],
)
def test_numbers_of_another_range_are_guessed_and_it_is_said(
    values: np.ndarray, expected: np.ndarray, note: str
) -> None:
    opened = read_image(tiff(values))
    assert np.abs(np.asarray(opened.image).astype(int) - expected).max() <= 1
    assert opened.notes == (note,)


def test_what_is_no_number_is_black_and_what_is_endless_white() -> None:
    odd = UNITS.copy()
    odd[0, 0], odd[0, 1], odd[0, 2], odd[0, 3] = np.nan, np.inf, -np.inf, -3
    for data in (tiff(odd), tiff(odd[..., 0])):
        assert np.asarray(read_image(data).image)[0, :4].tolist() == [[0] * 3, [255] * 3, [0] * 3, [0] * 3]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.zeros((20, 20, 5), np.float32), "colours of this TIFF file cannot be read"),
        (np.zeros((4, 20, 3), np.float32), "only 20 x 4 pixels"),
    ],
)
def test_deep_pictures_that_cannot_be_used_are_said_plainly(values: np.ndarray, told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_image(tiff(values))


@pytest.mark.parametrize(
    "options",
    [
        {"subfiletype": 1, "extratags": [(271, "s", 0, "NIKON", True)]},
        {"extratags": [(50706, "B", 4, b"\1\4\0\0", True)]},
    ],
)
def test_a_deep_picture_of_a_cameras_raw_file_is_refused_as_that(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="camera's raw file"):
        read_image(tiff(UNITS, **options))
    assert read_image(tiff(UNITS, subfiletype=0)).image.size == (40, 24)


@pytest.mark.parametrize("values", [UNITS, EXPECTED], ids=["deep", "bytes"])
def test_a_preview_is_refused_unless_it_is_all_that_there_is(values: np.ndarray) -> None:
    assert read_image(tiff(values, subfiletype=1)).image.size == (40, 24)
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        file.write(values[::2, ::2], photometric="rgb", subfiletype=1)
        file.write(values, photometric="rgb")
    with pytest.raises(UserError, match="first page of this TIFF file is only a small preview"):
        read_image(buffer.getvalue())


def test_a_deep_picture_that_is_too_large_is_refused_from_its_header() -> None:
    data = bytearray(tiff(UNITS))
    at = data.index((40).to_bytes(4, "little"))
    data[at : at + 4] = (4_000_000).to_bytes(4, "little")
    with pytest.raises(UserError, match="4000000 x 24 pixels of 32 bits, more than can be opened"):
        read_image(bytes(data))


def test_a_deep_picture_may_be_too_large_in_pixels_or_in_bytes_alone() -> None:
    with pytest.raises(UserError, match="40 x 24 pixels of 32 bits, more than can be opened"):
        read_image(tiff(UNITS), max_pixels=40 * 24 - 1)
    assert read_image(tiff(UNITS), max_pixels=40 * 24).image.size == (40, 24)
    data = bytearray(tiff(UNITS.astype(np.float64)))
    at = data.index((40).to_bytes(4, "little"))
    data[at : at + 4] = (2_000_000).to_bytes(4, "little")
    with pytest.raises(UserError, match="2000000 x 24 pixels of 64 bits, more than can be opened"):
        read_image(bytes(data))


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_half_a_deep_picture_is_refused(share: float) -> None:
    data = tiff(UNITS)
    with pytest.raises(UserError, match="damaged or incomplete"):
        read_image(data[: round(share * len(data))])
