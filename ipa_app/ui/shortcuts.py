"""Keyboard shortcuts that draw and stop from anywhere on the page, and the list of them."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from ipa_app.messages import Message
from ipa_app.ui.language.markup import attribute, said

_SCRIPT = Path(__file__).with_name("shortcuts.js")
_KEYS = {
    "<kbd>Ctrl</kbd> + <kbd>Enter</kbd><br><kbd>⌘</kbd> + <kbd>Enter</kbd>": "page.keys.generate",
    "<kbd>Esc</kbd>": "page.keys.stop",
    "<kbd>?</kbd>": "page.keys.list",
}


def shortcuts() -> gr.HTML:
    """Lay out the button that lists the keys; the script implements them."""
    name = Message("page.keys.heading")
    rows = "".join(f"<dt>{keys}</dt>{said(Message(does), tag='dd')}" for keys, does in _KEYS.items())
    return gr.HTML(
        value="",
        html_template=(
            f'<button type="button" class="ipa-round" aria-haspopup="dialog"{attribute("aria-label", name)}'
            f"{attribute('title', name)}>?</button>"
            f'<dialog class="ipa-keys"{attribute("aria-label", name)}>{said(name, tag="h2")}<dl>{rows}</dl>'
            f'<form method="dialog"><button>{said(Message("gradio.close"))}</button></form></dialog>'
        ),
        js_on_load=_SCRIPT.read_text(encoding="utf-8"),
        apply_default_css=False,
        padding=False,
        elem_id="keys",
    )
