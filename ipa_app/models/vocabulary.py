"""Dictionaries that translate other languages into the few words that a small model knows.

Beside a model's `words.json`, `words.zh.json` is its dictionary for Chinese, and so on for every language tag:

    {
        "species": {"cat": ["猫", "猫咪"], "teddy bear": ["泰迪熊"]},
        "glue": {"wearing": ["穿着"], "": ["的"]},
        "clauses": {"begin": ["wearing"], "within": ["with"], "end": ["的"], "join": ["and"]},
        "articles": {"a": ["species"]}
    }

In the same groups as words.json, it lists for each of the model's words, or several together, the forms in that
language. The first form is the one that is shown. Forms that mean nothing to the model, such as particles, belong to
the empty word.

In languages such as Chinese, clauses come before the noun they describe, but the model knows only its own order.
`clauses` lists how they begin and end. A clause that begins with a word of `begin` contains no other of these, but may
contain those of `within`. A clause is moved behind its noun, before the next word of `join` or empty word. `articles`
has a word to put before a text that begins with a word of the named groups, if the language has no articles: without
it, and with clauses before their nouns, a model trained on whole English captions loses the first colour.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ipa_app.errors import UserError
from ipa_app.models.folder import read_json

_FILE = re.compile(r"words\.([A-Za-z]+(?:-\w+)*)\.json")
# Letters of scripts with spaces between words; Chinese and Japanese have none.
_LETTER = r"[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
_SPACES = re.compile(r"[^\S\n]+")
_STOP = re.compile(r"[,;!?\n，。；！？]|\.(?!\d)")
_CLAUSES, _ARTICLES = "clauses", "articles"
_WORD = re.compile(r"\w[\w-]*")
_CLAUSE_KEYS = ("begin", "within", "end", "join")

Groups = Mapping[str, Mapping[str, Sequence[str]]]


@dataclass(frozen=True)
class Dictionary:
    """A model's words in another language.

    Attributes:
        groups: by the name of a group, the forms of each of its entries; an entry is one or several of the model's
            words, or none.
        clauses: how clauses that come before their nouns begin and end, as the model's words or as written forms.
        articles: each article with the groups that it is put before, if the first word is of one of them.
    """

    groups: Groups
    clauses: Mapping[str, Sequence[str]] = field(default_factory=lambda: MappingProxyType({}))
    articles: Mapping[str, Sequence[str]] = field(default_factory=lambda: MappingProxyType({}))

    def translated(self, text: str) -> str:
        """Return a text in the model's words; what the dictionary does not have stays as it is.

        Of several forms that begin at the same place the longest is used.
        """
        if not self._pattern.search(text):
            return text
        sentence = _Sentence(self.clauses)
        for written, own in self._pieces(text):
            sentence.add(written, own)
        own = _SPACES.sub(" ", sentence.text()).strip(" ")
        first = _WORD.search(own)
        return f"{self._articles[first[0]]} {own}" if first and first[0] in self._articles else own

    def shown(self, group: str) -> list[str]:
        """Return the forms of the words of a group that are shown, one for each."""
        return [forms[0] for entry, forms in self.groups.get(group, {}).items() if entry]

    def _pieces(self, text: str) -> Iterator[tuple[str, str | None]]:
        """Yield the pieces of a text, each with the model's words for it; None for what is not known."""
        end = 0
        for match in self._pattern.finditer(text):
            if match.start() > end:
                yield text[end : match.start()], None
            yield match[0], self._entries[match[0].lower()]
            end = match.end()
        if end < len(text):
            yield text[end:], None

    @cached_property
    def _entries(self) -> Mapping[str, str]:
        """The model's words for each form; forms in lower case."""
        entries = (entry for group in self.groups.values() for entry in group.items())
        return {form.lower(): own for own, forms in entries for form in forms}

    @cached_property
    def _articles(self) -> Mapping[str, str]:
        """The article before each word that has one."""
        having = ((article, group) for article, groups in self.articles.items() for group in groups)
        return {entry.split()[0]: article for article, group in having for entry in self.groups.get(group, ()) if entry}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        forms = sorted(self._entries, key=len, reverse=True)
        return re.compile("|".join(map(_whole, forms)) or "(?!)", re.IGNORECASE)


def _whole(form: str) -> str:
    """Return a pattern that matches a form, but not within a longer word."""
    before = f"(?<!{_LETTER})" if re.match(_LETTER, form[0]) else ""
    after = f"(?!{_LETTER})" if re.match(_LETTER, form[-1]) else ""
    return f"{before}{re.escape(form)}{after}"


@dataclass
class _Clause:
    """Words in the model's order, and clauses that wait for the noun they describe."""

    words: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    has_head: bool = False
    rank: str = ""

    def settle(self) -> None:
        """Put the waiting clauses here."""
        self.words += self.waiting
        self.waiting = []


class _Sentence:
    """Moves clauses behind the nouns they describe."""

    def __init__(self, rules: Mapping[str, Sequence[str]]) -> None:
        self._rules = {key: frozenset(rules.get(key, ())) for key in _CLAUSE_KEYS}
        self._open = [_Clause()]

    def add(self, written: str, own: str | None) -> None:
        """Add a piece of the text, with the model's words for it."""
        top, said = self._open[-1], {written, own}
        rank = next((each for each in ("begin", "within") if said & self._rules[each]), "")
        if _STOP.search(written):
            self._close_all()
            self._open[0].words.append(written if own is None else own)
        elif written in self._rules["end"] and len(self._open) > 1 and top.has_head:
            self._close()
        elif rank and (len(self._open) == 1 or (rank == "within" and top.rank == "begin")):
            if top.has_head:
                top.settle()
            self._open.append(_Clause([own or ""], rank=rank))
        elif own is None and not re.search(r"\w", written):
            if not written.isspace():
                top.settle()  # clauses do not move across brackets and other signs
            top.words.append(written)
        else:
            if not own or own in self._rules["join"]:
                if top.has_head:
                    top.settle()
            elif not rank:
                top.has_head = True
            top.words.append(written if own is None else own)

    def text(self) -> str:
        """Return the whole text."""
        self._close_all()
        return " ".join(self._open[0].words)

    def _close(self) -> None:
        """End the innermost clause: it waits for the noun that comes next."""
        clause = self._open.pop()
        clause.settle()
        self._open[-1].waiting.append(" ".join(clause.words))
        self._open[-1].has_head = False

    def _close_all(self) -> None:
        """Leave all open clauses where they are, as one without an end is not a clause."""
        for clause in self._open:
            clause.settle()
        first, *others = self._open
        first.words += [word for clause in others for word in clause.words]
        self._open = [first]
        first.has_head = False


def read_dictionaries(folder: Path) -> dict[str, Dictionary]:
    """Read the dictionaries in a model's folder, by their language tags.

    Raises:
        UserError: one has another form.
    """
    named = ((path, _FILE.fullmatch(path.name)) for path in sorted(folder.glob("words.*.json")))
    return {match[1]: _read(path) for path, match in named if match}


def _read(path: Path) -> Dictionary:
    groups = read_json(path)
    for group, entries in groups.items():
        if not isinstance(entries, dict) or not all(map(_are_forms, entries.values())):
            raise UserError("file.not_dictionary", path=path, group=repr(group))
    clauses, articles = groups.pop(_CLAUSES, {}), groups.pop(_ARTICLES, {})
    return Dictionary(groups, clauses, articles)


def _are_forms(forms: Any) -> bool:
    return isinstance(forms, list) and bool(forms) and all(isinstance(form, str) and form.strip() for form in forms)
