"""Naming the words of a prompt that a small model has never seen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_WORD = re.compile(r"\w+")
_POSSESSIVE = re.compile(r"['’]s\b")


def unknown_words(prompt: str, words: Mapping[str, Sequence[str]]) -> list[str]:
    """Find the words of a prompt that the model does not know.

    Args:
        prompt: what the person typed.
        words: the model's vocabulary by group, as in its words.json; an empty one means that the model knows
            everything.

    Returns:
        The unknown words in lower case, each once, in the order of the prompt.
    """
    known = {part for group in words.values() for entry in group for part in _WORD.findall(entry.lower())}
    if not known:
        return []
    typed = _WORD.findall(_POSSESSIVE.sub("", prompt.lower()))
    return list(dict.fromkeys(word for word in typed if word not in known))
