"""Measurements are kept in bench/results, and the documents agree with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bench import gpu, live, paired, soak, timing

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"
COUNTED = [RESULTS / "quality" / f"{name}.json" for name in ("best", "20-steps-of-DDIM", "fast", "draft")]
AMOUNTS = RESULTS / "quality" / "amounts.json"
"""Output of `bench.quality --amounts --json`."""
FILES = sorted(set(RESULTS.rglob("*.json")) - {*COUNTED, AMOUNTS})


def soak_report(found: dict[str, Any]) -> str:
    return soak.report([soak.Sample(**each) for each in found["samples"]], found["outcomes"])


SAID: Mapping[str, tuple[Callable[[dict[str, Any]], str], str]] = {
    "gpu": (gpu.report, "speed.md"),
    "live": (live.table, "speed.md"),
    "soak": (soak_report, "scale.md"),
    "speed": (lambda found: timing.table(found["rows"]), "speed.md"),
}
"""For each measuring command: the layout of its figures, and the document that has them."""


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(RESULTS).as_posix())
def test_the_docs_say_what_was_measured(file: Path) -> None:
    lay_out, document = SAID[file.parent.relative_to(RESULTS).as_posix()]
    assert lay_out(json.loads(file.read_text("utf-8"))) in (ROOT / "docs" / document).read_text("utf-8")


def test_the_docs_say_how_what_was_counted_differs() -> None:
    assert paired.beside(paired.read_runs(COUNTED)) in (ROOT / "docs" / "speed.md").read_text("utf-8")


def test_the_docs_say_how_holes_are_filled() -> None:
    lines = json.loads(COUNTED[0].read_text("utf-8"))
    assert paired.filled(lines) in (ROOT / "docs" / "toybox.md").read_text("utf-8")


@pytest.mark.skipif(not AMOUNTS.is_file(), reason="the points of how much have not been counted again")
def test_the_docs_say_what_each_point_of_how_much_draws() -> None:
    lines = json.loads(AMOUNTS.read_text("utf-8"))
    assert paired.by_amount(lines) in (ROOT / "docs" / "toybox.md").read_text("utf-8")


def test_the_card_says_what_was_counted() -> None:
    card = (ROOT / "assets" / "toybox" / "README.md").read_text("utf-8")
    for line in json.loads(COUNTED[0].read_text("utf-8")):
        if line["unit"] == "share" and line["measure"] == "subject" and line["row"] != "another character":
            assert f"{100 * line['mean']:.1f}" in card, line["row"]


def test_a_command_s_figures_lie_in_a_folder_of_its_name() -> None:
    assert [file for file in RESULTS.glob("*") if not file.is_dir()] == []
    assert {file.parent.name for file in FILES} <= SAID.keys()
    assert sorted(set(RESULTS.glob("quality/*.json")) - {AMOUNTS}) == sorted(COUNTED)
    assert all((ROOT / "bench" / f"{name}.py").is_file() for name in SAID)
