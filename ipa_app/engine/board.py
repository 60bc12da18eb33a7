"""What the replicas of a cluster say of themselves, and what is asked of all of them: a board in a process of its own.

Data only; whoever puts it into a process is `cluster`. A request goes to one replica, but where each stands, and which
model all shall have, is nobody's in particular.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ipa_app.models.state import ModelState

_SILENT_S = 15.0
"""After that a replica that has said nothing counts as gone."""
_MOST_WISHES = 100

Action = Literal["start", "download", "cancel"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a replica says of itself.

    Attributes:
        replica: its name.
        place: the machine's address and the number of the process.
        states: where its models stand, by their names.
        to_download: the models that must be downloaded before it can load them.
        drawing: requests that it has.
        drawn: requests that it has done since it began.
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
    """What replicas shall do with a model.

    Attributes:
        number: by which they come one after the other.
        action: what they shall do.
        model: its name.
        replicas: those that are meant; none for every one.
    """

    number: int
    action: Action
    model: str
    replicas: tuple[str, ...] = ()

    def is_for(self, replica: str) -> bool:
        """Whether a replica is meant."""
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
            seen: what this returned last; None for a replica that has just begun.

        Returns:
            The number of the last wish, and what is asked of the replica since; of one that has just begun, to have the
            model that was asked for last.
        """
        self._reports[report.replica] = time.monotonic(), report
        number = self._wishes[-1].number if self._wishes else 0
        if seen is None:
            return number, [wish for wish in self._wishes if wish.action == "start"][-1:]
        return number, [wish for wish in self._wishes if wish.number > seen and wish.is_for(report.replica)]

    def wish(self, action: Action, model: str) -> None:
        """Ask something of every replica; to load a model, of those that have none, or else of the least busy one."""
        meant = self._to_load_into() if action == "start" else ()
        # By the clock, so that numbers go on where the board itself is begun anew.
        self._wishes = [*self._wishes, Wish(time.time_ns(), action, model, meant)][-_MOST_WISHES:]

    def _to_load_into(self) -> tuple[str, ...]:
        """Name the replicas that take a model without those who draw by another one having to wait for theirs again."""
        reports = self.reports()
        empty = [each for each in reports if all(state.phase in ("absent", "failed") for state in each.states.values())]
        least = [min(reports, key=lambda each: each.drawing)] if reports else []
        return tuple(each.replica for each in empty or least)

    def reports(self) -> list[Report]:
        """Return what every replica that is there has said last."""
        since = time.monotonic() - _SILENT_S
        self._reports = {name: each for name, each in self._reports.items() if each[0] >= since}
        return [report for _, report in self._reports.values()]
