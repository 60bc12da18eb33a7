"""How soon a live picture appears, and how much longer others wait."""

from __future__ import annotations

from typing import Any

import pytest

from bench.live import others_row, table
from bench.speed import Studio

MEASURED = {
    "latencies": [{"what": "a word is typed", "events": 30, "median_s": 0.5, "worst_s": 1.0, "whole_median_s": 0.8}],
    "others": {"row": "beside", "beside": "alone", "ours_s": 0.55, "other_s": 0.5, "ratio": 0.91},
}


def test_the_table_says_how_soon_and_by_how_much_others_wait_longer() -> None:
    lines = table(MEASURED).splitlines()
    assert "| a word is typed | 0.50 s | 1.00 s | 0.80 s | 30 |" in lines
    assert "| beside | 0.55 s | alone | 0.50 s | 10 % |" in lines


@pytest.mark.slow
def test_both_waits_can_be_measured() -> None:
    studio = Studio()
    drawn: list[bool] = []
    try:
        row = others_row(studio)
        submit = studio.engine.submit

        def look(*request: Any, live: bool = False, **more: Any) -> Any:
            if not live:
                drawn.append(any(job.live for job in studio.engine._running))
            return submit(*request, live=live, **more)

        studio.engine.submit = look  # type: ignore[method-assign]
        for seed in (1, 2):
            row.before_ours(seed)
            row.ours(seed)
            row.before_other(seed)
            row.other(seed)
    finally:
        studio.close()
    assert drawn == [True, False, True, False]
