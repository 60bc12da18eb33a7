"""The board of a cluster: the replicas' reports, and wishes for all of them, in a process of its own.

Data only; `cluster` puts it into a process. A request goes to one replica, but the state of each, and which model all
should have, belong to no single one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ipa_app.models.state import ModelState

_SILENT_S = 15.0
"""A replica that has not reported for this long counts as gone."""
_MOST_WISHES = 100

Action = Literal["start", "download", "cancel"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """A replica's report on itself.

    Attributes:
        replica: its name.
        place: the machine's address and the process ID.
        states: the states of its models, by their names.
        to_download: the models that must be downloaded before it can load them.
        drawing: number of requests that it has.
        drawn: number of requests that it has done since it started.
        memory: bytes of the process.
        device_memory: bytes that PyTorch has on the GPU.
    """

    replica: str
    place: str
    states: Mapping[str, ModelState]
    to_download: frozenset[str]
    drawing: int
    drawn: int
    memory: float
    device_memory: float


@dataclass(frozen=True)
class Wish:
    """What replicas should do with a model.

    Attributes:
        number: rises from one wish to the next.
        action: what they should do.
        model: its name.
        replicas: those that it is for; empty for all.
    """

    number: int
    action: Action
    model: str
    replicas: tuple[str, ...] = ()

    def is_for(self, replica: str) -> bool:
        """Whether it is for this replica."""
        return not self.replicas or replica in self.replicas


class Board:
    """Reports of replicas, and wishes for them."""

    def __init__(self) -> None:
        self._reports: dict[str, tuple[float, Report]] = {}
        self._wishes: list[Wish] = []

    def report(self, report: Report, seen: int | None) -> tuple[int, list[Wish]]:
        """Take a replica's report.

        Args:
            report: the newest.
            seen: the number this returned last; None for a replica that has just started.

        Returns:
            The number of the last wish, and the replica's wishes since `seen`; for one that has just started, only the
            last wish to load a model.
        """
        self._reports[report.replica] = time.monotonic(), report
        number = self._wishes[-1].number if self._wishes else 0
        if seen is None:
            return number, [wish for wish in self._wishes if wish.action == "start"][-1:]
        return number, [wish for wish in self._wishes if wish.number > seen and wish.is_for(report.replica)]

    def wish(self, action: Action, model: str) -> None:
        """Add a wish for every replica; one to load a model is for those that have none, or else the least busy one."""
        meant = self._to_load_into() if action == "start" else ()
        # Numbered by the clock, so that numbers still rise after the board itself is restarted.
        self._wishes = [*self._wishes, Wish(time.time_ns(), action, model, meant)][-_MOST_WISHES:]

    def _to_load_into(self) -> tuple[str, ...]:
        """Return the replicas that can load a model with the least harm to those who draw with another one."""
        reports = self.reports()
        empty = [each for each in reports if all(state.phase in ("absent", "failed") for state in each.states.values())]
        least = [min(reports, key=lambda each: each.drawing)] if reports else []
        return tuple(each.replica for each in empty or least)

    def reports(self) -> list[Report]:
        """Return the last report of every replica that is present."""
        since = time.monotonic() - _SILENT_S
        self._reports = {name: each for name, each in self._reports.items() if each[0] >= since}
        return [report for _, report in self._reports.values()]
