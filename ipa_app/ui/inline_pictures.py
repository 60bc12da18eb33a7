"""Small pictures inside the page's own HTML: no file is kept for them, and nobody else can ask for one."""

from __future__ import annotations

import base64
import html
import io

from PIL import Image

_QUALITY = 80


def inline_picture(image: Image.Image, *, alt: str, css_class: str) -> str:
    """Return an <img> that holds the picture itself, as JPEG.

    Args:
        image: mode "RGB"; small, a page holds it as text.
        alt: what is to be seen, plain text.
        css_class: how it looks.
    """
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img class="{css_class}" alt="{html.escape(alt)}" src="data:image/jpeg;base64,{data}">'
