"""Result files with arbitrary metadata, made without the app's code that writes and reads it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from ipa_app.imaging.result_files import OutputFormat

MARK = b"ip_adapter_studio\0"


def noted_file(path: Path, picture: Image.Image, output_format: OutputFormat, notes: Mapping[str, str]) -> Path:
    """Write a picture with the given notes, by name, and return the file's path."""
    if output_format == "png":
        info = PngInfo()
        for name, text in notes.items():
            info.add_text(name, text)
        picture.save(path, format="PNG", pnginfo=info)
    else:
        data = b"\0".join(word.encode() for pair in notes.items() for word in pair)
        with_data(path, picture, output_format, data)
    return path


def with_data(path: Path, picture: Image.Image, output_format: OutputFormat, data: bytes) -> Path:
    """Write a JPEG or WebP with raw data where its notes go, and return the file's path."""
    if output_format == "webp":
        exif = Image.Exif()
        exif[ExifTags.IFD.Exif] = {ExifTags.Base.MakerNote: MARK + data}
        picture.save(path, format="WEBP", lossless=True, exif=exif)
        return path
    parts = [data[at : at + 30_000] for at in range(0, len(data), 30_000)]
    segments = b"".join(b"\xff\xe7" + struct.pack(">H", len(MARK) + len(part) + 2) + MARK + part for part in parts)
    picture.save(path, format="JPEG", extra=segments)
    return path
