"""Whatever the page says in English it can say in Chinese."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ipa_app.ui import texts
from ipa_app.ui.language.switch import dictionary

CHINESE = json.loads((Path(texts.__file__).parent / "language" / "chinese.json").read_text(encoding="utf-8"))
PLACEHOLDER = re.compile(r"\{\w+(?::[^}]*)?\}")
TAG = re.compile(r"<[^>]+>")
ONLY_ENGLISH = {"TITLE"}


def shown_texts() -> dict[str, Any]:
    """All that people see; what documents the API is for programmers and stays English."""
    names = {name for name in vars(texts) if name.isupper() and not name.startswith("API_")}
    return {name: getattr(texts, name) for name in names - ONLY_ENGLISH}


def leaves(text: Any) -> list[str]:
    if isinstance(text, str):
        return [text]
    if isinstance(text, dict):
        return [leaf for key in sorted(text) for leaf in leaves(text[key])]
    return [leaf for item in text for leaf in leaves(item[0] if isinstance(item, tuple) else item)]


def test_every_text_has_a_translation_and_no_translation_is_left_over() -> None:
    assert set(CHINESE) == set(shown_texts())


def test_translations_have_the_same_placeholders_and_markup() -> None:
    for name, english in shown_texts().items():
        for here, there in zip(leaves(english), leaves(CHINESE[name]), strict=True):
            assert sorted(PLACEHOLDER.findall(here)) == sorted(PLACEHOLDER.findall(there)), name
            assert TAG.findall(here) == TAG.findall(there), name


def test_no_english_text_has_two_translations() -> None:
    pairs = dictionary()
    assert len({english for english, _ in pairs}) == len(pairs)
