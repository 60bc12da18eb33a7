"""Many visitors at once: how many were served, how long they waited, and whether they got their own pictures."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from bench.load import Outcome, Studio, compare, load, report
from tests.ui.serving import WatchedEngine

Served = tuple[str, WatchedEngine]


def test_everybody_is_counted_and_drawn_for_once_more_alone(
    served_app: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    url, engine = served_app
    before = len(engine.jobs)
    assert asyncio.run(load(url, visitors=3, hog=2, steps=1))
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == ["served 4 of 4, refused 0", "equal to their solo runs: 4, 4 of them in every bit"]
    assert told[2].startswith("wait: median ")
    assert told[2].endswith(", of 2")  # the first visitor's is not counted
    jobs = engine.jobs[before:]
    assert len({job.visitor for job in jobs[1:5]}) == 3
    requests = [job.plan.request for job in jobs]
    crowd, alone = requests[1:5], requests[5:]
    assert sorted(request.seed for request in crowd) == sorted(request.seed for request in alone) == [1, 2, 3, 4]
    assert {(request.task, request.count, request.steps) for request in requests} == {("mix", 1, 1)}


def test_whoever_is_refused_is_counted_with_what_was_said(
    served_app: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not asyncio.run(load(served_app[0], visitors=2, hog=0, steps=10**6))
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == ["served 0 of 2, refused 2", "equal to their solo runs: 0, 0 of them in every bit"]
    assert [line for line in told if line.startswith("refused: ")] == [told[-1]]
    assert "steps" in told[-1]


def test_one_at_a_time_and_as_many_as_there_are_replicas_take_turns(
    served_app: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    url, engine = served_app
    before = len(engine.jobs)
    assert asyncio.run(compare(url, replicas=2, rounds=2, steps=1))
    *rounds, median = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in rounds] == ["pictures a minute"] * 2
    assert median.startswith("median of 2: ")
    requests = [job.plan.request for job in engine.jobs[before:]]
    assert len(requests) == 1 + 8 + 2 * (4 + 8)
    assert {(request.task, request.count, request.steps) for request in requests} == {("mix", 1, 1)}


def test_a_comparison_ends_with_what_somebody_was_refused_for(
    served_app: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not asyncio.run(compare(served_app[0], replicas=2, rounds=1, steps=10**6))
    (told,) = capsys.readouterr().out.splitlines()
    assert told.startswith("refused: ")
    assert "steps" in told


def test_what_is_never_answered_is_counted_as_refused() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        is_join = request.url.path.endswith("join")
        return httpx.Response(200, json={"event_id": request.read().decode()} if is_join else None)

    async def outcomes() -> list[Outcome]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://studio") as client:
            return await Studio(client=client, function=0, values={}).draw([1, 2])

    assert [(each.seed, each.pixels, each.refusal) for each in asyncio.run(outcomes())] == [
        (1, None, "no answer"),
        (2, None, "no answer"),
    ]


def test_another_picture_than_the_one_drawn_alone_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    drawn = [Outcome(seed=seed, seconds=seed, pixels=bytes([seed] * 9)) for seed in (1, 2, 3)]
    alone = [
        drawn[0],
        Outcome(seed=2, seconds=2, pixels=bytes([3] * 9)),
        Outcome(seed=3, seconds=0.5, pixels=bytes([5] + [3] * 8)),
    ]
    assert not report(drawn, alone, others=drawn[1:], page=[0.1, 0.2, 0.6])
    assert capsys.readouterr().out.splitlines() == [
        "served 3 of 3, refused 0",
        "equal to their solo runs: 2, 1 of them in every bit",
        "wait: median 2.5 s, worst 3.0 s, of 2",
        "one picture alone: median 1.00 s",
        "pictures a minute: 60",
        "page: median answer 0.20 s, worst 0.60 s, of 3",
    ]
