"""HTML that carries its messages' keys and values, from which the page's script translates it."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence

from ipa_app.messages import Message, as_data, in_html


def said(*messages: str, tag: str = "span", css_class: str = "", role: str = "") -> str:
    """Return an element with sentences in it.

    Args:
        messages: the sentences. A plain string is the same in every language. Everything but the sentences' own tags
            is escaped.
        tag: the element's tag.
        css_class: the element's class.
        role: the element's role; by default it has none.
    """
    plain = {"class": css_class, "role": role}
    attributes = "".join(f' {name}="{value}"' for name, value in plain.items() if value)
    return f"<{tag}{attributes}{_data('', messages)}>{' '.join(map(in_html, messages))}</{tag}>"


def status_note(*messages: str, css_class: str = "ipa-note") -> str:
    """Return a paragraph of sentences that screen readers read out when it appears."""
    return said(*messages, tag="p", css_class=css_class, role="status")


def attribute(name: str, *messages: str) -> str:
    """Return an attribute of an element whose value is text, such as its title; begins with a space."""
    return f' {name}="{html.escape(" ".join(messages))}"{_data(f"-{name}", messages)}'


def spoken(*, only: str = "", besides: Sequence[str] = ()) -> str:
    """Return the attributes of an element that is only shown in some languages; begins with a space.

    Args:
        only: the tag of the one language that it is shown in.
        besides: the languages that it is not shown in, where another element takes its place.
    """
    if only:
        return f' lang="{html.escape(only)}" data-only="{html.escape(only)}" hidden'
    return f' data-besides="{html.escape(" ".join(besides))}"' if besides else ""


def said_in_toast(message: Message, *, css_class: str = "") -> str:
    """Return a sentence as HTML for Gradio's toasts, which strip data attributes but keep `content`."""
    named = f' class="{css_class}"' if css_class else ""
    return f'<span{named} content="{_json((message,))}">{in_html(message)}</span>'


def known(messages: Iterable[str]) -> str:
    """Return a hidden element that tells the page's script which messages are in components, which hold no keys."""
    told = [(message, as_data(message)) for message in messages if isinstance(message, Message)]
    return f'<span hidden data-known="{html.escape(json.dumps(told))}"></span>' if told else ""


def _data(which: str, messages: tuple[str, ...]) -> str:
    if not any(isinstance(message, Message) for message in messages):
        return ""
    return f' data-message{which}="{_json(messages)}"'


def _json(messages: tuple[str, ...]) -> str:
    return html.escape(json.dumps([as_data(message) for message in messages]))
