"""Small pictures inside the page's own HTML: no file is kept for them, and nobody else can ask for one."""

from __future__ import annotations

import base64
import io

from PIL import Image

from ipa_app.messages import Message
from ipa_app.ui.language.markup import attribute

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
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img class="{css_class}"{attribute("alt", alt)} src="data:image/jpeg;base64,{data}">'
