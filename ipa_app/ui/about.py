"""What the page says about a model: what it draws, the words it knows, and kindly which ones it does not."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.wording import readable, signs_in, without_invisible
from ipa_app.models.amounts import size_text
from ipa_app.models.catalog import ModelEntry
from ipa_app.models.memory_use import MemoryUse
from ipa_app.models.words import unknown_words
from ipa_app.options import options
from ipa_app.ui import texts

BUNDLED_MODEL = "toybox"

_PROMPT, _NEGATIVE = (options(GenerateRequest)[name].title for name in ("prompt", "negative_prompt"))

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
    """Say while a prompt is typed which words the model does not know, and which signs mean nothing; often empty."""
    notes = [*_unknown_words([prompt or ""], entry), *_signs(_PROMPT, prompt or "")]
    return "".join(f'<p class="ipa-note">{note.in_html()}</p>' for note in notes)


def word_notes(request: GenerateRequest, *, entry: ModelEntry) -> tuple[str, ...]:
    """Say with a result how the words of its request were read, where that may not be what was meant."""
    typed = {_PROMPT: request.prompt, _NEGATIVE: request.negative_prompt}
    notes = _unknown_words([readable(text) for text in typed.values()], entry)
    for field, text in typed.items():
        visible = without_invisible(text)
        if visible != text:
            notes.append(_Note(texts.INVISIBLE_NOTE, {"field": field}))
        if readable(text) != visible:
            notes.append(_Note(texts.FORMS_NOTE, {"field": field}, [readable(text)]))
        notes += _signs(field, text)
    return tuple(note.in_words() for note in notes)


@dataclass(frozen=True)
class _Note:
    """A sentence of `texts`, its names, and the words of the visitor's that it is about."""

    text: str
    names: Mapping[str, str]
    words: Sequence[str] = ()

    def in_words(self) -> str:
        return self.text.format(words=", ".join(self.words), **self.names)

    def in_html(self) -> str:
        names = {name: html.escape(value) for name, value in self.names.items()}
        return self.text.format(words=", ".join(f"<em>{html.escape(word)}</em>" for word in self.words), **names)


def _unknown_words(typed: Sequence[str], entry: ModelEntry) -> list[_Note]:
    unknown = unknown_words("\n".join(typed), entry.words)
    text = texts.UNKNOWN_ONE if len(unknown) == 1 else texts.UNKNOWN_MANY
    return [_Note(text, {"title": entry.title}, unknown)] if unknown else []


def _signs(field: str, text: str) -> list[_Note]:
    signs = signs_in(text)
    return [_Note(texts.SIGNS_NOTE, {"field": field}, signs)] if signs else []


def _group(name: str, words: Sequence[str]) -> str:
    told = [word for word in words if word not in _LITTLE_WORDS and any(map(str.isalpha, word))]
    if name in _SILENT_GROUPS or not told:
        return ""
    chips = "".join(f"<li>{html.escape(word)}</li>" for word in told)
    return f'<section class="ipa-words"><h3>{html.escape(name.replace("_", " "))}</h3><ul>{chips}</ul></section>'
