"""The button that changes the language, and the dictionary behind it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from ipa_app.ui import texts

_FOLDER = Path(__file__).parent
_TAG = re.compile(r"<[^>]+>")


def language_switch() -> gr.HTML:
    """Lay out the button. The page opens in the browser's language, or in the one that was chosen last."""
    return gr.HTML(
        value="",
        html_template='<button type="button" class="ipa-language"></button>',
        js_on_load=(_FOLDER / "translate.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        padding=False,
        elem_id="language",
        dictionary=dictionary(),
    )


def dictionary() -> list[tuple[str, str]]:
    """Every English text of the page, as one node of the document holds it, and its Chinese one.

    Both may have placeholders such as {seed}.
    """
    chinese = json.loads((_FOLDER / "chinese.json").read_text(encoding="utf-8"))
    pairs = [pair for name, text in chinese.items() for pair in _pairs(getattr(texts, name), text)]
    return list(dict.fromkeys(pairs))


def _pairs(english: Any, chinese: Any) -> Iterator[tuple[str, str]]:
    if isinstance(english, dict):
        for key, text in english.items():
            yield from _pairs(text, chinese[key])
    elif isinstance(english, tuple):
        # Choices: what is shown, and its value.
        for (shown, _value), text in zip(english, chinese, strict=True):
            yield from _pairs(shown, text)
    else:
        yield from _nodes(english, chinese)


def _nodes(english: str, chinese: str) -> Iterator[tuple[str, str]]:
    """Cut marked-up texts where the browser cuts them."""
    for here, there in zip(_TAG.split(english), _TAG.split(chinese), strict=True):
        if here.strip():
            yield here.strip(), there.strip()
