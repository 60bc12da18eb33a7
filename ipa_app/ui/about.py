"""What the page says about a model: what it draws, the words it knows, and kindly which ones it does not."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from ipa_app.models.amounts import size_text
from ipa_app.models.catalog import ModelEntry
from ipa_app.models.memory_use import MemoryUse
from ipa_app.models.words import unknown_words
from ipa_app.ui import texts

BUNDLED_MODEL = "toybox"

# The model knows them, but nobody needs to be told.
_SILENT_GROUPS = ("glue", "small words")
_LITTLE_WORDS = frozenset(
    ("a", "among", "an", "and", "at", "both", "by", "for", "from", "in", "of", "on", "one", "out", "the", "to")
    + ("under", "up", "with")
)


def model_note(entry: ModelEntry) -> str:
    """Return the line under the header; that the bundled model draws toys and nothing else is said plainly."""
    text = texts.TOYBOX_NOTE if entry.name == BUNDLED_MODEL else html.escape(entry.about)
    return f'<p class="ipa-model-note">{text}</p>' if text else ""


def memory_text(use: MemoryUse) -> str:
    """Say where a loaded model runs, how much memory it takes, and what was done because memory was short."""
    runs = texts.MEMORY_RUNS[use.device][use.precision].format(size=size_text(use.needed))
    if not use.savings:
        return runs
    saved = texts.MEMORY_SAVED[" ".join(use.savings)]
    return f"{runs} {saved.format(free=size_text(use.free), wanted=size_text(use.wanted))}"


def memory_note(use: MemoryUse | None) -> str:
    """Return the line under the choice of models; empty until the model is ready."""
    return "" if use is None else f'<p class="ipa-help">{html.escape(memory_text(use))}</p>'


def left_out_note(left_out: Mapping[str, str]) -> str:
    """Return the lines under the choice of models that name what was meant to be one, and why it is none."""
    lines = [f"<li><b>{html.escape(name)}</b> <span>{html.escape(text)}</span></li>" for name, text in left_out.items()]
    return f'<div class="ipa-help"><p>{texts.LEFT_OUT}</p><ul>{"".join(lines)}</ul></div>'


def words_heading(entry: ModelEntry) -> str:
    """Return the title of the list of words."""
    return texts.WORDS_HEADING.format(title=entry.title)


def words_html(entry: ModelEntry) -> str:
    """Return the words the model knows, grouped; empty when it knows ordinary English."""
    groups = "".join(_group(name, words) for name, words in entry.words.items())
    return f'<p class="ipa-help">{texts.WORDS_HELP}</p>{groups}' if groups else ""


def unknown_words_note(prompt: str | None, *, entry: ModelEntry) -> str:
    """Name the words of a prompt that the model does not know; empty when there are none."""
    unknown = unknown_words(prompt or "", entry.words)
    if not unknown:
        return ""
    named = ", ".join(f"<em>{html.escape(word)}</em>" for word in unknown)
    text = texts.UNKNOWN_ONE if len(unknown) == 1 else texts.UNKNOWN_MANY
    return f'<p class="ipa-note">{text.format(title=html.escape(entry.title), words=named)}</p>'


def _group(name: str, words: Sequence[str]) -> str:
    told = [word for word in words if word not in _LITTLE_WORDS and any(map(str.isalpha, word))]
    if name in _SILENT_GROUPS or not told:
        return ""
    chips = "".join(f"<li>{html.escape(word)}</li>" for word in told)
    return f'<section class="ipa-words"><h3>{html.escape(name.replace("_", " "))}</h3><ul>{chips}</ul></section>'
