"""Pictures for the page: saved among the files that Gradio serves and later deletes, or inline in the page's HTML."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from ipa_app.imaging.formats import SHOWN_BY_BROWSERS, format_of
from ipa_app.imaging.opening import read_image
from ipa_app.messages import Message
from ipa_app.ui.failures import explained, gradio_error
from ipa_app.ui.language.markup import attribute, said_in_toast
from ipa_app.ui.turns import opening_turn
from ipa_app.ui.uploads import file_path, keep_data

_SIGNATURE_BYTES = 64
_TOLD_FOR_S = 12


def keep_picture(image: Image.Image, *, format: Literal["png", "jpeg"] = "png") -> str:
    """Save a picture for one page and return its path; the same picture gets another path each time.

    Gradio's components and `save_pil_to_cache` use one path per picture, and write to it in place: a browser that is
    still loading the file from an earlier event gets half of it, and deleting it takes it from other visitors.

    Args:
        image: a picture in a mode that the format supports.
        format: "png" is exact, "jpeg" is for display.
    """
    buffer = io.BytesIO()
    image.save(buffer, format=format)
    return keep_data(buffer.getvalue(), name=f"image.{format}")


def keep_files(paths: Iterable[Path]) -> list[str]:
    """Copy files for the page unchanged, and return the paths; files that are gone or do not fit are left out.

    Nothing is served directly from folders that others can write to: an HTML file there would run as part of this app.
    """
    kept = []
    for path in paths:
        with suppress(OSError):
            kept.append(save_file_to_cache(path, cache_dir=get_upload_folder()))
    return kept


def keep_text(text: str, *, name: str) -> str:
    """Save a text for one page as a file with this name, and return its path."""
    return keep_data(text.encode(), name=name)


def check_there(path: str | None) -> str:
    """Return the path of a picture's file, which may have been deleted: files are kept for a day.

    Raises:
        gr.Error: the file is gone.
    """
    if path is None or not Path(path).is_file():
        raise gradio_error(Message("result.gone"))
    return path


def show_anywhere(upload: Any) -> Any:
    """Convert an upload that browsers cannot show, such as HEIC, to PNG; skip all others.

    Notes on the original file are shown now, as they cannot be derived from the PNG.

    Args:
        upload: as for `file_path`.

    Raises:
        gr.Error: it is not a usable picture.
    """
    with explained():
        path = file_path(upload, field="image")
        with Path(path).open("rb") as file:
            kind = format_of(file.read(_SIGNATURE_BYTES))
        if kind is None or kind in SHOWN_BY_BROWSERS:
            return gr.skip()
        with opening_turn(upload):
            opened = read_image(path)
        for note in opened.notes:
            gr.Info(said_in_toast(note), duration=_TOLD_FOR_S)
        return keep_picture(opened.image)


_QUALITY = 80


def inline_picture(image: Image.Image, *, alt: Message, css_class: str) -> str:
    """Return an <img> that contains the picture itself, as JPEG.

    Args:
        image: mode "RGB"; small, as it becomes text in the page.
        alt: the alternative text.
        css_class: the CSS class.
    """
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_QUALITY)
    return inline_jpeg(buffer.getvalue(), alt=alt, css_class=css_class)


def inline_jpeg(jpeg: bytes, *, alt: str, css_class: str) -> str:
    """Return an <img> that contains a JPEG file; `alt` and `css_class` are as for `inline_picture`."""
    data = base64.b64encode(jpeg).decode("ascii")
    return f'<img class="{css_class}"{attribute("alt", alt)} src="data:image/jpeg;base64,{data}">'
