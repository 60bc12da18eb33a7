"""Pictures kept among the files that Gradio serves to the page and clears away in time."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder
from PIL import Image


def keep_picture(image: Image.Image, *, format: Literal["png", "jpeg"] = "png") -> str:
    """Keep a picture and return its path; the same picture has the same path.

    Gradio's components, and `save_pil_to_cache`, write to that path in place, so that a browser which is just loading
    the file from an earlier event gets half of it. Here nothing is written where the whole file is already there.

    Args:
        image: of a mode that the format can hold.
        format: "png" keeps it exactly, "jpeg" is for looking at.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"image.{format}"
        image.save(path)
        return save_file_to_cache(path, cache_dir=get_upload_folder())
