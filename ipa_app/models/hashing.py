"""Hashes of the content of pictures and files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from PIL import Image


def picture_hash(image: Image.Image) -> str:
    """Return the SHA-256 of a picture's content: mode, size and pixels, whatever file it came from."""
    digest = hashlib.sha256(f"{image.mode} {image.size} ".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
