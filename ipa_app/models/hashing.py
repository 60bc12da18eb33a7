"""Naming a picture by its content."""

from __future__ import annotations

import hashlib

from PIL import Image


def picture_hash(image: Image.Image) -> str:
    """SHA-256 of a picture's content: mode, size and pixels, whatever file it came from."""
    digest = hashlib.sha256(f"{image.mode} {image.size} ".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()
