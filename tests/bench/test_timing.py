"""Timing two ways of doing something."""

from __future__ import annotations

from bench.timing import Row, measured


def test_both_kinds_of_work_are_done_in_turn_and_the_first_time_does_not_count() -> None:
    done: list[tuple[str, int]] = []
    row = Row(
        name="one",
        ours=lambda seed: done.append(("ours", seed)),
        other=lambda seed: done.append(("other", seed)),
        beside="two",
        before_ours=lambda seed: done.append(("before ours", seed)),
        before_other=lambda seed: done.append(("before other", seed)),
    )
    figures = measured(row, rounds=2)
    assert done == [(who, seed) for seed in range(3) for who in ("before ours", "ours", "before other", "other")]
    assert (figures.row, figures.beside) == ("one", "two")
