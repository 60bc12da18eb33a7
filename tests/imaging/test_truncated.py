"""A slightly truncated file is opened, as in every viewer; half a file is refused."""

from __future__ import annotations

import io
import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.imaging.opening import open_image, read_image
from tests.effort import check_cpu_s
from tests.picture_files import encoded, p3_profile

CUT = "This picture is cut off at the end of its file; the small part that is missing is grey or black."
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
PHOTO = NOISE.resize((640, 480), Image.Resampling.BICUBIC)
JPEGS = {
    "baseline": encoded(PHOTO, "JPEG", quality=90),
    "progressive": encoded(PHOTO, "JPEG", quality=90, progressive=True),
    "in pieces": encoded(PHOTO, "JPEG", quality=90, restart_marker_rows=1),
    "in small pieces": encoded(PHOTO, "JPEG", quality=90, restart_marker_blocks=7),
    "grey": encoded(PHOTO.convert("L"), "JPEG"),
}
OTHERS = {
    "PNG": encoded(PHOTO),
    "palette": encoded(PHOTO.quantize(64)),
    "bits": encoded(PHOTO.convert("1")),
    "BMP": encoded(PHOTO, "BMP"),
    "TIFF": encoded(PHOTO, "TIFF"),
}
TRAILERS = {
    "nothing": b"",
    "zeros": bytes(4000),
    "a film": b"\0\0\0\x18ftypmp42" + random.Random(1).randbytes(300_000),
    "a phone's notes": b"\0\0\x01\x0a\x0e\0\0\0Image_UTC_Data1526" + random.Random(2).randbytes(5000) + b"SEFT",
    "another picture": JPEGS["grey"],
}


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(open_image(data))


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_without_its_end_is_whole_whatever_follows(name: str, trailer: str) -> None:
    data = JPEGS[name]
    assert data.endswith(b"\xff\xd9")
    for missing in (1, 2):
        opened = read_image(data[:-missing] + TRAILERS[trailer])
        assert np.array_equal(np.asarray(opened.image), pixels(data))
        assert opened.notes == ()


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("name", JPEGS)
def test_half_a_jpeg_is_refused_whatever_follows(name: str, share: float, trailer: str) -> None:
    data = JPEGS[name]
    with pytest.raises(UserError, match="damaged or incomplete"):
        read_image(data[: round(share * len(data))] + TRAILERS[trailer])


def test_a_progressive_jpeg_whose_last_scans_are_missing_is_refused() -> None:
    data = JPEGS["progressive"]
    scans = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    assert len(scans) > 3
    for scan in scans[2:]:
        with pytest.raises(UserError, match="damaged or incomplete"):
            read_image(data[:scan])


@pytest.mark.parametrize("missing", [20, 60, 100])
@pytest.mark.parametrize("name", [*JPEGS, *OTHERS])
def test_a_file_of_which_next_to_nothing_is_missing_is_opened_and_it_is_said(name: str, missing: int) -> None:
    data = {**JPEGS, **OTHERS}[name]
    opened = read_image(data[:-missing])
    unlike = (np.asarray(opened.image) != pixels(data)).any(axis=2)
    assert unlike.mean() < 0.01
    assert opened.notes == ((CUT,) if unlike.any() or opened.notes else ())
    if missing > 20 or name in ("BMP", "TIFF"):
        assert opened.notes == (CUT,)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.97])
@pytest.mark.parametrize("name", OTHERS)
def test_half_a_file_of_any_kind_is_refused(name: str, share: float) -> None:
    data = OTHERS[name]
    with pytest.raises(UserError, match="damaged or incomplete"):
        read_image(data[: round(share * len(data))])


@pytest.mark.parametrize("missing", [1, 4, 12, 16, 20])
def test_a_png_without_its_last_chunk_or_checksum_is_whole(missing: int) -> None:
    opened = read_image(OTHERS["PNG"][:-missing])
    assert np.array_equal(np.asarray(opened.image), np.asarray(PHOTO))
    assert opened.notes == ()


def interlaced(image: Image.Image) -> bytes:
    """Return an interlaced PNG, which Pillow does not write: its seven passes one after the other."""
    grey = np.asarray(image.convert("L"))
    rows = b""
    for column, row, across, down in (
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)
    ):  # fmt: skip
        rows += b"".join(b"\0" + line.tobytes() for line in grey[row::down, column::across] if line.size)
    header = struct.pack(">IIBBBBB", image.width, image.height, 8, 0, 0, 0, 1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I4s", len(body), name) + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def test_an_interlaced_png_is_completed_as_well() -> None:
    data = interlaced(PHOTO)
    assert np.array_equal(pixels(data)[..., 0], np.asarray(PHOTO.convert("L")))
    opened = read_image(data[:-120])
    assert opened.notes == (CUT,)
    assert (np.asarray(opened.image) != pixels(data)).any(axis=2).mean() < 0.01
    with pytest.raises(UserError, match="damaged or incomplete"):
        read_image(data[: len(data) // 2])


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 40), (4, 5), (5, 2), (9, 1), (40, 3), (8, 8)])
def test_a_damaged_png_of_a_few_pixels_has_all_of_them(size: tuple[int, int]) -> None:
    picture = NOISE.crop((0, 0, *size)).convert("L")
    note = struct.pack(">I4s", 5, b"tEXt") + b"a\0bcd" + b"\0\0\0\0"
    for data in (interlaced(picture), encoded(picture), encoded(picture.convert("1"))):
        whole = read_image(data, min_side=1).image
        for missing in (0, 12, 16):
            opened = read_image(data[:33] + note + data[33 : len(data) - missing], min_side=1)
            assert opened.image == whole
            assert opened.notes == ()
    assert np.array_equal(np.asarray(read_image(interlaced(picture), min_side=1).image)[..., 0], np.asarray(picture))


@pytest.mark.parametrize(("name", "is_told"), [(b"iCCP", True), (b"tEXt", False)])
def test_a_png_with_a_damaged_chunk_that_is_not_needed_opens(name: bytes, is_told: bool) -> None:
    from PIL.PngImagePlugin import PngInfo

    notes = PngInfo()
    notes.add_text("Comment", "a picture")
    data = bytearray(encoded(PHOTO, icc_profile=p3_profile(), pnginfo=notes))
    data[data.index(name) + 8] ^= 0xFF
    opened = read_image(bytes(data))
    told = [note for note in opened.notes if "unsuitable colour profile" in note]
    assert bool(told) == is_told
    assert len(opened.notes) == len(told)
    if is_told:
        assert np.array_equal(np.asarray(opened.image), np.asarray(PHOTO))


def test_the_end_of_a_gif_and_of_a_jpeg_with_more_pictures_may_be_missing() -> None:
    gif = encoded(PHOTO.quantize(64), "GIF")
    assert np.array_equal(pixels(gif[:-1]), pixels(gif))
    several = encoded(PHOTO, "MPO", save_all=True, append_images=[NOISE])
    assert several.count(b"\xff\xd8\xff") >= 2
    opened = read_image(several[:-3000])
    assert np.array_equal(np.asarray(opened.image), pixels(several))
    assert opened.notes == ()


@pytest.mark.parametrize("numbers", [(0, 0, 0), (1, 2, 2)])
def test_a_jpeg_whose_components_share_a_number_opens_as_in_every_viewer(numbers: tuple[int, int, int]) -> None:
    data = bytearray(JPEGS["baseline"])
    for marker, first, step in ((b"\xff\xc0", 10, 3), (b"\xff\xda", 5, 2)):
        at = data.index(marker) + first
        data[at : at + 3 * step : step] = bytes(numbers)
    opened = read_image(bytes(data))
    assert np.array_equal(np.asarray(opened.image), pixels(JPEGS["baseline"]))
    assert opened.notes == ()


def huge(**changes: Any) -> list[bytes]:
    """Return files that declare far more data than they hold."""
    png = (
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I4s", len(body), name) + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in ((b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 16, 6, 0, 0, 0)),)
        )
        + struct.pack(">I4s", 100, b"IDAT")
        + zlib.compress(bytes(10**6))
    )
    jpeg = bytearray(JPEGS["baseline"][:-2])
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = b"\xff\xff\xff\xff"
    return [png, bytes(jpeg)]


def test_a_cut_file_that_promises_too_much_is_refused_at_once() -> None:
    for data in huge():
        with pytest.raises(UserError):
            read_image(data)


@pytest.mark.parametrize("size", [(10_000, 10_000), (0, 100)])
def test_a_damaged_png_of_no_pixels_or_more_than_are_opened_is_not_completed(size: tuple[int, int]) -> None:
    def chunk(name: bytes, body: bytes, damage: int = 0) -> bytes:
        return struct.pack(">I4s", len(body), name) + body + struct.pack(">I", zlib.crc32(name + body) ^ damage)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    text, unfolding = chunk(b"tEXt", b"Comment\0a", damage=1), chunk(b"IDAT", zlib.compress(bytes(10_001 * 10_000), 1))

    def refused() -> None:
        with pytest.raises(UserError, match="damaged or incomplete"):
            read_image(b"\x89PNG\r\n\x1a\n" + header + text + unfolding + chunk(b"IEND", b""))

    check_cpu_s(refused, most=0.2)


HEAD = JPEGS["baseline"][: JPEGS["baseline"].index(b"\xff\xda")]
FRAME = b"\xff\xc0" + struct.pack(">HBHHB", 8 + 3 * 255, 8, 16, 16, 255) + bytes(i // 3 for i in range(3 * 255))
# All of the picture except its last component.
MOST = b"\xff\xda" + struct.pack(">HB", 6 + 2 * 254, 254) + bytes(i // 2 for i in range(2 * 254)) + b"\0\x3f\0"
SCAN = b"\xff\xda" + struct.pack(">HB", 6 + 2 * 3, 3) + b"\1\0\2\0\3\0" + b"\0\x3f\x01"
COMMENT = b"\xff\xfe\0\2"


@pytest.mark.parametrize(
    "parts",
    [
        FRAME + MOST + COMMENT * 40_000,
        SCAN * 500_000,
        SCAN + COMMENT * 4_000_000,
        SCAN + b"\xff\xd0" * 8_000_000,
        SCAN + b"\xff\0" * 8_000_000,
    ],
    ids=["a frame of 255 components", "many scans", "many comments", "many restarts", "many zeros"],
)
def test_a_jpeg_that_is_made_to_take_long_is_refused_at_once(parts: bytes) -> None:
    def refused() -> None:
        with pytest.raises(UserError, match="damaged or incomplete"):
            read_image(HEAD + parts)

    check_cpu_s(refused, most=2)


def test_pillow_itself_is_left_as_it_is() -> None:
    with pytest.raises(OSError, match="truncated"), Image.open(io.BytesIO(JPEGS["baseline"][:-2])) as picture:
        picture.load()
