"""Counts of several runs of `bench.quality` beside each other.

All runs ask the same of the same characters with the same seeds, so that what counts is by how much each picture is
better or worse than the same one of the first run, and not by how much the characters differ among themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from bench.asks import HOLE, RIM
from bench.holes import NAMES
from bench.judging import interval

DRAWN = "seconds_per_picture"
"""Only what the model has drawn has taken any."""

FILLED = ("nothing", "surroundings")
"""What holes are filled after, as the rows of the benchmark are called."""

Lines = Sequence[Mapping[str, Any]]
"""What `--json` has written."""


def read_runs(files: Sequence[Path]) -> dict[str, Lines]:
    """Read what `--json` has written, by the names of the files as people read them."""
    return {file.stem.replace("-", " "): json.loads(file.read_text("utf-8")) for file in files}


def difference(first: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float]:
    """Return by how much one line's scores are above another's, picture by picture, with its 95 % interval.

    Raises:
        ValueError: they are of unlike many characters.
    """
    return interval([b - a for a, b in zip(first["scores"], other["scores"], strict=True)])


def beside(runs: Mapping[str, Lines]) -> str:
    """Lay out as a table of Markdown what the first run and another have in common: shares, and how they differ.

    What was read in drawings is the same in all of them.
    """
    (_, first), *others = runs.items()
    heads = [f"| The share that is right | {' | '.join(runs)} |", f"|---|{'---|' * len(runs)}"]
    shares = [line for line in first if line["unit"] == "share" and DRAWN in line]
    lines = [(line, [_same(line, run) for _, run in others]) for line in shares]
    return "\n".join([*heads, *(_line(line, found) for line, found in lines if any(found))])


def within(lines: Lines) -> str:
    """Lay out what differs within one run: how holes are filled, or else what each point of how much draws."""
    rows = {line["row"] for line in lines}
    return (
        filled(lines) if {f"{name}, {how}" for name in NAMES.values() for how in FILLED} <= rows else by_amount(lines)
    )


def filled(lines: Lines) -> str:
    """Lay out as a table of Markdown what holes are filled with, without what is around them and with it.

    Each cell has both, and by how much they differ picture by picture, with the 95 % interval of that.
    """
    scores = {(line["row"], line["measure"]): line["scores"] for line in lines}
    kinds = {f"a {name}": [name] for name in NAMES.values()} | {"all of them": [*NAMES.values()]}
    heads = ["| | Colours | Edges | Colours of the rim | Edges of the rim |", "|---|---|---|---|---|"]
    measures = (*HOLE, *RIM)
    cells = {
        said: [_filled([[scores[f"{name}, {how}", each] for name in names] for how in FILLED]) for each in measures]
        for said, names in kinds.items()
    }
    return "\n".join([*heads, *(f"| {said} | {' | '.join(found)} |" for said, found in cells.items())])


def _filled(scores: Sequence[Sequence[Sequence[float]]]) -> str:
    """One cell: of every kind of hole the scores of the same characters, without and with."""
    before, after = ([mean(case) for case in zip(*each, strict=True)] for each in scores)
    apart = interval([b - a for a, b in zip(before, after, strict=True)])
    return f"{mean(before):.1f}, {mean(after):.1f} ({apart['mean']:+.1f} ± {apart['plus_minus']:.1f})"


def by_amount(lines: Lines) -> str:
    """Lay out as a table of Markdown what the named points of how much draw: `bench.quality --amounts`.

    Each cell has the share, and by how much it differs from the point before picture by picture.
    """
    drawn = [line for line in lines if DRAWN in line]
    points = list(dict.fromkeys(line["row"].rpartition(", ")[2] for line in drawn))
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for line in drawn:
        rows.setdefault(f"{line['row'].rpartition(', ')[0]}: {line['measure']}", []).append(line)
    heads = [f"| | {' | '.join(points)} |", f"|---|{'---|' * len(points)}"]
    told = {
        row: [_share(found[0]), *(f"{_share(now)} ({_apart(before, now)})" for before, now in pairwise(found))]
        for row, found in rows.items()
    }
    return "\n".join([*heads, *(f"| {row} | {' | '.join(cells)} |" for row, cells in told.items())])


def _line(line: Mapping[str, Any], found: Sequence[Mapping[str, Any] | None]) -> str:
    cells = [_share(line), *("" if other is None else f"{_share(other)} ({_apart(line, other)})" for other in found)]
    return f"| {line['row']}: {line['measure']} | {' | '.join(cells)} |"


def _same(line: Mapping[str, Any], run: Lines) -> Mapping[str, Any] | None:
    """Find a line in another run, where its name may say more: how it was drawn there."""
    alike = (
        each for each in run if each["measure"] == line["measure"] and f"{each['row']}, ".startswith(f"{line['row']}, ")
    )
    return next(alike, None)


def _share(line: Mapping[str, Any]) -> str:
    return f"{100 * line['mean']:.1f} %"


def _apart(line: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    apart = difference(line, other)
    return f"{100 * apart['mean']:+.1f} ± {100 * apart['plus_minus']:.1f}"
