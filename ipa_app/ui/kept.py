"""Pictures kept among the files that Gradio serves to the page and clears away in time."""

from __future__ import annotations

import hashlib
import io
import tempfile
from pathlib import Path
from typing import Literal

from gradio.utils import get_upload_folder
from PIL import Image


def keep_picture(image: Image.Image, *, format: Literal["png", "jpeg"] = "png") -> str:
    """Write a picture and return its path.

    The same picture has the same path. Gradio's own components write to such a path in place, so that a browser which
    is just loading the file from an earlier event gets half of it; here a whole file takes the place of the one before.

    Args:
        image: of a mode that the format can hold.
        format: "png" keeps it exactly, "jpeg" is for looking at.
    """
    buffer = io.BytesIO()
    image.save(buffer, format=format)
    data = buffer.getvalue()
    folder = Path(get_upload_folder()) / hashlib.sha256(data).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
        file.write(data)
    path = folder / f"image.{format}"
    Path(file.name).replace(path)
    return str(path.resolve())
