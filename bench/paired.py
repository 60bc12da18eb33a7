"""Compare the scores of several runs of `bench.quality`.

All runs make the same requests for the same characters with the same seeds, so each picture is compared with its
counterpart in the first run, and the differences between characters cancel out.
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
"""Key that only lines about the model's pictures have, not those about drawings."""

FILLED = ("nothing", "surroundings")
"""The sources for filling holes, as in the names of the benchmark's rows."""

Lines = Sequence[Mapping[str, Any]]
"""The content of a file written by `--json`."""


def read_runs(files: Sequence[Path]) -> dict[str, Lines]:
    """Read files written by `--json`, by readable file name."""
    return {file.stem.replace("-", " "): json.loads(file.read_text("utf-8")) for file in files}


def difference(first: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float]:
    """Return the mean difference of two lines' scores, picture by picture, with its 95 % interval.

    Raises:
        ValueError: their numbers of characters differ.
    """
    return interval([b - a for a, b in zip(first["scores"], other["scores"], strict=True)])


def beside(runs: Mapping[str, Lines]) -> str:
    """Format the lines that the first run shares with another as a Markdown table: shares and their differences.

    Readings of drawings are the same in all runs.
    """
    (_, first), *others = runs.items()
    heads = [f"| The share that is right | {' | '.join(runs)} |", f"|---|{'---|' * len(runs)}"]
    shares = [line for line in first if line["unit"] == "share" and DRAWN in line]
    lines = [(line, [_same(line, run) for _, run in others]) for line in shares]
    return "\n".join([*heads, *(_line(line, found) for line, found in lines if any(found))])


def within(lines: Lines) -> str:
    """Format the differences within one run: between ways of filling holes, or else between the named amounts."""
    rows = {line["row"] for line in lines}
    return (
        filled(lines) if {f"{name}, {how}" for name in NAMES.values() for how in FILLED} <= rows else by_amount(lines)
    )


def filled(lines: Lines) -> str:
    """Format as a Markdown table how holes are filled without and with use of their surroundings.

    Each cell has both scores, and their difference picture by picture with its 95 % interval.
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
    """Format one cell from the scores of the same characters without and with, for every kind of hole."""
    before, after = ([mean(case) for case in zip(*each, strict=True)] for each in scores)
    apart = interval([b - a for a, b in zip(before, after, strict=True)])
    return f"{mean(before):.1f}, {mean(after):.1f} ({apart['mean']:+.1f} ± {apart['plus_minus']:.1f})"


def by_amount(lines: Lines) -> str:
    """Format the scores at the named amounts as a Markdown table: `bench.quality --amounts`.

    Each cell has the share, and its difference from the previous amount picture by picture.
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
    """Find a line in another run, where its name may also say how it was drawn."""
    alike = (
        each for each in run if each["measure"] == line["measure"] and f"{each['row']}, ".startswith(f"{line['row']}, ")
    )
    return next(alike, None)


def _share(line: Mapping[str, Any]) -> str:
    return f"{100 * line['mean']:.1f} %"


def _apart(line: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    apart = difference(line, other)
    return f"{100 * apart['mean']:+.1f} ± {100 * apart['plus_minus']:.1f}"
