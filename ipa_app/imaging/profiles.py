"""Build ICC profiles for colour spaces that a file declares without a profile."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from ipa_app.imaging.truncated import png_chunks

Curve = Callable[[np.ndarray], np.ndarray]
"""Maps coded values, 0..1, to linear light, 0..1 of white."""

_D65, _DCI = (0.3127, 0.3290), (0.314, 0.351)
# x and y of red, green, blue and white; from ITU-T H.273 (07/2024), table 2.
_PRIMARIES: dict[int, tuple[tuple[float, float], ...]] = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65),
    5: ((0.640, 0.330), (0.290, 0.600), (0.150, 0.060), _D65),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _DCI),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
}
_ADOBE_RGB = ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060), _D65)
_ADOBE_GAMMA = 2.19921875
_UNSPECIFIED = 2
_PQ, _HLG = 16, 18

# From H.273, table 3. Television curves are treated as sRGB, as browsers do.
_LIKE_SRGB = (1, 2, 6, 13, 14, 15)
_WHITE_NITS, _HLG_NITS = 203.0, 1000.0  # ITU-R BT.2408, and the nominal peak of BT.2100

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_CURVE_POINTS = 1024
_HEADER_BYTES = 2**20
_SRGB_GAMMA = 0.45455


@dataclass(frozen=True, kw_only=True)
class NamedSpace:
    """A colour space as a profile.

    Attributes:
        profile: an ICC profile of an RGB space.
        is_hdr: whether it encodes light brighter than white, which the profile clips.
    """

    profile: bytes
    is_hdr: bool = False


def named_space(image: Image.Image, data: bytes) -> NamedSpace | None:
    """Return the colour space that a file's header declares; None for sRGB, and if it declares none.

    PNG has chunks for it (cICP; gAMA and cHRM, unless sRGB is present), AVIF and HEIC have a colour box, and cameras
    mark Adobe RGB in EXIF.

    Args:
        image: as opened.
        data: content of the file.

    Raises:
        ValueError: it declares an impossible one.
    """
    if image.format == "PNG":
        return _of_png(image, data)
    if image.format in ("AVIF", "HEIF"):
        at = data.find(b"colrnclx", 0, _HEADER_BYTES)
        return _coded(*struct.unpack(">HH", data[at + 8 : at + 12])) if at >= 0 and len(data) >= at + 12 else None
    if image.format in ("JPEG", "MPO") and _is_marked_adobe(image):
        return NamedSpace(profile=rgb_profile(_ADOBE_RGB, lambda coded: coded**_ADOBE_GAMMA))
    return None


def rgb_profile(primaries: tuple[tuple[float, float], ...], curve: Curve) -> bytes:
    """Build an ICC profile of an RGB space.

    Args:
        primaries: x and y of red, green, blue and white.
        curve: shared by all three channels.

    Raises:
        ValueError: the primaries are degenerate.

    Source: ICC.1:2001-04, sections 6.1 to 6.5; adapted to D50 by the Bradford matrix.
    """
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    colours, white = xyz[:, :3], xyz[:, 3]
    to_xyz = colours * np.linalg.solve(colours, white)
    cones = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    to_d50 = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD @ to_xyz
    if not np.isfinite(to_d50).all() or np.abs(to_d50).max() > 4:
        raise ValueError("these primaries span no colour space")
    steps = np.minimum(curve(np.linspace(0, 1, _CURVE_POINTS)), 1)
    points = np.rint(steps * 65535).astype(">u2").tobytes()
    name = b"named in the file\0"
    tags = {
        b"desc": b"desc" + struct.pack(">4xI", len(name)) + name + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": _xyz(_D50),
        **{tag: _xyz(to_d50[:, index]) for index, tag in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), b"curv" + struct.pack(">4xI", _CURVE_POINTS) + points),
    }
    return _assembled(tags)


def _is_marked_adobe(image: Image.Image) -> bool:
    """Whether a camera's EXIF data declares Adobe RGB, as in DCF 2.0."""
    try:
        exif = image.getexif()
        return (
            ExifTags.IFD.Interop in exif.get_ifd(ExifTags.IFD.Exif) and exif.get_ifd(ExifTags.IFD.Interop)[1] == "R03"
        )
    except Exception:
        # Damaged EXIF data holds no information, and Pillow raises anything for it.
        return False


def _of_png(image: Image.Image, data: bytes) -> NamedSpace | None:
    # A PNG's colour chunks come before its pixels.
    for name, body, is_sound in takewhile(lambda chunk: chunk[0] != b"IDAT", png_chunks(data)):
        if name in (b"cICP", b"iCCP") and not is_sound:
            raise ValueError("what this PNG says of its colours is damaged")
        if name == b"cICP" and len(body) == 4:
            return _coded(body[0], body[1])
    gamma, places = image.info.get("gamma"), image.info.get("chromaticity")
    if "icc_profile" in image.info or "srgb" in image.info or (gamma is None and places is None):
        return None
    srgb = _PRIMARIES[1]
    primaries = srgb
    if places is not None:
        white, *colours = zip(places[::2], places[1::2], strict=True)
        primaries = (*colours, white)
    if gamma is not None and not 0.1 <= gamma <= 10:
        raise ValueError("no picture has this gamma")
    is_usual = gamma is None or abs(gamma / _SRGB_GAMMA - 1) < 0.05
    if is_usual and np.abs(np.subtract(primaries, srgb)).max() < 0.005:
        return None
    return NamedSpace(profile=rgb_profile(primaries, _srgb if gamma is None else lambda coded: coded ** (1 / gamma)))


def _coded(primaries: int, transfer: int) -> NamedSpace | None:
    """Return the space of H.273 code points, as used in PNG, AVIF and HEIC."""
    if primaries == _UNSPECIFIED:
        primaries = 1
    if primaries not in _PRIMARIES or (primaries == 1 and transfer in _LIKE_SRGB):
        return None
    curves: dict[int, Curve] = {
        **dict.fromkeys(_LIKE_SRGB, _srgb),
        4: lambda coded: coded**2.2,
        5: lambda coded: coded**2.8,
        8: lambda coded: coded,
        _PQ: _pq,
        _HLG: _hlg,
    }
    if transfer not in curves:
        return None
    return NamedSpace(profile=rgb_profile(_PRIMARIES[primaries], curves[transfer]), is_hdr=transfer in (_PQ, _HLG))


def _srgb(coded: np.ndarray) -> np.ndarray:
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def _pq(coded: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084 (PQ), with the white of ordinary pictures at 203 cd/m2."""
    root = coded ** (1 / 78.84375)
    light = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
    return light * 10_000 / _WHITE_NITS


def _hlg(coded: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100 (HLG) with its system gamma of 1.2, and the white of ordinary pictures at 203 cd/m2."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - c) / a) + b) / 12)
    return scene**1.2 * _HLG_NITS / _WHITE_NITS


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + struct.pack(">4x3i", *(round(float(value) * 65536) for value in values))


def _assembled(tags: dict[bytes, Any]) -> bytes:
    """Assemble a profile: header, tag table, and the tags, each aligned to four bytes."""
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        table += struct.pack(">4sII", tag, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4xI4s4s4s", start + len(body), 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    header += struct.pack(">3i", *(round(value * 65536) for value in _D50)) + bytes(48)
    return header + struct.pack(">I", len(tags)) + table + body
