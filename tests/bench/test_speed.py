"""The app's speed beside that of plain diffusers."""

from __future__ import annotations

import pytest

from bench.speed import PlainDiffusers, Studio, check_equal, rows


@pytest.mark.slow
def test_every_row_can_be_measured_and_the_exact_mode_is_exact() -> None:
    studio, exact, apart = Studio(), Studio(exact=True), Studio(batch_limit=1)
    plain = PlainDiffusers()
    try:
        assert check_equal(exact, plain) <= 1
        for row in rows(studio, exact, apart, plain):
            row.ours(1)
            row.other(1)
    finally:
        for each in (studio, exact, apart):
            each.close()
