"""Open truncated files as viewers do, but only if almost nothing is missing.

A decoder does not tell how much is missing: it either rejects the file or silently fills the gap. So the file is
completed in several ways: pixels that agree were in the file, and those that differ were not.
"""

from __future__ import annotations

import random
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

MOST_MISSING = 0.01
"""Largest share of the pixels that may be missing."""

Decode = Callable[[bytes], Image.Image]

_PNG = b"\x89PNG\r\n\x1a\n"
# Chunks that a picture needs or that affect its appearance.
_KEPT_CHUNKS = (b"PLTE", b"tRNS", b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"eXIf")
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Passes of an interlaced PNG: first column and row, and the steps between columns and rows.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

_END, _END_CODE, _FILL = b"\xff\xd9", 0xD9, 0xFF
_RESTARTS = range(0xD0, 0xD8)
# A marker, other than restarts and what only looks like one.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
# A progressive picture has about ten scans, each with its tables; notes and profiles take a segment per 64 kB.
_MOST_SEGMENTS, _MOST_SCANS = 10_000, 500
# The end marker, and what may come between the last scan and it: a line count, notes, comments.
_ENDS = (_END_CODE, 0xDC, *range(0xE0, 0xF0), 0xFE)
_SOF, _SOS, _DRI = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)), 0xDA, 0xDD
_SEGMENTS = (*_SOF, 0xC4, 0xCC, *range(0xDA, 0xDE), *range(0xE0, 0xF0), 0xFE)
_COEFFICIENTS, _MOST_COMPONENTS = 64, 4
# A coefficient takes 26 bits at most; a unit has up to six blocks of them, and a pixel belongs to three blocks.
_UNIT_BYTES, _BYTES_PER_PIXEL = 1250, 10


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A picture whose file was completed.

    Attributes:
        image: loaded; missing parts are grey or black.
        missing: share of missing pixels, at most `MOST_MISSING`.
        data: the file it was read from.
    """

    image: Image.Image
    missing: float
    data: bytes


def complete(data: bytes, kind: str | None, *, decode: Decode, max_pixels: int) -> Completed | None:
    """Complete a truncated file.

    Args:
        data: content of the file.
        kind: its format, by Pillow's name.
        decode: opens and loads a file; its errors are ignored.
        max_pixels: pictures that declare a larger size are not examined.

    Returns:
        None if more than `MOST_MISSING` of the picture is missing, or the file is damaged otherwise.

    Raises:
        ValueError, LookupError, struct.error, zlib.error: it is damaged in a way that shows earlier.
    """
    if kind == "PNG":
        file, missing = _complete_png(data, max_pixels=max_pixels)
        image = _decoded(file, decode)
    else:
        file, *others = _complete_jpeg(data, max_pixels=max_pixels) if kind == "JPEG" else _padded(data)
        image = _decoded(file, decode)
        missing = 1.0 if image is None else max(_differing(image, _decoded(other, decode)) for other in others)
    if image is None or missing > MOST_MISSING:
        return None
    return Completed(image=image, missing=missing, data=file)


def has_end(data: bytes) -> bool:
    """Whether a JPEG reaches its end marker. Without it a decoder may take anything for the rest of the picture.

    Raises:
        ValueError: it has more parts than any program writes, which would keep a decoder busy.
    """
    try:
        return _read_scans(data).mark in _ENDS
    except IndexError:
        # Its headers are damaged, which the decoder will report.
        return True


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Yield name, content and validity of each chunk of a PNG; the last one may be truncated."""
    at = len(_PNG)
    while at + 8 <= len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        yield name, body, data[at + 8 + length : at + 12 + length] == struct.pack(">I", zlib.crc32(name + body))
        at += 12 + length


def _decoded(data: bytes, decode: Decode) -> Image.Image | None:
    try:
        return decode(data)
    except Exception:
        # Whatever the decoder raises, this way of completing the file has failed.
        return None


def _differing(one: Image.Image, other: Image.Image | None) -> float:
    """Return the share of pixels in which two pictures differ."""
    if other is None or one.size != other.size or one.mode != other.mode:
        return 1.0
    differs = np.asarray(one) != np.asarray(other)
    return float((differs.any(axis=2) if differs.ndim == 3 else differs).mean())


def _padded(data: bytes) -> list[bytes]:
    """Pad a file in several ways: with zeros, and with other bytes."""
    length = int(len(data) * MOST_MISSING) + 64
    return [data + bytes(length), data + _anything(length), data + b"\x55" * length]


def _complete_png(data: bytes, *, max_pixels: int) -> tuple[bytes, float]:
    """Pad the pixel data, drop damaged chunks that are not needed, and return the padded share."""
    chunks = list(png_chunks(data))
    header = chunks[0][1]
    wanted = _png_bytes(header, max_pixels=max_pixels)
    unfold, there = zlib.decompressobj(), bytearray()
    for name, body, _ in chunks:
        if name == b"IDAT" and len(there) < wanted:
            there += unfold.decompress(body, wanted - len(there))
    if len(there) < wanted * (1 - MOST_MISSING):
        raise ValueError("more of this PNG is missing than a little")
    kept = [(name, body) for name, body, sound in chunks if name in _KEPT_CHUNKS and sound]
    pixels = zlib.compress(there.ljust(wanted, b"\0"), 1)
    return _png([(b"IHDR", header), *kept, (b"IDAT", pixels), (b"IEND", b"")]), 1 - len(there) / wanted


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    return _PNG + b"".join(
        struct.pack(">I4s", len(body), name) + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def _png_bytes(header: bytes, *, max_pixels: int) -> int:
    """Return the size of a PNG's decompressed pixels, including a filter byte per row."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if not 0 < width * height <= max_pixels:
        raise ValueError("no PNG of this size is opened")
    bits = depth * _CHANNELS[colour]
    total = 0
    for column, row, across, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - column) // across), -(-(height - row) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def _complete_jpeg(data: bytes, *, max_pixels: int) -> list[bytes]:
    """Insert the end marker where the picture ends: before what phones append, or at the end of the file."""
    scans = _read_scans(data.rstrip(b"\0"))
    if not scans.is_all_sent or scans.pixels > max_pixels:
        raise ValueError("parts of all of the picture are missing, or it is too large")
    head = data[: scans.end].rstrip(b"\xff")
    # A decoder reads on to the marker and takes everything for pixels as long as any are missing.
    filler = _anything(int(2 * MOST_MISSING * scans.pixels * _BYTES_PER_PIXEL) + 4096).replace(b"\xff", b"\xfe")
    return [head + each + _END for each in (b"", *(_in_intervals(each, scans) for each in (filler, filler[::-1])))]


def _in_intervals(filler: bytes, scans: _Scans) -> bytes:
    """Insert the restart markers that the decoder expects in a picture with restart intervals."""
    if not scans.interval:
        return filler
    length = scans.interval * _UNIT_BYTES
    pieces = [filler[at : at + length] for at in range(0, len(filler), length)]
    return b"".join(piece + bytes([_FILL, _RESTARTS[(scans.restarts + i) % 8]]) for i, piece in enumerate(pieces))


def _read_scans(data: bytes) -> _Scans:
    """Scan a JPEG to the end of its picture.

    Source: ITU-T T.81, annex B for the markers, annex G for the contents of progressive scans.

    Raises:
        IndexError: a header is shorter than declared, or invalid.
        ValueError: it has more parts than any program writes.
    """
    at, scans = 2, _Scans()
    for _ in range(_MOST_SEGMENTS):
        found = _MARKER.search(data, at)
        begin, at = at, found.start() if found else len(data)
        scans.restarts += sum(data.count(bytes((_FILL, code)), begin, at) for code in _RESTARTS)
        if found is None:
            scans.end = at
            return scans
        code, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if scans.is_all_sent or code not in _SEGMENTS or at + 2 + length > len(data):
            scans.end, scans.mark = at, code
            return scans
        at += 2 + length
        scans.read(code, data[at - length + 2 : at])
    raise ValueError("more parts than a JPEG has")


class _Scans:
    """Progress through the scans of a JPEG.

    Attributes:
        end: offset of the end of the last scan in the file.
        mark: code of the marker there; None at the end of the file.
        pixels: width times height.
        interval: units between two restart markers; 0 without any.
        restarts: number of restart markers in the last scan so far.
    """

    def __init__(self) -> None:
        self.end = 0
        self.mark: int | None = None
        self.pixels, self.interval, self.restarts = 0, 0, 0
        # Bits still to come of every coefficient, by component, and the number of coefficients with any.
        self._left: dict[int, list[int]] = {}
        self._unsent = self._scans = 0

    @property
    def is_all_sent(self) -> bool:
        """Whether nothing is left to come after the current scan."""
        return bool(self._left) and not self._unsent

    def read(self, code: int, segment: bytes) -> None:
        """Process the header of a frame or a scan.

        Raises:
            IndexError: it is shorter than declared, or invalid.
            ValueError: there are too many scans or components.
        """
        if code == _DRI:
            self.interval = int.from_bytes(segment[:2], "big")
        elif code in _SOF:
            self.pixels = int.from_bytes(segment[1:3], "big") * int.from_bytes(segment[3:5], "big")
            for i in range(segment[5]):
                self._add(segment[6 + 3 * i])
        elif code == _SOS:
            self.restarts = 0
            self._scans += 1
            count = segment[0]
            if self._scans > _MOST_SCANS or count > _MOST_COMPONENTS:
                raise ValueError("more scans than a JPEG has, or one of more components")
            first, last, bits = segment[1 + 2 * count], segment[2 + 2 * count], segment[3 + 2 * count] & 15
            for component in segment[1 : 1 + 2 * count : 2]:
                left = self._left.get(component) or self._add(component)
                sent = left[first : last + 1]
                left[first : last + 1] = [bits] * len(sent)
                self._unsent += sum(map(bool, left[first : last + 1])) - sum(map(bool, sent))

    def _add(self, component: int) -> list[int]:
        """Start a component, of which nothing has come yet."""
        if component in self._left or len(self._left) == _MOST_COMPONENTS:
            raise IndexError("a second frame, or more components than any picture has")
        self._unsent += _COEFFICIENTS
        return self._left.setdefault(component, [1] * _COEFFICIENTS)


def _anything(length: int) -> bytes:
    return random.Random(0).randbytes(length)
