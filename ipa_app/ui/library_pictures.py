"""The pictures of the Library tab as the page shows them, each with its tick and its heart."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import gradio as gr

from ipa_app.engine.tasks import TASKS
from ipa_app.errors import UserError
from ipa_app.library.index import Entry
from ipa_app.messages import Message, english
from ipa_app.ui.failures import explained
from ipa_app.ui.language.markup import attribute, said
from ipa_app.ui.pictures import inline_jpeg
from ipa_app.ui.presentation import IS_PRESENTED

MOST_TICKED = 200
_NAMED = re.compile(rf"(\d\d)(\d\d)\d\d-({'|'.join(TASKS)})-")
_SCRIPT = Path(__file__).with_name("library_pictures.js")

TICKED = "(_, ...others) => [[...window.ipaTicked], ...others]"
"""The script that puts the names of the ticked pictures in the place of a listener's first input."""
UNTICK = "() => { window.dispatchEvent(new Event('ipa-untick')); }"
"""The script that unticks all pictures."""
GONE = "(gone) => { window.dispatchEvent(new CustomEvent('ipa-gone', { detail: gone ?? [] })); }"
"""The script that unticks pictures that no longer exist, by their names."""
LIKED = "(liked) => { if (liked) window.dispatchEvent(new CustomEvent('ipa-hearts', { detail: liked })); }"
"""The script that sets hearts to the outcome of presses on them."""


def pictures_box() -> gr.HTML:
    """Lay out the place of the pictures, below the line that says how many are ticked."""
    untick = f'<button type="button">{said(Message("page.library.untick"))}</button>'
    ticked = json.dumps(english().sentences["library.ticked"])
    constants = f"const TICKED = {ticked};\nconst IS_PRESENTED = {IS_PRESENTED};\n"
    return gr.HTML(
        "",
        html_template=f'<p class="ipa-ticked" data-none><span role="status"></span> {untick}</p>${{value}}',
        js_on_load=constants + _SCRIPT.read_text(encoding="utf-8"),
        padding=False,
        elem_id="library-pictures",
    )


def laid_out(pictures: Iterable[tuple[Entry, bytes]]) -> str:
    """Return the HTML of pictures, with a heading for each day.

    Args:
        pictures: the entry of each, and its thumbnail as a JPEG file.
    """
    days = groupby(pictures, key=lambda picture: picture[0].name.rpartition("/")[0])
    return "".join(f"{_heading(day)}{_list(each)}" for day, each in days)


def _heading(day: str) -> str:
    return f'<h3 class="ipa-day">{html.escape(day)}</h3>' if day else ""


def _list(pictures: Iterable[tuple[Entry, bytes]]) -> str:
    return f'<ul class="ipa-library">{"".join(_item(entry, jpeg) for entry, jpeg in pictures)}</ul>'


def _item(entry: Entry, jpeg: bytes) -> str:
    """Return the HTML of a picture with its tick and its heart; its caption and name are untrusted text."""
    caption = entry.caption or _name(entry.name.rpartition("/")[2])
    tick, heart, opens = (Message(f"library.item.{what}", caption=caption) for what in ("tick", "heart", "open"))
    return (
        f'<li data-name="{html.escape(entry.name)}">'
        f'<button type="button" class="ipa-open"{attribute("aria-label", opens)}{attribute("title", caption)}>'
        f"{inline_jpeg(jpeg, alt='', css_class='')}</button>"
        f'<input type="checkbox"{attribute("aria-label", tick)}>'
        f'<button type="button" class="ipa-heart" aria-pressed="{str(entry.is_favourite).lower()}"'
        f"{attribute('aria-label', heart)}>♥</button></li>"
    )


def _name(file: str) -> str:
    """Return what to call a picture without a prompt: its task and time, which the library has put into its name."""
    time_and_task = _NAMED.match(file)
    if time_and_task is None:
        return file
    hour, minute, task = time_and_task.groups()
    return Message("library.item.untitled", task=Message(f"page.{task}.tab"), time=f"{hour}:{minute}")


def names_sent(ticked: Any) -> list[str]:
    """Return the names of the ticked pictures, as the page sent them, without duplicates."""
    sent: Sequence[object] = ticked if isinstance(ticked, list) else []
    return list(dict.fromkeys(name for name in sent if isinstance(name, str)))


def ticked_names(ticked: Any) -> list[str]:
    """Return the names of the ticked pictures, to act on.

    Args:
        ticked: what the page sent.

    Raises:
        gr.Error: none is ticked, or more than are allowed.
    """
    names = names_sent(ticked)
    with explained():
        if not names:
            raise UserError("library.nothing_ticked")
        if len(names) > MOST_TICKED:
            raise UserError("library.too_many_ticked", most=MOST_TICKED)
    return names
