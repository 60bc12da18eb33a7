r"""How strongly each word of a prompt counts: `(red:1.3)`, `((red))` and `[red]`.

The rules are those of AUTOMATIC1111's webui: `(red:1.3)` is 1.3 times as strong, `(red)` 1.1 times, `[red]` is as much
weaker, brackets within brackets multiply, and `\(`, `\)`, `\[`, `\]` and `\\` are plain letters. So are brackets that
have no partner here, where the webui would let a "(" reach to the end, and square ones that hold a ":" or "|": there
those are commands of other sorts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from ipa_app.errors import UserError
from ipa_app.messages import Message

LEAST_WEIGHT, MOST_WEIGHT = 0.0, 3.0
_STEP = 1.1
# As many places as nobody types: without rounding, brackets that cancel each other would leave 1.0000000000000002.
_PLACES = 6

_PIECES = re.compile(r"\\([\\()\[\]])|([()\[\]])|([^\\()\[\]]+|\\)")
_NUMBER = re.compile(r":\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*$")
_COMMANDS = re.compile(r"[:|]")
# The full-width ones are read as the others.
_TO_ESCAPE = re.compile(r"[\\()\[\]＼（）［］]")
_PARTNERS = {")": "(", "]": "["}


class Span(NamedTuple):
    """A part of a prompt whose words all have one weight; 1 is as strong as without brackets."""

    text: str
    weight: float = 1.0


@dataclass
class _Piece:
    text: str
    weight: float = 1.0
    bracket: str = ""  # that it is, while its partner is awaited


def weighted_spans(text: str) -> list[Span]:
    """Return the parts of a prompt with their weights, in their order; none where there are no words at all."""
    pieces: list[_Piece] = []
    for escaped, bracket, letters in _PIECES.findall(text):
        if bracket in _PARTNERS:
            _close(pieces, bracket)
        else:
            pieces.append(_Piece(escaped or bracket or letters, bracket=bracket))
    spans: list[Span] = []
    for piece in pieces:
        weight = round(piece.weight, _PLACES)
        if spans and spans[-1].weight == weight:
            spans[-1] = Span(spans[-1].text + piece.text, weight)
        elif piece.text:
            spans.append(Span(piece.text, weight))
    return spans


def _close(pieces: list[_Piece], bracket: str) -> None:
    """Weigh what stands in a pair of brackets; a bracket without a partner is a letter."""
    places = [place for place, piece in enumerate(pieces) if piece.bracket == _PARTNERS[bracket]]
    inside = pieces[places[-1] + 1 :] if places else []
    if not places or (bracket == "]" and any(_COMMANDS.search(piece.text) for piece in inside)):
        pieces.append(_Piece(bracket))
        return
    number = _NUMBER.search(inside[-1].text) if inside and bracket == ")" else None
    if number:
        inside[-1].text = inside[-1].text[: number.start()]
    factor = float(number[1]) if number else _STEP if bracket == ")" else 1 / _STEP
    pieces[places[-1]] = _Piece("")
    for piece in inside:
        piece.weight *= factor
        piece.bracket = ""  # what is still open within a closed pair has no partner


def without_weights(text: str) -> str:
    """Return the words of a prompt without what says how strongly they count."""
    return "".join(span.text for span in weighted_spans(text))


def escaped(text: str) -> str:
    r"""Return a prompt that is read as these letters, brackets and all: `(red)` becomes `\(red\)`."""
    return _TO_ESCAPE.sub(r"\\\g<0>", text)


def within_bounds(text: str) -> str:
    """Return a prompt that says the same with weights that are allowed, each the nearest to what it was."""
    written = ""
    for words, weight in weighted_spans(text):
        nearest = round(min(max(LEAST_WEIGHT, weight), MOST_WEIGHT), 3)
        written += escaped(words) if nearest == 1 else f"({escaped(words)}:{nearest:g})"
    return written


def check_weights(text: str, *, prompt: str) -> None:
    """Make sure that all weights of a prompt are within bounds.

    Args:
        text: of the prompt.
        prompt: what it is called in the sentence.

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
    """Return what `check_weights` would say."""
    try:
        check_weights(text, prompt=prompt)
    except UserError as error:
        return error.message
    return None
