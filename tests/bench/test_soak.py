"""Visitors who come and go for a long time: what each does, and how the measurements are judged."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest

from bench import soak as module
from bench.load import Studio
from bench.soak import SETTLING_S, Sample, Soak, as_svg, growth, is_steady, left_over, report
from ipa_app.errors import Cancelled
from tests.bench.test_load import Served
from tests.engine.conftest import TIMEOUT_S


def samples(*memory: float, files: float = 20) -> list[Sample]:
    """Return a run of twice the settling time, with these memory sizes at equal intervals."""
    last = len(memory) - 1
    return [
        Sample(seconds=2 * SETTLING_S * at / last, memory=size, threads=30, files=20 if at < last else files, waiting=0)
        for at, size in enumerate(memory)
    ]


def test_memory_may_grow_at_first_and_then_no_more() -> None:
    steady, growing = samples(5, 8, 9, 10, 10, 10, 10, 10, 7), samples(5, 8, 9, 10, 10, 11, 12, 13, 13)
    assert growth(steady) == pytest.approx(0)
    assert growth(growing) == pytest.approx(0.3)
    assert growth(samples(5, 8, 9)[:2]) == 0


def test_what_is_left_over_is_named() -> None:
    run = samples(5, 10, 10, 10, 5, files=90)
    assert left_over(run) == ["files"]
    assert not is_steady(run)
    assert "left over: files" in report(run, {"drawn": 3}).splitlines()


def test_memory_is_told_by_ten_minutes() -> None:
    megabyte = 2**20
    run = samples(5 * megabyte, 8 * megabyte, 10 * megabyte)
    assert module.means(run) == [5, 8, 10]
    assert "memory, means of ten minutes: 5, 8, 10 MB; at most 10 MB" in report(run, {}).splitlines()


def test_the_curve_is_drawn() -> None:
    drawn = ElementTree.fromstring(as_svg(samples(5, 8, 10)))
    assert "".join(drawn.itertext()).startswith("memory, at most")
    assert len(drawn.findall("{http://www.w3.org/2000/svg}polyline")) == 3


class Leaving(random.Random):
    """A random generator that makes every visitor do the same."""

    what = "stopped"

    def choices(self, *_arguments: Any, **_named: Any) -> list[Any]:
        return [self.what]


async def visited(url: str, chance: random.Random, **given: Any) -> Soak:
    async with httpx.AsyncClient(base_url=url, timeout=300) as client:
        soak = Soak(await Studio.found(client, steps=1), chance, **given)
        await soak.run(seconds=1, every_s=0.1, sample_every_s=0.2)
        return soak


def test_visitors_stay_stop_and_close_the_page(served_app: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUIET_S", 0)
    url, engine = served_app
    before = len(engine.jobs)

    soak = asyncio.run(visited(url, random.Random(1)))
    # A visitor who closes the page at once may leave before there is a job.
    outcomes, jobs = soak.outcomes, len(engine.jobs) - before
    assert outcomes.total() - outcomes["closed the page"] <= jobs <= outcomes.total()
    assert soak.outcomes["drawn"]
    for job in engine.jobs[before:]:
        with suppress(Cancelled):
            job.result(TIMEOUT_S)
    assert set(soak.outcomes) <= {"drawn", "stopped", "closed the page"}
    assert all(each.memory > 0 and each.threads > 0 and each.files > 0 for each in soak.samples)


def test_who_means_to_leave_leaves_before_the_picture_is_there(
    served_app: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_QUIET_S", 0)
    soak = asyncio.run(visited(served_app[0], Leaving(1), takes_s=0))
    assert set(soak.outcomes) == {Leaving.what}
    assert soak.takes_s == 0
