"""How soon a live picture is seen, and how much longer others wait."""

from __future__ import annotations

import pytest

from bench.live import others_row, table
from bench.speed import Studio

MEASURED = {
    "latencies": [{"what": "a word is typed", "events": 30, "median_s": 0.5, "worst_s": 1.0}],
    "others": {"row": "beside", "beside": "alone", "ours_s": 0.55, "other_s": 0.5, "ratio": 0.91},
}


def test_the_table_says_how_soon_and_by_how_much_others_wait_longer() -> None:
    lines = table(MEASURED).splitlines()
    assert "| a word is typed | 0.50 s | 1.00 s | 30 |" in lines
    assert "| beside | 0.55 s | alone | 0.50 s | 10 % |" in lines


@pytest.mark.slow
def test_both_waits_can_be_measured() -> None:
    studio = Studio()
    try:
        row = others_row(studio)
        row.ours(1)
        row.other(1)
    finally:
        studio.close()
