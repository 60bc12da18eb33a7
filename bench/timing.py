"""Time two ways of doing something alternately, so that other load on the machine hardly changes their ratio.

Also formats and writes figures.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipa_app.imaging.result_files import whole_file

Work = Callable[[int], Any]
"""Called once per round with a new seed."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison.

    Attributes:
        name: what is compared.
        ours: what the app does.
        other: what it is compared with.
        beside: description of that.
        before_ours: called before `ours`, not timed.
        before_other: called before `other`, not timed.
    """

    name: str
    ours: Work
    other: Work
    beside: str
    before_ours: Work = lambda _seed: None
    before_other: Work = lambda _seed: None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The measurements of a row: medians in seconds, and how many times as long the other takes."""

    row: str
    beside: str
    ours_s: float
    other_s: float
    ratio: float


def measured(row: Row, rounds: int) -> Figures:
    """Do both kinds of work alternately, once to warm up and then for every round."""
    ours, other = [], []
    for seed in range(rounds + 1):
        row.before_ours(seed)
        ours.append(_seconds(row.ours, seed))
        row.before_other(seed)
        other.append(_seconds(row.other, seed))
    ours, other = ours[1:], other[1:]
    return Figures(
        row=row.name,
        beside=row.beside,
        ours_s=round(statistics.median(ours), 3),
        other_s=round(statistics.median(other), 3),
        ratio=round(statistics.median(b / a for a, b in zip(ours, other, strict=True)), 2),
    )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format figures as a Markdown table."""
    lines = ["| What | Takes | Beside it | Takes | Ratio |", "|---|---|---|---|---|"]
    lines += [
        f"| {each['row']} | {each['ours_s']:.2f} s | {each['beside']} | {each['other_s']:.2f} s | {each['ratio']:.2f} |"
        for each in rows
    ]
    return "\n".join(lines)


def write_json(path: Path, content: Any) -> None:
    """Write figures to a file atomically; create its folder if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(f"{json.dumps(content, indent=1)}\n".encode())


def _seconds(work: Work, seed: int) -> float:
    since = time.perf_counter()
    work(seed)
    return time.perf_counter() - since
