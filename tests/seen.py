"""The text a reader sees of HTML."""

from __future__ import annotations

import html
import re

_TAG = re.compile(r"<[^>]*>")
_PARAGRAPH = re.compile(r"<p\b[^>]*>(.*?)</p>", re.DOTALL)


def text_of(content: object) -> str:
    """Return the text of some HTML."""
    return html.unescape(_TAG.sub("", str(content)))


def paragraphs(content: str) -> list[str]:
    """Return the text of each paragraph of some HTML."""
    return [text_of(each) for each in _PARAGRAPH.findall(content)]
