"""The language menu, and all texts of the page in each language."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from string import Formatter
from typing import Any

import gradio as gr

from ipa_app.engine.references import Reference
from ipa_app.engine.requests import GenerateRequest
from ipa_app.messages import Language, Message, as_data, english
from ipa_app.models.entry import CONTROLNET_KINDS
from ipa_app.options import options
from ipa_app.pose.detectors import DETECTORS
from ipa_app.ui.language.markup import attribute

_SCRIPT = Path(__file__).with_name("speak.js")
_IN_COMPONENTS = ("page.", "style.", "example.", "gradio.")
"""Prefixes of the keys of texts in Gradio's components, styles and examples included, and of Gradio's own texts."""


def language_switch(languages: Mapping[str, Language], *, known: Iterable[Message]) -> gr.HTML:
    """Lay out the menu. The page opens in the browser's language, or in the one that was chosen last.

    Args:
        languages: the languages by code, including English.
        known: the messages with values that are in components when the page opens.
    """
    label = attribute("aria-label", Message("language.choose"))
    return gr.HTML(
        value="",
        html_template=f'<select class="ipa-language"{label}></select>',
        js_on_load=_SCRIPT.read_text(encoding="utf-8"),
        apply_default_css=False,
        padding=False,
        elem_id="language",
        setup=setup(languages, known=known),
    )


def setup(languages: Mapping[str, Language], *, known: Iterable[Message]) -> dict[str, Any]:
    """Return the script's data: the languages, and the texts that are looked up by their English.

    These are `texts`, looked up whole, each with its key or its message, and `patterns`, Gradio's own texts with
    placeholders.

    Args:
        languages: as for `language_switch`.
        known: as for `language_switch`.
    """
    sentences = {key: text for key, text in _english().items() if key.startswith((*_IN_COMPONENTS, "option."))}
    whole: dict[str, Any] = {text: key for key, text in sentences.items() if not _placeholders(text)}
    whole |= {str(message): as_data(message) for message in known}
    patterns = [(text, key) for key, text in sentences.items() if key.startswith("gradio.") and _placeholders(text)]
    spoken = [_spoken(each) for each in languages.values()]
    return {"languages": spoken, "texts": list(whole.items()), "patterns": patterns}


def declared_texts() -> Iterator[tuple[str, str]]:
    """Yield the key and English of all texts that are declared in the code: of options, detectors and ControlNets."""
    yield from _option_texts()
    yield from ((f"detector.{name}.help", each.help) for name, each in DETECTORS.items())
    yield from ((f"controlnet.{name}.purpose", each.purpose) for name, each in CONTROLNET_KINDS.items())


def _option_texts() -> Iterator[tuple[str, str]]:
    for option in (each for kind in (GenerateRequest, Reference) for each in options(kind).values()):
        said = {"title": option.title, "label": option.label, "help": option.help}
        said |= {f"shown.{choice}": text for choice, text in zip(option.choices, option.shown, strict=False)}
        yield from ((f"option.{option.api}.{name}", text) for name, text in said.items() if text)


def _spoken(language: Language) -> dict[str, Any]:
    """Return a language for the script; sentences missing from its file are in English.

    English only needs its own name: its sentences are on the page already.
    """
    sentences: dict[str, Any] = {**english().sentences, **dict(declared_texts()), **language.sentences}
    if language.code == english().code:
        sentences = {key: text for key, text in sentences.items() if key.startswith("language.")}
    return {"code": language.code, "name": language.name, "sentences": sentences}


def _english() -> dict[str, str]:
    sentences = {**english().sentences, **dict(declared_texts())}
    return {key: text for key, text in sentences.items() if isinstance(text, str)}


def _placeholders(text: str) -> bool:
    return any(name is not None for _, name, _, _ in Formatter().parse(text))
