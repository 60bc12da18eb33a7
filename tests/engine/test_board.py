"""What replicas report, and which of them are chosen for a request."""

from __future__ import annotations

from ipa_app.engine.board import Board, Report
from ipa_app.models.state import ModelPhase, ModelState


def report(replica: str, *, drawing: int = 0, **phases: ModelPhase) -> Report:
    return Report(
        replica=replica,
        place="here",
        states={name: ModelState(phase=phase) for name, phase in phases.items()},
        to_download=frozenset(),
        drawing=drawing,
        drawn=0,
        memory=0,
        device_memory=0,
    )


def asked(board: Board, said: Report, seen: int | None) -> list[tuple[str, str]]:
    return [(wish.action, wish.model) for wish in board.report(said, seen)[1]]


def test_everybody_is_asked_once() -> None:
    board = Board()
    seen = {name: board.report(report(name), None)[0] for name in "ab"}
    board.wish("download", "large")
    board.wish("cancel", "large")
    for name in "ab":
        assert asked(board, report(name), seen[name]) == [("download", "large"), ("cancel", "large")]
        number, _ = board.report(report(name), seen[name])
        assert asked(board, report(name), number) == []


def test_a_model_goes_where_there_is_none_and_else_to_who_is_least_busy() -> None:
    board = Board()
    full, empty = report("full", toybox="ready"), report("empty", toybox="failed")
    seen = {each.replica: board.report(each, None)[0] for each in (full, empty)}
    board.wish("start", "other")
    assert asked(board, full, seen["full"]) == []
    assert asked(board, empty, seen["empty"]) == [("start", "other")]
    busy, idle = report("full", drawing=2, toybox="ready"), report("empty", drawing=1, other="loading")
    seen = {each.replica: board.report(each, seen[each.replica])[0] for each in (busy, idle)}
    board.wish("start", "third")
    assert asked(board, busy, seen["full"]) == []
    assert asked(board, idle, seen["empty"]) == [("start", "third")]


def test_who_comes_later_has_the_model_that_was_asked_for_last() -> None:
    board = Board()
    board.wish("start", "toybox")
    board.wish("download", "large")
    assert asked(board, report("new"), None) == [("start", "toybox")]


def test_all_that_is_known_is_what_was_said_last() -> None:
    board = Board()
    board.report(report("a", toybox="loading"), None)
    board.report(report("a", toybox="ready"), 0)
    assert [each.states["toybox"].phase for each in board.reports()] == ["ready"]
