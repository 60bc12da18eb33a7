from __future__ import annotations

import pytest

from ipa_app.models.units import Meter, size_text, time_text


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_tells_how_far_how_fast_and_how_long() -> None:
    clock = Clock()
    meter = Meter(4 * 10**9, done=10**9, clock=clock)
    assert meter.text() == "1.0 of 4.0 GB"
    for _ in range(10):
        clock.now += 1
        meter.add(25 * 10**6)
    assert (meter.share, meter.speed) == (0.3125, 25 * 10**6)
    assert meter.text() == "1.2 of 4.0 GB, 25 MB/s, 2 minutes left"


def test_the_speed_is_that_of_the_last_seconds() -> None:
    clock = Clock()
    meter = Meter(10**12, clock=clock)
    for speed in [10**6] * 100 + [5 * 10**6] * 30:
        clock.now += 1
        meter.add(speed)
    assert meter.speed == pytest.approx(5 * 10**6)


def test_what_is_thrown_away_is_no_longer_done() -> None:
    meter = Meter(100, done=60)
    meter.add(-60)
    assert (meter.done, meter.share) == (0, 0.0)
    assert Meter(0).share == 1.0


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 kB"), (-5, "0 kB"), (4096, "4 kB"), (167_335_342, "167 MB"), (6_140_000_000, "6.1 GB")],
)
def test_sizes(count: int, text: str) -> None:
    assert size_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "2 seconds"), (41, "41 seconds"), (100, "2 minutes"), (3000, "50 minutes"), (6000, "1.7 hours")],
)
def test_times(seconds: float, text: str) -> None:
    assert time_text(seconds) == text
