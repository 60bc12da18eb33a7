r"""How strongly each word of a prompt counts: `(red:1.3)`, `((red))` and `[red]`.

The rules are those of AUTOMATIC1111's webui: `(red:1.3)` is 1.3 times as strong, `(red)` 1.1 times, `[red]` is as much
weaker, nested brackets multiply, and `\(`, `\)`, `\[`, `\]` and `\\` are read literally. So are brackets without a
partner, where the webui would extend a "(" to the end, and square ones that hold a ":" or "|", which are other commands
in the webui.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from ipa_app.errors import UserError
from ipa_app.messages import Message

LEAST_WEIGHT, MOST_WEIGHT = 0.0, 3.0
_STEP = 1.1
# More decimal places than anybody types: without rounding, brackets that cancel out would leave 1.0000000000000002.
_PLACES = 6

_PIECES = re.compile(r"\\([\\()\[\]])|([()\[\]])|([^\\()\[\]]+|\\)")
_NUMBER = re.compile(r":\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*$")
_COMMANDS = re.compile(r"[:|]")
# Full-width brackets are read like the others.
_TO_ESCAPE = re.compile(r"[\\()\[\]＼（）［］]")
_PARTNERS = {")": "(", "]": "["}


class Span(NamedTuple):
    """A part of a prompt whose words all have one weight; 1 is as strong as without brackets."""

    text: str
    weight: float = 1.0


@dataclass
class _Piece:
    text: str
    factor: float = 1.0  # of the pair of brackets that begins here
    end: int = 0  # the place after that pair


class _Reader:
    """Reads the pieces of a prompt in one pass, however they are nested."""

    def __init__(self) -> None:
        self.pieces: list[_Piece] = []
        # For each open bracket: its place, and how many pieces before it contain commands.
        self._open: dict[str, list[tuple[int, int]]] = {bracket: [] for bracket in _PARTNERS.values()}
        self._commands = 0

    def read(self, text: str) -> None:
        """Read text without brackets, or a bracket that is read literally."""
        self.pieces.append(_Piece(text))
        self._commands += _has_command(text)

    def open(self, bracket: str) -> None:
        """Read an opening bracket, which is literal unless its partner comes."""
        self._open[bracket].append((len(self.pieces), self._commands))
        self.pieces.append(_Piece(bracket))

    def close(self, bracket: str) -> None:
        """Read a closing bracket and weight what the pair contains; without a partner it is literal."""
        awaited = self._open[_PARTNERS[bracket]]
        if not awaited or (bracket == "]" and self._commands > awaited[-1][1]):
            self.read(bracket)
            return
        begin, _ = awaited.pop()
        for others in self._open.values():
            while others and others[-1][0] > begin:
                others.pop()  # what is still open within a closed pair has no partner
        number = self._number(begin) if bracket == ")" else None
        factor = number if number is not None else _STEP if bracket == ")" else 1 / _STEP
        self.pieces[begin] = _Piece("", factor, len(self.pieces))

    def _number(self, begin: int) -> float | None:
        """Remove the weight from the end of a pair's content and return it; None if there is none."""
        last = self.pieces[-1]
        found = _NUMBER.search(last.text) if len(self.pieces) > begin + 1 else None
        if found is None:
            return None
        self._commands -= _has_command(last.text)
        last.text = last.text[: found.start()]
        self._commands += _has_command(last.text)
        return float(found[1])


def weighted_spans(text: str) -> list[Span]:
    """Return the parts of a prompt with their weights, in order; none if there are no words at all."""
    reader = _Reader()
    for escaped, bracket, letters in _PIECES.findall(text):
        if bracket in _PARTNERS:
            reader.close(bracket)
        elif bracket:
            reader.open(bracket)
        else:
            reader.read(escaped or letters)
    grouped = groupby(_weighed(reader.pieces), key=itemgetter(1))
    return [Span("".join(words for words, _ in group), weight) for weight, group in grouped]


def _weighed(pieces: Sequence[_Piece]) -> Iterator[tuple[str, float]]:
    """Yield each text that is not empty with its weight, the product of those of all pairs around it."""
    around = [(len(pieces), 1.0)]
    for place, piece in enumerate(pieces):
        while place >= around[-1][0]:
            around.pop()
        if piece.end:
            around.append((piece.end, around[-1][1] * piece.factor))
        elif piece.text:
            yield piece.text, round(around[-1][1], _PLACES)


def _has_command(text: str) -> bool:
    return _COMMANDS.search(text) is not None


def without_weights(text: str) -> str:
    """Return the words of a prompt without their weights."""
    return "".join(span.text for span in weighted_spans(text))


def escaped(text: str) -> str:
    r"""Return a prompt that is read literally as this text, brackets included: `(red)` becomes `\(red\)`."""
    return _TO_ESCAPE.sub(r"\\\g<0>", text)


def within_bounds(text: str) -> str:
    """Return the same prompt with each weight clamped to the allowed range."""
    written = ""
    for words, weight in weighted_spans(text):
        nearest = round(min(max(LEAST_WEIGHT, weight), MOST_WEIGHT), 3)
        written += escaped(words) if nearest == 1 else f"({escaped(words)}:{nearest:g})"
    return written


def check_weights(text: str, *, prompt: str) -> None:
    """Check that all weights of a prompt are within bounds.

    Args:
        text: of the prompt.
        prompt: its name in the message.

    Raises:
        UserError: one is not.
    """
    for words, weight in weighted_spans(text):
        if not LEAST_WEIGHT <= weight <= MOST_WEIGHT:
            shown = " ".join(words.split())
            raise UserError(
                "prompt.weight_out_of_range",
                prompt=prompt,
                words=shown if len(shown) <= 40 else shown[:40] + "…",
                weight=f"{weight:g}",
                least=f"{LEAST_WEIGHT:g}",
                most=f"{MOST_WEIGHT:g}",
            )


def weights_problem(text: str, *, prompt: str) -> Message | None:
    """Return the message of the error that `check_weights` would raise; None if it would raise none."""
    try:
        check_weights(text, prompt=prompt)
    except UserError as error:
        return error.message
    return None
