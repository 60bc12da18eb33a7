"""Colour spaces that are named in other ways than by a profile."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from ipa_app.imaging.opening import read_image
from tests.picture_files import (
    COLOURS,
    adobe_profile,
    coded,
    encoded,
    in_2020,
    in_adobe_rgb,
    in_p3,
    linear,
    middles,
    p3_profile,
    patches,
    png_with,
)

P3_PLACES = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
SRGB_PLACES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
BRIGHTER = "This picture is brighter than white in places, which became white."


def gama(gamma: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(gamma * 100_000))


def chrm(places: tuple[int, ...]) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *places)


def cicp(primaries: int, transfer: int) -> tuple[bytes, bytes]:
    return b"cICP", bytes([primaries, transfer, 0, 1])


def off(data: bytes) -> int:
    return int(np.abs(middles(read_image(data).image) - COLOURS).max())


@pytest.mark.parametrize(
    ("colours", "chunks"),
    [
        (in_p3(), [cicp(12, 13)]),
        (in_2020(), [cicp(9, 13)]),
        (in_2020(), [cicp(9, 1)]),
        (np.rint(255 * linear(COLOURS / 255)), [cicp(1, 8)]),
        (np.rint(255 * linear(COLOURS / 255)), [gama(1)]),
        (np.rint(255 * linear(COLOURS / 255) ** (1 / 1.8)), [gama(1 / 1.8)]),
        (np.rint(255 * linear(in_p3() / 255) ** 0.45455), [gama(0.45455), chrm(P3_PLACES)]),
        (in_p3(), [chrm(P3_PLACES)]),
    ],
    ids=["P3", "BT.2020", "BT.2020 as television", "linear", "gamma 1", "gamma 1.8", "P3 by places", "places alone"],
)
def test_chunks_of_a_png(colours: np.ndarray, chunks: list[tuple[bytes, bytes]]) -> None:
    assert off(png_with(patches(colours), *chunks)) <= 6
    assert np.abs(colours - COLOURS).max() > 10


@pytest.mark.parametrize(
    "chunks",
    [
        [gama(0.45455)],
        [gama(0.45455), chrm(SRGB_PLACES)],
        [chrm(SRGB_PLACES)],
        [(b"sRGB", b"\0"), gama(0.45455), chrm(SRGB_PLACES)],
        [(b"sRGB", b"\0"), gama(1.0), chrm(P3_PLACES)],
        [cicp(1, 13)],
        [cicp(2, 2)],
        [cicp(77, 200)],
    ],
    ids=str,
)
def test_a_png_that_is_srgb_in_other_words_keeps_its_bytes(chunks: list[tuple[bytes, bytes]]) -> None:
    opened = read_image(png_with(patches(COLOURS), *chunks))
    assert opened.image.tobytes() == patches(COLOURS).tobytes()
    assert opened.notes == ()


def test_in_a_png_code_points_come_before_a_profile() -> None:
    data = encoded(patches(in_p3()), icc_profile=adobe_profile())
    chunk = png_with(patches(in_p3()), cicp(12, 13))[33 : 33 + 16]
    assert off(data[:33] + chunk + data[33:]) <= 2


@pytest.mark.parametrize("chunks", [[gama(0)], [gama(30)], [chrm((0,) * 8)], [chrm((31270, 32900) * 4)]], ids=str)
def test_numbers_that_describe_no_colours_are_left_aside_and_told(chunks: list[tuple[bytes, bytes]]) -> None:
    opened = read_image(png_with(patches(COLOURS), *chunks))
    assert opened.image.tobytes() == patches(COLOURS).tobytes()
    assert [note.split(",")[0] for note in opened.notes] == [
        "This picture has a colour profile that is damaged or not made for it"
    ]


def pq(nits: np.ndarray) -> np.ndarray:
    """The inverse of SMPTE ST 2084's curve, as the standard prints it."""
    y = (nits / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def hlg(light: np.ndarray) -> np.ndarray:
    """BT.2100's curve from light of the scene, 0..1."""
    inside = np.maximum(12 * light - 0.28466892, 1e-9)
    return np.where(light <= 1 / 12, np.sqrt(3 * light), 0.17883277 * np.log(inside) + 0.55991073)


@pytest.mark.parametrize(
    ("code", "signal"),
    [
        (16, lambda light: pq(203 * light)),
        (18, lambda light: hlg((light * 203 / 1000) ** (1 / 1.2))),
    ],
    ids=["PQ", "HLG"],
)
def test_what_is_brighter_than_white_becomes_white_and_is_told(code: int, signal: Any) -> None:
    light = np.array([0.0, 0.05, 0.2, 0.5, 1.0, 3.0])[:, None].repeat(3, axis=1)
    opened = read_image(png_with(patches(np.rint(255 * signal(light))), cicp(1, code)))
    assert np.abs(middles(opened.image) - 255 * coded(np.minimum(light, 1))).max() <= 6
    assert opened.notes == (BRIGHTER,)


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_code_points_of_heic_and_avif(kind: str) -> None:
    data = encoded(patches(in_p3()), kind, quality=95)
    assert off(data) > 20
    box = data.index(b"colrnclx") + 8
    assert off(data[:box] + struct.pack(">HH", 12, 13) + data[box + 4 :]) <= 6


def test_cameras_mark_adobe_rgb_in_exif() -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[0xA001] = 0xFFFF
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: "R03"}
    data = encoded(patches(in_adobe_rgb()), "JPEG", exif=exif, quality=95)
    with Image.open(io.BytesIO(data)) as written:
        assert ExifTags.IFD.Interop in written.getexif().get_ifd(ExifTags.IFD.Exif)
    assert off(data) <= 6
    assert off(encoded(patches(in_p3()), "JPEG", exif=exif, icc_profile=p3_profile(), quality=95)) <= 6
