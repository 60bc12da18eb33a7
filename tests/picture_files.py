"""Files as people send them, with their cameras' colour profiles, and how a colour-managed viewer shows them.

Nothing here comes from the app's code: profiles are written from their specification, and expected colours are
computed with the matrices printed in CSS Color 4.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tifffile
from PIL import Image

COLOURS = np.array([(230, 40, 40), (40, 200, 60), (40, 70, 220), (240, 170, 130), (20, 20, 20), (250, 250, 250)])
"""In sRGB, and inside of every space below."""

_D50 = (0.9642, 1.0, 0.8249)
# Red, green and blue as XYZ under D50, as in the makers' own profiles.
_P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
_ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))

_SRGB_TO_P3 = np.array(
    [[0.8224619687, 0.1775380313, 0], [0.0331941989, 0.9668058011, 0], [0.0170826307, 0.0723974407, 0.9105199286]]
)
_SRGB_TO_ADOBE = np.array([[0.7151256082, 0.2848743918, 0], [0, 1, 0], [0, 0.0411618848, 0.9588381152]])
_SRGB_TO_2020 = np.array(
    [[0.6274038959, 0.3292830384, 0.0433130657], [0.0690972894, 0.9195403951, 0.0113623156],
     [0.0163914389, 0.0880133079, 0.8955952532]]
)  # fmt: skip


def noise(width: int = 40, height: int = 24) -> Image.Image:
    """Return a picture full of detail, the same every time."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def patches(colours: np.ndarray, *, side: int = 16) -> Image.Image:
    """Return a row of squares, each of one colour."""
    return Image.fromarray(np.repeat(np.repeat(colours[None].astype(np.uint8), side, axis=0), side, axis=1))


def middles(image: Image.Image, *, side: int = 16) -> np.ndarray:
    """Return the colour in the middle of each square."""
    return np.asarray(image)[side // 2, side // 2 :: side].astype(int)


def linear(coded: np.ndarray) -> np.ndarray:
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def coded(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)


def _in(matrix: np.ndarray, curve: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.rint(255 * curve(linear(COLOURS / 255) @ matrix.T)).astype(np.uint8)


def in_p3() -> np.ndarray:
    """Return `COLOURS` as encoded in Display P3."""
    return _in(_SRGB_TO_P3, coded)


def in_adobe_rgb() -> np.ndarray:
    return _in(_SRGB_TO_ADOBE, lambda light: light ** (1 / 2.19921875))


def in_2020() -> np.ndarray:
    """Return `COLOURS` as encoded with the primaries of BT.2020 and the curve of sRGB."""
    return _in(_SRGB_TO_2020, coded)


def p3_profile() -> bytes:
    return _rgb_profile(_P3, linear)


def adobe_profile() -> bytes:
    return _rgb_profile(_ADOBE, lambda coded: coded**2.19921875)


def srgb_profile(*, exponent: float = 1) -> bytes:
    """Return an sRGB profile whose midtones are brighter or darker than they should be unless `exponent` is 1."""
    return _rgb_profile(tuple(map(tuple, _SRGB_TO_XYZ_D50.T)), lambda coded: linear(coded) ** exponent)


def linear_grey_profile() -> bytes:
    """Return a greyscale profile with a linear curve."""
    return _profile(b"GRAY", b"XYZ ", {b"wtpt": _xyz(_D50), b"kTRC": _curve(lambda coded: coded)})


CMYK_PAPER, CMYK_CYAN, CMYK_BLACK = (255, 255, 255), (20, 110, 190), (30, 30, 30)


def cmyk_profile() -> bytes:
    """Return a CMYK profile whose colours on `CMYK_PAPER` differ clearly from a naive conversion's."""
    inks = np.array([CMYK_PAPER, CMYK_BLACK, (240, 220, 40), (200, 20, 90), CMYK_CYAN]) / 255
    corners = []
    for index in range(16):
        cyan, magenta, yellow, black = (bool(index & bit) for bit in (8, 4, 2, 1))
        light = linear(inks[0])
        for is_there, ink in ((cyan, inks[4]), (magenta, inks[3]), (yellow, inks[2]), (black, inks[1])):
            light = light * linear(ink) / linear(inks[0]) if is_there else light
        corners.append(_lab(light))
    lab = np.array(corners)
    table = np.rint(np.stack([lab[:, 0] * 2.55, lab[:, 1] + 128, lab[:, 2] + 128], axis=1)).clip(0, 255)
    straight = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0])
    lut += struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    lut += straight * 4 + table.astype(np.uint8).tobytes() + straight * 3
    return _profile(b"CMYK", b"Lab ", {b"wtpt": _xyz(_D50), b"A2B0": lut}, kind=b"prtr")


def lab_of_srgb(colours: np.ndarray) -> np.ndarray:
    """Return L*, a* and b* (under D50) of sRGB colours (N, 3), 0..255."""
    return np.array([_lab(linear(colour / 255)) for colour in colours])


def png_with(image: Image.Image, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG with extra chunks right after its header."""
    data = encoded(image)
    return data[:33] + _png_chunks(*chunks) + data[33:]


def grey_png(levels: np.ndarray, *, bits: int, transparent: int) -> bytes:
    """Return a PNG of grey samples (H, W), each of a few bits, with one of their levels declared transparent."""
    each = np.unpackbits(levels.astype(np.uint8)[..., None], axis=2)[..., 8 - bits :]
    rows = [b"\0" + np.packbits(row).tobytes() for row in each]
    return b"\x89PNG\r\n\x1a\n" + _png_chunks(
        (b"IHDR", struct.pack(">IIBBBBB", levels.shape[1], levels.shape[0], bits, 0, 0, 0, 0)),
        (b"tRNS", struct.pack(">H", transparent)),
        (b"IDAT", zlib.compress(b"".join(rows))),
        (b"IEND", b""),
    )


def tiff_pages(preview: np.ndarray, whole: np.ndarray) -> bytes:
    """Return a TIFF whose first page says that it is a preview of the second."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        file.write(preview, photometric="rgb", subfiletype=1)
        file.write(whole, photometric="rgb")
    return buffer.getvalue()


def planar_tiff(image: Image.Image, kind: type[np.generic], photometric: str) -> bytes:
    """Return a TIFF with the planes of a picture of bytes one after the other, as bytes or in sixteen bits."""
    buffer = io.BytesIO()
    planes = np.moveaxis(np.asarray(image).astype(kind), 2, 0)
    planes = planes * kind(257) if kind is np.uint16 else planes
    tifffile.imwrite(buffer, planes, photometric=photometric, planarconfig="separate")
    return buffer.getvalue()


def _png_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"".join(
        struct.pack(">I4s", len(body), name) + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def _rgb_profile(primaries: tuple[tuple[float, ...], ...], curve: Callable[[np.ndarray], np.ndarray]) -> bytes:
    colours = {tag: _xyz(xyz) for tag, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(curve))
    return _profile(b"RGB ", b"XYZ ", {b"wtpt": _xyz(_D50), **colours, **curves})


def _profile(space: bytes, connection: bytes, tags: dict[bytes, bytes], *, kind: bytes = b"mntr") -> bytes:
    """Return an ICC profile of version 2.1."""
    tags = {b"desc": b"desc" + struct.pack(">4xI", 2) + b"t\0" + bytes(78), b"cprt": b"text" + bytes(5), **tags}
    start = 132 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        table += struct.pack(">4sII", tag, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4xI4s4s4s", start + len(body), 0x02100000, kind, space, connection)
    header += bytes(12) + b"acsp" + bytes(28) + _xyz(_D50)[8:] + bytes(48)
    return header + table + body


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ " + struct.pack(">4x3i", *(round(value * 65536) for value in values))


def _curve(curve: Callable[[np.ndarray], np.ndarray]) -> bytes:
    points = np.rint(curve(np.linspace(0, 1, 4096)) * 65535).astype(">u2")
    return b"curv" + struct.pack(">4xI", points.size) + points.tobytes()


_SRGB_TO_XYZ_D50 = np.array(
    [[0.4360657, 0.3851515, 0.1430784], [0.2224932, 0.7168870, 0.0606169], [0.0139239, 0.0970811, 0.7140994]]
)


def _lab(light: np.ndarray) -> np.ndarray:
    x, y, z = (
        ratio ** (1 / 3) if ratio > 216 / 24389 else (24389 / 27 * ratio + 16) / 116
        for ratio in _SRGB_TO_XYZ_D50 @ light / _D50
    )
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
