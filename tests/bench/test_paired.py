"""Counts of several runs, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.holes import NAMES
from bench.paired import DRAWN, beside, by_amount, difference, filled, read_runs


def line(row: str, scores: list[float], **more: Any) -> dict[str, Any]:
    shared = {"row": row, "measure": "subject", "unit": "share", "mean": sum(scores) / len(scores), DRAWN: 0.3}
    return {**shared, "scores": scores, **more}


def test_what_counts_is_by_how_much_each_picture_differs() -> None:
    first, other = line("mix", [0.2, 0.9, 0.4]), line("mix, fast", [0.1, 0.8, 0.3])
    apart = difference(first, other)
    assert apart["mean"] == pytest.approx(-0.1)
    assert apart["plus_minus"] == 0, "characters differ more among themselves than the two runs do"


def test_runs_of_unlike_many_characters_are_not_compared() -> None:
    with pytest.raises(ValueError, match="zip"):
        difference(line("mix", [0.2, 0.9]), line("mix", [0.2]))


def test_each_point_of_how_much_stands_beside_the_one_before() -> None:
    lines = [line("mix, base, hint", [0.5, 0.4]), line("mix, base, usual", [0.7, 0.6])]
    lines += [each | {"measure": "pose and place"} for each in lines]
    drawings = {name: value for name, value in line("drawings", [1.0, 1.0]).items() if name != DRAWN}
    assert by_amount([*lines, drawings]).splitlines() == [
        "| | hint | usual |",
        "|---|---|---|",
        "| mix, base: subject | 45.0 % | 65.0 % (+20.0 ± 0.0) |",
        "| mix, base: pose and place | 45.0 % | 65.0 % (+20.0 ± 0.0) |",
    ]


def test_a_cell_of_what_holes_are_filled_with_has_the_interval_of_the_difference() -> None:
    measures = ("hole colours", "hole edges", "rim colours", "rim edges")
    scores = {"nothing": [4.0, 8.0], "surroundings": [3.0, 6.0]}
    lines = [
        {"row": f"{name}, {how}", "measure": measure, "scores": found}
        for name in NAMES.values()
        for how, found in scores.items()
        for measure in measures
    ]
    cell = "6.0, 4.5 (-1.5 ± 1.0)"
    assert filled(lines).splitlines()[-1] == f"| all of them | {' | '.join([cell] * 4)} |"


def test_the_table_has_what_the_first_run_shares_with_any_other(tmp_path: Path) -> None:
    best = [line("mix, scale 1", [1.0, 0.5]), line("mix, scale 10", [1.0]), line("rim", [3.0], unit="levels")]
    drawings = {name: value for name, value in line("drawings", [1.0]).items() if name != DRAWN}
    fast = [line("mix, scale 1, fast", [1.0, 0.0]), line("rim, fast", [2.0], unit="levels")]
    for name, run in {"best": [*best, drawings], "as-fast": [*fast, drawings]}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(run), encoding="utf-8")
    table = beside(read_runs([tmp_path / "best.json", tmp_path / "as-fast.json"])).splitlines()
    assert table == [
        "| The share that is right | best | as fast |",
        "|---|---|---|",
        "| mix, scale 1: subject | 75.0 % | 50.0 % (-25.0 ± 49.0) |",
    ]
