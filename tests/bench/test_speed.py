"""How fast the app is beside plain diffusers, and whether what the docs say of it was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.speed import PlainDiffusers, Studio, check_equal, rows
from bench.timing import table

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_every_row_can_be_measured_and_the_exact_mode_is_exact() -> None:
    studio, exact, together = Studio(), Studio(exact=True), Studio(batch_limit=8)
    plain = PlainDiffusers()
    try:
        assert check_equal(exact, plain) <= 1
        for row in rows(studio, exact, together, plain):
            row.ours(1)
            row.other(1)
    finally:
        for each in (studio, exact, together):
            each.close()


@pytest.mark.parametrize("page", ["docs/speed.md"])
def test_the_docs_say_what_was_measured(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for file in (ROOT / "bench" / "results").glob("*.json"):
        assert table(json.loads(file.read_text("utf-8"))["rows"]) in text
