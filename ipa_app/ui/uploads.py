"""Reading what the browser or an API client uploaded, before anything has decoded it.

The listeners run with `preprocess=False`: Gradio's own components would open a file first, and fail at an odd one
with messages of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ipa_app.errors import UserError
from ipa_app.models.amounts import size_text
from ipa_app.ui import texts

LARGEST_PICTURE = 32 * 10**6


def file_path(payload: Any, *, field: str, most: int | None = LARGEST_PICTURE) -> str:
    """Return the uploaded file's path.

    Args:
        payload: what a File or Image component sends, a dict with "path". Gradio has checked that the path lies
            among its uploads.
        field: the input's name for the message.
        most: bytes that it may have; None where somebody else looks at that.

    Raises:
        UserError: several files, no file at all in what was sent, or a larger one.
    """
    if isinstance(payload, list):
        if len(payload) != 1:
            raise UserError(texts.ONE_FILE.format(field=field))
        payload = payload[0]
    path = payload.get("path") if isinstance(payload, dict) else None
    if not isinstance(path, str):
        raise UserError(texts.NOT_A_FILE.format(field=field))
    if most is not None and Path(path).stat().st_size > most:
        raise UserError(texts.TOO_LARGE_A_FILE.format(field=field, size=size_text(most)))
    return path
