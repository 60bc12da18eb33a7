"""Colour spaces that are declared otherwise than by a profile."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from ipa_app.imaging.opening import read_image
from ipa_app.imaging.profiles import rgb_profile
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
BRIGHTER = "This picture is brighter than white in places, and these were made white."


def gama(gamma: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(gamma * 100_000))


def chrm(places: tuple[int, ...]) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *places)


def cicp(primaries: int, transfer: int) -> tuple[bytes, bytes]:
    return b"cICP", bytes([primaries, transfer, 0, 1])


def named(chunks: list[tuple[bytes, bytes]]) -> str:
    return "+".join(name.decode() for name, _ in chunks)


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


Places = tuple[tuple[float, float], ...]

D65, DCI = (0.3127, 0.3290), (0.314, 0.351)
OF_SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), D65)
OF_EUROPE = ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), D65)
OF_AMERICA = ((0.63, 0.34), (0.31, 0.595), (0.155, 0.07), D65)
OF_CINEMA = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
SOFT = (COLOURS + 2 * 128) // 3
"""Colours well inside every space."""


def to_xyz(places: Places) -> np.ndarray:
    """Return the RGB to XYZ matrix by SMPTE RP 177, from the chromaticities of red, green, blue and white."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in places]).T
    return columns[:, :3] * (np.linalg.inv(columns[:, :3]) @ columns[:, 3])


def in_space(places: Places) -> np.ndarray:
    """Return `SOFT` as linear light in another space, adapted to its white by the Bradford transform."""
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    srgb, other = bradford @ to_xyz(OF_SRGB), bradford @ to_xyz(places)
    adapted = np.diag(other.sum(axis=1) / srgb.sum(axis=1)) @ srgb
    return linear(SOFT / 255) @ (np.linalg.inv(other) @ adapted).T


@pytest.mark.parametrize(
    ("primaries", "places"),
    [(2, OF_SRGB), (5, OF_EUROPE), (6, OF_AMERICA), (7, OF_AMERICA), (11, (*OF_CINEMA, DCI)), (12, (*OF_CINEMA, D65))],
)
@pytest.mark.parametrize(("transfer", "gamma"), [(4, 2.2), (5, 2.8), (8, 1.0)])
def test_every_space_of_television_and_cinema(primaries: int, places: Places, transfer: int, gamma: float) -> None:
    colours = np.rint(255 * in_space(places) ** (1 / gamma))
    opened = read_image(png_with(patches(colours), cicp(primaries, transfer)))
    assert np.abs(middles(opened.image) - SOFT).max() <= 2
    assert opened.notes == ()


def test_what_is_named_becomes_a_profile_as_the_standard_has_it() -> None:
    """ICC.1:2001-04, sections 6.1 to 6.3: the header, and the required tags of an RGB display, at multiples of four."""
    profile = rgb_profile(OF_EUROPE, linear)
    size, version, kind, space, connection = struct.unpack(">I4xI4s4s4s", profile[:24])
    assert (size, version >> 24, kind, space, connection) == (len(profile), 2, b"mntr", b"RGB ", b"XYZ ")
    assert profile[36:40] == b"acsp"
    (count,) = struct.unpack(">I", profile[128:132])
    tags = [struct.unpack(">4sII", profile[132 + 12 * index : 144 + 12 * index]) for index in range(count)]
    needed = ["desc", "cprt", "wtpt", "rXYZ", "gXYZ", "bXYZ", "rTRC", "gTRC", "bTRC"]
    assert sorted(name.decode() for name, _, _ in tags) == sorted(needed)
    for _, begin, length in tags:
        assert begin % 4 == 0
        assert 132 + 12 * count <= begin <= begin + length <= size
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile
    assert (opened.profile_description, opened.copyright) == ("named in the file", "none")
    assert opened.media_white_point_temperature == pytest.approx(5000, abs=10)


@pytest.mark.parametrize(
    "places",
    [((0.3, 0.3),) * 3 + (D65,), ((0.3, 0.3), (0.4, 0.4), (0.5, 0.5), D65), (*OF_CINEMA, (0.3, 0.0))],
    ids=["one point", "a line", "no white"],
)
def test_places_that_span_no_space_are_refused(places: Places) -> None:
    with np.errstate(all="ignore"), pytest.raises((ValueError, ZeroDivisionError)):
        rgb_profile(places, linear)


@pytest.mark.parametrize("transfer", [1, 6, 13, 14, 15])
def test_what_is_coded_for_television_is_looked_at_as_srgb_is(transfer: int) -> None:
    assert off(png_with(patches(in_2020()), cicp(9, transfer))) <= 6
    opened = read_image(png_with(patches(COLOURS), cicp(1, transfer)))
    assert opened.image.tobytes() == patches(COLOURS).tobytes()


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
        [cicp(77, 8)],
        [cicp(22, 13)],
        [cicp(9, 200)],
    ],
    ids=named,
)
def test_a_png_that_is_srgb_in_other_words_keeps_its_bytes(chunks: list[tuple[bytes, bytes]]) -> None:
    opened = read_image(png_with(patches(COLOURS), *chunks))
    assert opened.image.tobytes() == patches(COLOURS).tobytes()
    assert opened.notes == ()


def test_in_a_png_code_points_come_before_a_profile() -> None:
    data = encoded(patches(in_p3()), icc_profile=adobe_profile())
    chunk = png_with(patches(in_p3()), cicp(12, 13))[33 : 33 + 16]
    assert off(data[:33] + chunk + data[33:]) <= 2


@pytest.mark.parametrize("chunks", [[gama(0)], [gama(30)], [chrm((0,) * 8)], [chrm((31270, 32900) * 4)]], ids=named)
def test_numbers_that_describe_no_colours_are_left_aside_and_told(chunks: list[tuple[bytes, bytes]]) -> None:
    opened = read_image(png_with(patches(COLOURS), *chunks))
    assert opened.image.tobytes() == patches(COLOURS).tobytes()
    assert [note.split(",")[0] for note in opened.notes] == ["This picture has a damaged or unsuitable colour profile"]


def pq(nits: np.ndarray) -> np.ndarray:
    """Return the signal for a luminance: the inverse of the SMPTE ST 2084 curve, as printed in the standard."""
    y = (nits / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def hlg(light: np.ndarray) -> np.ndarray:
    """Return the signal for scene light in 0..1, by the BT.2100 curve."""
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


def marked(**entries: Any) -> Image.Exif:
    """Return EXIF data with these entries, by number, in its interoperability part."""
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[0xA001] = 0xFFFF
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {int(name[1:]): value for name, value in entries.items()}
    return exif


@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
def test_cameras_mark_adobe_rgb_in_exif(kind: str) -> None:
    exif = marked(_1="R03").tobytes()
    options: dict[str, Any] = {"save_all": True, "append_images": [patches(COLOURS)]} if kind == "MPO" else {}
    data = encoded(patches(in_adobe_rgb()), kind, exif=exif, quality=95, **options)
    with Image.open(io.BytesIO(data)) as written:
        assert written.format == kind
        assert ExifTags.IFD.Interop in written.getexif().get_ifd(ExifTags.IFD.Exif)
    assert off(data) <= 6
    assert off(encoded(patches(in_p3()), kind, exif=exif, icc_profile=p3_profile(), quality=95, **options)) <= 6


@pytest.mark.parametrize("exif", [marked(_1="R98"), marked(_2=b"0100"), Image.Exif()], ids=["sRGB", "damaged", "none"])
def test_what_cameras_do_not_mark_as_adobe_rgb_is_srgb(exif: Image.Exif) -> None:
    data = encoded(patches(COLOURS), "JPEG", exif=exif, quality=95)
    assert off(data) <= 6
    assert read_image(data).image == read_image(encoded(patches(COLOURS), "JPEG", quality=95)).image
