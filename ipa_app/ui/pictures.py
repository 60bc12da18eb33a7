"""Pictures for the page: kept among the files that Gradio serves and clears away in time, or inside the page's HTML."""

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
    """Keep a picture for one page and return its path; the same picture has another path each time.

    Gradio's components, and `save_pil_to_cache`, have one for each picture, and write to it in place: a browser which
    is just loading the file from an earlier event gets half of it, and who deletes it takes it from others.

    Args:
        image: of a mode that the format can hold.
        format: "png" keeps it exactly, "jpeg" is for looking at.
    """
    buffer = io.BytesIO()
    image.save(buffer, format=format)
    return keep_data(buffer.getvalue(), name=f"image.{format}")


def keep_files(paths: Iterable[Path]) -> list[str]:
    """Keep copies of files as they are, and return their paths; what has gone, or there is no room for, is left out.

    Where others may put files, nothing is served from: a page of HTML among them would be one of this app's.
    """
    kept = []
    for path in paths:
        with suppress(OSError):
            kept.append(save_file_to_cache(path, cache_dir=get_upload_folder()))
    return kept


def keep_text(text: str, *, name: str) -> str:
    """Keep a text for one page as a file of a name, and return its path."""
    return keep_data(text.encode(), name=name)


def check_there(path: str | None) -> str:
    """Return the path of a picture's file. Files are cleared away after a day.

    Raises:
        gr.Error: it is gone.
    """
    if path is None or not Path(path).is_file():
        raise gradio_error(Message("result.gone"))
    return path


def show_anywhere(upload: Any) -> Any:
    """Exchange an upload that browsers do not show, such as HEIC, for the same picture as PNG; others stay as they are.

    What is to be said of the file is said now, as the PNG knows nothing of it any more.

    Args:
        upload: as for `file_path`.

    Raises:
        gr.Error: it is no picture that can be used.
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
    """Return an <img> that holds the picture itself, as JPEG.

    Args:
        image: mode "RGB"; small, a page holds it as text.
        alt: what is to be seen.
        css_class: how it looks.
    """
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_QUALITY)
    return inline_jpeg(buffer.getvalue(), alt=alt, css_class=css_class)


def inline_jpeg(jpeg: bytes, *, alt: str, css_class: str) -> str:
    """Return an <img> that holds a JPEG file; `alt` and `css_class` are as for `inline_picture`."""
    data = base64.b64encode(jpeg).decode("ascii")
    return f'<img class="{css_class}"{attribute("alt", alt)} src="data:image/jpeg;base64,{data}">'
