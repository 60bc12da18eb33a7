"""Every sentence that the app shows, by its key, in every language that has a file here.

`en.json` holds the English sentences, by keys that name the thing: `mask.empty`, `adapter.other_base`. Every other file
is a language with the same keys. A sentence may have placeholders such as {title}. It may depend on a number called
`count`, and is then given once for each plural form of the language. It may contain the tags <strong>, <em> and <br>,
which the page shows and plain text leaves out.

A `Message` is such a sentence with its values. As a string it is English, for programs and the log. The page translates
it into the visitor's language from the key and the values, which may be messages themselves.
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
"""The key of messages that exist in English only, for programs and the command line."""

_MARKS = re.compile(r"</?(?:strong|em)>|<br>")
_ESCAPED_MARKS = re.compile(r"&lt;(/?(?:strong|em)|br)&gt;")
# Replacements by Unicode category for control characters, direction marks and lone surrogates, so that typed text and
# file names cannot break a line or reverse a sentence. The joiners stay: emoji and some scripts are spelled with them.
_BREAKS = {"Cc": " ", "Cf": " ", "Zl": " ", "Zp": " ", "Cs": "\N{REPLACEMENT CHARACTER}"}
_JOINERS = "\u200c\u200d"
_LONGEST_VALUE = 400
"""The most characters that typed text, or text from a file, may take up in a sentence."""

Sentence = str | Mapping[str, str]
"""A sentence, or its forms by Unicode plural category ("one", "other", ...)."""


@dataclass(frozen=True)
class Language:
    """A language that the page can be shown in.

    Attributes:
        code: the name of its file, a language tag such as "zh".
        sentences: the sentences by key.
    """

    code: str
    sentences: Mapping[str, Sentence]

    @property
    def name(self) -> str:
        """Its name in the language itself."""
        return str(self.sentences.get("language.name", self.code))


def languages(folder: Path = FOLDER) -> dict[str, Language]:
    """Return the languages that a folder has files for, by code, English first.

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
    """Return English, the language that programs and the log get."""
    return _read(FOLDER / "en.json")


class Message(str):
    """A sentence, or a part of one: the English text, together with the key and values that it was made from.

    Attributes:
        key: the key of the sentence.
        values: the values of its placeholders by name: messages, numbers, typed text, file names, or tuples of these;
            anything else is converted to text.
    """

    key: str
    values: Mapping[str, object]

    __slots__ = ("key", "values")

    def __new__(cls, key: str, /, **values: object) -> Message:
        """Return the sentence with this key, filled with the values."""
        return cls._made(english().sentences[key], key, values)

    @classmethod
    def declared(cls, key: str, text: str, /, **values: object) -> Message:
        """Return a text whose English is declared in the code, as for options; other languages have it by the key."""
        return cls._made(text, key, values)

    @classmethod
    def plain(cls, text: str) -> Message:
        """Return a message for programs or the command line, where everything is in English."""
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
        """Keep the key and the values when a message is pickled."""
        return self._restored, (str(self), self.key, dict(self.values))


def titled(key: str, name: str) -> str:
    """Return the sentence for a key; without one, the thing was added by a user, and its name is returned."""
    return Message(key) if key in english().sentences else name


def as_data(value: object) -> Any:
    """Return a value as JSON data; a message that has a key becomes an object of `key` and `values`."""
    if isinstance(value, Message) and value.key != PLAIN:
        return {"key": value.key, "values": {name: as_data(each) for name, each in value.values.items()}}
    if isinstance(value, str | int):
        return value
    return [as_data(each) for each in value] if isinstance(value, tuple) else str(value)


def from_data(data: Any) -> Any:
    """Return the value that `as_data` was given; floats come back as text.

    Raises:
        KeyError: there is no such sentence, or a value of it is missing.
    """
    if isinstance(data, dict):
        return Message(data["key"], **{name: from_data(each) for name, each in data["values"].items()})
    return tuple(map(from_data, data)) if isinstance(data, list) else data


def without_folders(value: Any) -> Any:
    """Return a message with absolute paths cut down to the last name; full paths are for the log only."""
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
    """Joins tuples with commas, and capitalises the first letter of a value where a sentence says {name:capital}."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, tuple):
            value = ", ".join(map(str, value))
        text = str(value)
        return text[:1].upper() + text[1:] if format_spec == "capital" else text


_FORMATTER = _Formatter()
