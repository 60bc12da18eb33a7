"""The picture formats that can be opened, declared once, and the messages for all others."""

from __future__ import annotations

import io
import re
from itertools import islice
from pathlib import Path
from typing import IO, Any

from PIL import Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from ipa_app.errors import UserError

try:
    import pillow_heif
except ImportError:
    # Without it everything but HEIC still opens, and for a HEIC file the user is told what is missing.
    pillow_heif = None
else:
    pillow_heif.register_heif_opener()

FORMATS = {
    "PNG": "PNG",
    "JPEG": "JPEG",
    "WEBP": "WebP",
    "GIF": "GIF",
    "BMP": "BMP",
    "TIFF": "TIFF",
    "AVIF": "AVIF",
    "HEIF": "HEIC",
}
"""Display names of the formats by Pillow's names."""

MAX_PIXELS = 50_000_000

# Colour profiles of printers and scanners take several megabytes; a JPEG has room for one of this size. With Pillow's
# own limit of one megabyte, a PNG with a larger profile counts as damaged.
PngImagePlugin.MAX_TEXT_CHUNK = 16 * 2**20

SHOWN_BY_BROWSERS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF")

_JPEG = b"\xff\xd8"
_EXIF, _MOST_EXIF = re.compile(rb"Exif\0\0"), 64
"""The prefix of each part of a JPEG's EXIF data, and the most parts allowed. A part is 64 kB at most; programs write
one per picture in the file."""

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

# Where a PNG says how many bits a sample has: after its signature, and the length, kind and size in its first chunk.
_PNG_BITS = 24

# Tags of TIFF 6.0, TIFF/EP and DNG.
_SUBFILE_TYPE, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANES = 254, 258, 259, 262, 277, 284
_MAKE, _FURTHER_PICTURES, _DNG_VERSION = 271, 330, 50706
_UNCOMPRESSED, _PLANES_APART = 1, 2
_WHITE_IS_ZERO, _RGB, _YCBCR, _COLOUR_FILTER_ARRAY = 0, 2, 6, 32803


def format_names() -> str:
    """Return the display names of the formats that can be opened here."""
    openers = _openers()
    return ", ".join(shown for name, shown in FORMATS.items() if name in openers)


def format_of(data: bytes) -> str | None:
    """Return Pillow's name of a file's format, from its first bytes; None if it is not known here."""
    for signature, name in _SIGNATURES.items():
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        brands = data[8:64]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        if any(brand in brands for brand in _HEIF_BRANDS):
            return "HEIF"
    return None


def open_header(data: bytes) -> Image.Image:
    """Read a file's header with only the opener of its format; no pixels are decoded.

    Raises:
        UserError: its format needs a package that is missing, it is a camera's raw file, or begins with a preview.
        UnidentifiedImageError: it is not a picture of these formats, or a TIFF that Pillow cannot read.
        OSError: its header is damaged. Pillow raises many other errors for damaged files.
    """
    openers = _openers()
    check_parts(io.BytesIO(data))
    if format_of(data) == "HEIF" and "HEIF" not in openers:
        raise UserError("picture.heic")
    image = Image.open(io.BytesIO(data), formats=openers)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = dict(image.tag_v2)
        check_page(tags, is_only=not image.tag_v2.next)
        if _is_misread(tags):
            raise UnidentifiedImageError("Pillow would mix up the pixels of this TIFF")
    if image.format == "PNG" and image.mode == "L":
        _scale_transparency(image, bits=data[_PNG_BITS])
    return image


def check_parts(file: IO[bytes]) -> None:
    """Check that a JPEG will open quickly: for each part of its EXIF data, Pillow copies all parts before it.

    Args:
        file: of any format; its position is at the start, before and after.

    Raises:
        OSError: it has more parts than any program writes.
    """
    is_jpeg = file.read(len(_JPEG)) == _JPEG
    if is_jpeg and next(islice(_EXIF.finditer(file.read()), _MOST_EXIF, None), None):
        raise OSError("this JPEG has more EXIF data than any program writes")
    file.seek(0)


def pixel_count(path: str | Path) -> int:
    """Return the number of pixels that a file's header announces, without decoding; 0 if it would not be decoded."""
    try:
        with Path(path).open("rb") as file:
            check_parts(file)
            begins = file.read(64)
            try:
                with Image.open(file, formats=_openers()) as image:
                    pixels = image.width * image.height
                    return pixels if pixels <= MAX_PIXELS else 0
            except UnidentifiedImageError:
                # Pillow does not know some kinds of TIFF; assume the largest size allowed for these.
                return MAX_PIXELS if format_of(begins) == "TIFF" else 0
    except Exception:  # noqa: BLE001 - Pillow raises anything at damaged files; opening it reports the error
        return 0


def check_page(tags: dict[int, Any], *, is_only: bool) -> None:
    """Check that a TIFF's first page is a picture of its own.

    Args:
        tags: of the page, by their numbers.
        is_only: whether no page follows; then it is the picture, even if it says that it is a preview of one.

    Raises:
        UserError: it holds the sensor values of a camera, or is a small preview of another one.
    """
    subfile = tags.get(_SUBFILE_TYPE)
    is_preview = isinstance(subfile, int) and bool(subfile & 1)
    is_of_camera = is_preview and (_MAKE in tags or _FURTHER_PICTURES in tags)
    if is_of_camera or _DNG_VERSION in tags or tags.get(_PHOTOMETRIC) == _COLOUR_FILTER_ARRAY:
        raise UserError("picture.camera_raw")
    if is_preview and not is_only:
        raise UserError("picture.preview_first")


def _scale_transparency(image: Image.Image, *, bits: int) -> None:
    """Scale the grey that a PNG of a few bits declares transparent to eight, as Pillow scales only the pixels."""
    transparent, largest = image.info.get("transparency"), 2**bits - 1
    if bits < 8 and isinstance(transparent, int):
        image.info["transparency"] = (transparent & largest) * 255 // largest


def _is_misread(tags: dict[int, Any]) -> bool:
    """Whether Pillow, which has a mode for a TIFF, makes another picture of its pixels, or none, and says nothing."""
    is_plain, colours = tags.get(_COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED, tags.get(_PHOTOMETRIC)
    if colours == _YCBCR:
        return is_plain
    samples, bits = tags.get(_SAMPLES, 1), max(tags.get(_BITS, (1,)))
    if tags.get(_PLANES) != _PLANES_APART:
        return False
    if samples == 1:  # of which the tag says nothing, but Pillow heeds it
        return is_plain and (bits not in (1, 8) or colours == _WHITE_IS_ZERO)
    is_deep = bits > 8
    return samples == 2 or samples > 4 or (is_plain and (is_deep or (samples == 4 and colours == _RGB)))


def _openers() -> list[str]:
    """Return Pillow's names of the formats that this installation can open."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]
