"""Every sentence that the program says, by its key, in every language that there is a file for.

`en.json` has the sentences themselves, by keys that name the thing: `mask.empty`, `adapter.other_base`. Every other
file here is a language with the same keys. A sentence may have placeholders such as {title}; it may depend on a number
that is called `count`, and is then given once for each of the language's plural forms; and it may have the marks
<strong>, <em> and <br>, which the page shows and plain text leaves out.

A `Message` is such a sentence with its values. As text it is English, as programs and the log read it; the page says it
in the visitor's language by the key and the values, which may be messages themselves.
"""

from __future__ import annotations

import html
import json
import logging
import re
import string
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
PLAIN = ""
"""The key of what is said in English only, to programs and at the command line."""

_MARKS = re.compile(r"</?(?:strong|em)>|<br>")
_ESCAPED_MARKS = re.compile(r"&lt;(/?(?:strong|em)|br)&gt;")
# What somebody typed, or a file is called, breaks no line and turns no sentence around: control characters, marks of
# direction and halves of characters, by their Unicode categories. Emoji and some scripts are spelled with the joiners.
_BREAKS = {"Cc": " ", "Cf": " ", "Zl": " ", "Zp": " ", "Cs": "\N{REPLACEMENT CHARACTER}"}
_JOINERS = "\u200c\u200d"
_LONGEST_VALUE = 400
"""Most characters of what somebody typed, or a file says, in a sentence."""

Sentence = str | Mapping[str, str]
"""A sentence, or its forms by the plural categories of Unicode ("one", "other", ...)."""


@dataclass(frozen=True)
class Language:
    """A language that the page can be shown in.

    Attributes:
        code: name of its file, a language tag such as "zh".
        sentences: by their keys.
    """

    code: str
    sentences: Mapping[str, Sentence]

    @property
    def name(self) -> str:
        """What it is called by those who speak it."""
        return str(self.sentences.get("language.name", self.code))


def languages(folder: Path = FOLDER) -> dict[str, Language]:
    """Return the languages that a folder has files for by their codes, English first.

    A file that cannot be read is left out, with a warning in the log.
    """
    found = {}
    for path in sorted(folder.glob("*.json"), key=lambda path: (path.stem != "en", path.stem)):
        try:
            found[path.stem] = _read(path)
        except (OSError, ValueError) as error:
            logger.warning("The language %s is left out: %s", path.stem, error)
    return found


def _read(path: Path) -> Language:
    sentences = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(sentences, dict):
        raise ValueError("it holds no JSON object")
    return Language(path.stem, MappingProxyType(sentences))


@cache
def english() -> Language:
    """Return the language that programs are told in."""
    return _read(FOLDER / "en.json")


class Message(str):
    """A sentence, or a part of one, which is the English text and knows how it came about.

    Attributes:
        key: of the sentence.
        values: what stands in its placeholders, by their names: messages, numbers, what somebody typed or a file is
            called, or several of these; anything else is taken as its text.
    """

    key: str
    values: Mapping[str, object]

    __slots__ = ("key", "values")

    def __new__(cls, key: str, /, **values: object) -> Message:
        """Return the sentence that has a key."""
        return cls._made(english().sentences[key], key, values)

    @classmethod
    def declared(cls, key: str, text: str, /, **values: object) -> Message:
        """Return what is declared elsewhere in English, as options are; other languages have it by the key."""
        return cls._made(text, key, values)

    @classmethod
    def plain(cls, text: str) -> Message:
        """Return a message for programs or at the command line, where all is English."""
        return cls._restored(text, PLAIN, {})

    @classmethod
    def _made(cls, sentence: Sentence, key: str, values: Mapping[str, object]) -> Message:
        said = {name: _said(value) for name, value in values.items()}
        return cls._restored(_filled(sentence, said), key, said)

    @classmethod
    def _restored(cls, text: str, key: str, values: dict[str, object]) -> Message:
        made = super().__new__(cls, text)
        made.key, made.values = key, MappingProxyType(values)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the key and the values when a message goes to another process."""
        return self._restored, (str(self), self.key, dict(self.values))


def titled(key: str, name: str) -> str:
    """Return what people call something by a key; what has no sentence is somebody's own, and called by its name."""
    return Message(key) if key in english().sentences else name


def as_data(value: object) -> Any:
    """Return a value as JSON holds it: a message that has a key as an object of `key` and `values`."""
    if isinstance(value, Message) and value.key != PLAIN:
        return {"key": value.key, "values": {name: as_data(each) for name, each in value.values.items()}}
    if isinstance(value, str | int):
        return value
    return [as_data(each) for each in value] if isinstance(value, tuple) else str(value)


def from_data(data: Any) -> Any:
    """Return what `as_data` was given, numbers with a fraction as their text.

    Raises:
        KeyError: there is no such sentence, or a value of it is missing.
    """
    if isinstance(data, dict):
        return Message(data["key"], **{name: from_data(each) for name, each in data["values"].items()})
    return tuple(map(from_data, data)) if isinstance(data, list) else data


def without_folders(value: Any) -> Any:
    """Return a message that names files and folders but not where they lie, which is for the log and nobody else."""
    if isinstance(value, Message):
        values = {name: without_folders(each) for name, each in value.values.items()}
        return Message(value.key, **values) if value.key in english().sentences else value
    if isinstance(value, tuple):
        return tuple(map(without_folders, value))
    return Path(value).name or value if isinstance(value, str) and Path(value).is_absolute() else value


def _said(value: object) -> object:
    if isinstance(value, list | tuple):
        return tuple(map(_said, value))
    if isinstance(value, Message | float | int):
        return value
    text = value if isinstance(value, str) else str(value)
    text = text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
    return text if text.isprintable() else "".join(map(_in_line, text))


def _in_line(letter: str) -> str:
    return letter if letter in _JOINERS else _BREAKS.get(unicodedata.category(letter), letter)


def in_html(value: object) -> str:
    """Return a value as HTML in English: sentences with their marks, and everything else escaped."""
    if isinstance(value, tuple):
        return ", ".join(map(in_html, value))
    sentence = english().sentences.get(value.key) if isinstance(value, Message) else None
    if sentence is None or not isinstance(value, Message):
        return html.escape(str(value), quote=False)
    text = _ESCAPED_MARKS.sub(r"<\1>", html.escape(_form(sentence, value.values), quote=False))
    return _FORMATTER.vformat(text, (), {name: in_html(each) for name, each in value.values.items()})


def _filled(sentence: Sentence, values: Mapping[str, object]) -> str:
    """Fill the placeholders of an English sentence."""
    return _FORMATTER.vformat(_MARKS.sub("", _form(sentence, values)), (), values)


def _form(sentence: Sentence, values: Mapping[str, object]) -> str:
    if isinstance(sentence, str):
        return sentence
    return sentence["one" if values["count"] == 1 else "other"]


class _Formatter(string.Formatter):
    """Joins what is several, and lets what begins a line begin with a capital where a sentence says {name:capital}."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, tuple):
            value = ", ".join(map(str, value))
        text = str(value)
        return text[:1].upper() + text[1:] if format_spec == "capital" else text


_FORMATTER = _Formatter()
