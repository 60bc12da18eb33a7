"""The button that changes the language, and the dictionary behind it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from ipa_app.engine.references import Reference
from ipa_app.engine.requests import GenerateRequest
from ipa_app.options import Option, options
from ipa_app.ui import texts

_FOLDER = Path(__file__).parent
# What the browser cuts a text at: its markup, and {words}, which come with markup of their own.
_CUT = re.compile(r"<[^>]+>|\{words\}")

Pair = tuple[str, str]


def language_switch() -> gr.HTML:
    """Lay out the button. The page opens in the browser's language, or in the one that was chosen last."""
    return gr.HTML(
        value="",
        html_template='<button type="button" class="ipa-language"></button>',
        js_on_load="\n".join(_read(name) for name in ("matching.js", "translate.js")),
        apply_default_css=False,
        padding=False,
        elem_id="language",
        dictionary=dictionary(),
        phrases=phrases(),
    )


def dictionary() -> list[Pair]:
    """Everything the page can say in English, as one node of the document holds it, and the same in Chinese.

    Gradio's own words are among it: it follows the browser's language only, and leaves much in English.

    Both may have placeholders such as {seed}. What stands in a placeholder that is called after a kind of `phrases`,
    with a digit behind it where there are several, must be one of these and is translated, too; in {number} it must
    be a number, and in {label} any other text of the page. What stands in any other stays as it is.
    """
    mirrored = json.loads(_read("chinese.json"))
    pairs = [pair for name, text in mirrored.items() for pair in _pairs(getattr(texts, name), text)]
    pairs += [pair for option, chinese in _options() for pair in _pairs(_shown_of(option), chinese)]
    others = [pair for name in ("sentences.json", "gradio.json") for pair in json.loads(_read(name)).items()]
    return list(dict.fromkeys([*pairs, *others]))


def phrases() -> dict[str, list[Pair]]:
    """What may stand in placeholders, by the kind they are called after."""
    found = {kind: list(pairs.items()) for kind, pairs in json.loads(_read("phrases.json")).items()}
    found["field"] += [(option.title, chinese["title"]) for option, chinese in _options()]
    return found


def _options() -> Iterator[tuple[Option, dict[str, Any]]]:
    """Give every option with its texts in Chinese."""
    declared = {each.api: each for kind in (GenerateRequest, Reference) for each in options(kind).values()}
    return ((declared[name], chinese) for name, chinese in json.loads(_read("options.json")).items())


def _shown_of(option: Option) -> dict[str, Any]:
    """Return what the page shows of an option; its title stands in sentences alone."""
    shown = {"label": option.label, "help": option.help, "shown": option.shown}
    return {name: text for name, text in shown.items() if text}


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _pairs(english: Any, chinese: Any) -> Iterator[Pair]:
    if isinstance(english, dict):
        for key, text in english.items():
            yield from _pairs(text, chinese[key])
    elif isinstance(english, tuple):
        for shown, text in zip(english, chinese, strict=True):
            yield from _pairs(shown, text)
    else:
        yield from _nodes(english, chinese)


def _nodes(english: str, chinese: str) -> Iterator[Pair]:
    """Cut marked-up texts where the browser cuts them; those with {words} are said without markup as well."""
    if "{words}" in english:
        yield english, chinese
    for here, there in zip(_CUT.split(english), _CUT.split(chinese), strict=True):
        if here.strip():
            yield here.strip(), there  # with its spaces: Latin words have them where Chinese ones meet them
