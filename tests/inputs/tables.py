"""Reads the tables of docs/inputs.md, whose rows the tests beside this file check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "inputs.md"
HEADER_LINES = 2


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        given: the input.
        outcome: what happens to it.
        sentence: the message shown, word for word, or None if there is none.
    """

    given: str
    outcome: str
    sentence: str | None


def rows(section: str) -> dict[str, Row]:
    """Return the rows of a section's table, keyed by the input given.

    Raises:
        ValueError: there is no such section, or two rows begin alike.
    """
    sections = DOCUMENT.read_text(encoding="utf-8").split("\n## ")
    text = next((part for part in sections if part.startswith(f"{section}\n")), None)
    if text is None:
        raise ValueError(f"docs/inputs.md has no section {section!r}")
    lines = [line for line in text.splitlines() if line.startswith("|")][HEADER_LINES:]
    found = [_row(line) for line in lines]
    by_given = {row.given: row for row in found}
    if len(by_given) < len(found):
        raise ValueError(f"two rows of {section!r} begin alike")
    return by_given


def _row(line: str) -> Row:
    given, outcome, sentence = (cell.strip() for cell in line.strip().strip("|").split("|"))
    return Row(given, outcome, sentence or None)


def said(notes: Sequence[str]) -> str | None:
    """Return the only one of at most one note, to compare it with a row's sentence."""
    assert len(notes) <= 1
    return next(iter(notes), None)
