"""The square of a reference that the vision tower looks at, shown beside the choice of it."""

from __future__ import annotations

from typing import Any

from PIL import Image

from ipa_app.errors import UserError
from ipa_app.imaging.cropping import SquareMode, side_by_side, squares_for_clip
from ipa_app.messages import Message
from ipa_app.ui.form import open_upload
from ipa_app.ui.inline_pictures import inline_picture
from ipa_app.ui.language.markup import said
from ipa_app.ui.status import notes_html

_SIDE = 144


def seen_html(payload: Any, *, view: SquareMode, centre: tuple[float, float]) -> str:
    """Show what the model looks at; nothing where there is no picture, and why where it is none.

    Args:
        payload: an upload, or None.
        view: as in `squares_for_clip`.
        centre: as in `squares_for_clip`.
    """
    if payload is None:
        return ""
    try:
        opened = open_upload(payload, field="reference", name=Message("upload.this"))
    except UserError as error:
        return notes_html([error.message])
    squares = squares_for_clip(opened.image, mode=view, centre=centre)
    small = [square.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC) for square in squares]
    label = Message("page.seen_label")
    shown = inline_picture(side_by_side(small), alt=label, css_class="ipa-seen-square")
    return f'<div class="ipa-seen">{shown}{said(label)}</div>{notes_html(opened.notes)}'
