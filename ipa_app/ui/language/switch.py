"""The choice of the language, and all that the page can say in each."""

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
"""How the keys begin of what stands in Gradio's components, styles and examples among it, and of what Gradio says."""


def language_switch(languages: Mapping[str, Language], *, known: Iterable[Message]) -> gr.HTML:
    """Lay out the choice. The page opens in the browser's language, or in the one that was chosen last.

    Args:
        languages: by their codes, English among them.
        known: what stands in components when the page opens, and has values.
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
    """Return what the script is given: the languages, and what is looked up by its English text.

    That are `texts`, looked up whole, each with the key of what it says or the message; and Gradio's own `patterns`,
    with something else in between.

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
    """Yield all that people see and that is declared elsewhere in English, each by its key: of options, of kinds."""
    yield from _option_texts()
    yield from ((f"detector.{name}.help", each.help) for name, each in DETECTORS.items())
    yield from ((f"controlnet.{name}.purpose", each.purpose) for name, each in CONTROLNET_KINDS.items())


def _option_texts() -> Iterator[tuple[str, str]]:
    for option in (each for kind in (GenerateRequest, Reference) for each in options(kind).values()):
        said = {"title": option.title, "label": option.label, "help": option.help}
        said |= {f"shown.{choice}": text for choice, text in zip(option.choices, option.shown, strict=False)}
        yield from ((f"option.{option.api}.{name}", text) for name, text in said.items() if text)


def _spoken(language: Language) -> dict[str, Any]:
    """Return a language as the script takes it; what its file lacks is said in English.

    Of English it takes what it is called only: that stands on the page already.
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
