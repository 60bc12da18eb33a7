"""The queue: waiting items in an order that is fair to visitors. Data only; callers hold a lock.

Every visitor has their own row, and the rows take turns picture by picture. This is self-clocked fair queueing
(Golestani, "A self-clocked fair queueing scheme for broadband applications", INFOCOM 1994): a request gets the tag
`start + pictures`, where `start` is the end of the visitor's row, or the clock if the visitor has none. The smallest
tag is next, and the clock is the tag of the picture being drawn. Visitors who ask for much therefore wait behind those
who ask for little, and nobody starves: later requests get tags after the clock, which keeps advancing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ipa_app.errors import UserError
from ipa_app.runtime import whole_number

Item = TypeVar("Item")

_MEGABYTE = 10**6


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much may wait.

    Attributes:
        total: requests of all visitors.
        each: requests of one visitor.
        megabytes: memory of all their input pictures together; a single request may have more.
    """

    total: int = 256
    each: int = 100
    megabytes: int = 4096

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Limits:
        """Read the limits that the operator has set, each at least 1.

        Raises:
            UserError: a value is not such a number.
        """
        return cls(
            total=whole_number(environment, "IPA_MOST_WAITING", cls.total),
            each=whole_number(environment, "IPA_MOST_WAITING_EACH", cls.each),
            megabytes=whole_number(environment, "IPA_WAITING_MEGABYTES", cls.megabytes),
        )


@dataclass(eq=False)
class _Entry(Generic[Item]):
    item: Item
    visitor: str
    arrival: int
    pictures: int
    size: int
    bulk: bool


@dataclass
class _Row(Generic[Item]):
    """A visitor's waiting entries, oldest first.

    Attributes:
        start: the tag at which the first entry starts.
        entries: what waits.
    """

    start: int
    entries: list[_Entry[Item]] = field(default_factory=list)


@dataclass(frozen=True)
class Place(Generic[Item]):
    """An item's place in the queue.

    Attributes:
        item: what waits there.
        number: its place in the visitor's row, 1 for the first.
        bulk: whether it lets single pictures pass.
    """

    item: Item
    number: int
    bulk: bool


class FairQueue(Generic[Item]):
    """Waiting items, each once, in the order of their turns."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._rows: dict[str, _Row[Item]] = {}
        # Each visitor's newest; a replacement keeps the place, so that visitors take turns.
        self._live: dict[str, _Entry[Item]] = {}
        self._clock = 0
        self._arrived = 0
        # The tag of the picture being drawn, and the visitors who have been let pass since the previous one.
        self._tag = 0
        self._let_pass: set[str] = set()
        self._round: int | None = None

    def __len__(self) -> int:
        return sum(1 for _ in self._entries())

    def __iter__(self) -> Iterator[Item]:
        """Iterate over the waiting items, next first."""
        return (entry.item for entry in self._entries())

    def places(self) -> list[Place[Item]]:
        """Return the places of all items, next first."""
        counted: Counter[str] = Counter()
        places = []
        for entry in self._entries():
            counted[entry.visitor] += 1
            places.append(Place(entry.item, counted[entry.visitor], entry.bulk))
        return places

    def add(
        self,
        item: Item,
        *,
        visitor: str,
        pictures: int = 1,
        size: int = 0,
        bulk: bool = False,
        admitted: bool = False,
    ) -> None:
        """Add an item.

        Args:
            item: what waits.
            visitor: its owner.
            pictures: how many it asks for.
            size: of its pictures in memory, in bytes.
            bulk: whether it lets single pictures pass, even between its own pictures.
            admitted: whether it may wait in any case.

        Raises:
            UserError: too much waits, of this visitor or in all.
        """
        if not admitted:
            self._check_room(visitor, size)
        row = self._rows.setdefault(visitor, _Row(self._clock))
        if not row.entries:
            row.start = max(row.start, self._clock)
        self._arrived += 1
        row.entries.append(_Entry(item, visitor, self._arrived, pictures, size, bulk))

    def add_live(self, item: Item, *, visitor: str, size: int = 0) -> Item | None:
        """Add a live item behind everything that is not live, replacing its visitor's waiting live item.

        Args:
            item: what waits; one picture.
            visitor: its owner.
            size: of its pictures in memory, in bytes.

        Returns:
            The item that it replaces, which no longer waits.

        Raises:
            UserError: too much waits.
        """
        replaced = self._live.get(visitor)
        self._check_room(visitor, size, replaced=replaced)
        self._arrived += 1
        self._live[visitor] = _Entry(item, visitor, self._arrived, 1, size, bulk=True)
        return replaced.item if replaced else None

    def check_room(self, visitor: str, size: int, *, live: bool = False) -> None:
        """Check that there is room for an item; arguments and errors are those of `add` and `add_live`."""
        self._check_room(visitor, size, replaced=self._live.get(visitor) if live else None)

    def remove(self, item: Item) -> bool:
        """Remove an item as if it had never come; its visitor's items behind it move up.

        Returns:
            Whether it waited here.
        """
        for visitor, entry in self._live.items():
            if entry.item is item:
                del self._live[visitor]
                return True
        for row in self._rows.values():
            for entry in row.entries:
                if entry.item is item:
                    row.entries.remove(entry)
                    self._forget_rows()
                    return True
        return False

    def begin(self) -> Item:
        """Take the next item; its first picture is drawn now.

        Raises:
            IndexError: nothing waits.
        """
        ordered = self._ordered()
        if not ordered and self._live:
            return self._live.pop(next(iter(self._live))).item
        tag, entry = ordered[0]
        self._take(entry)
        self._draw(tag - entry.pictures + 1)
        return entry.item

    def join(self, item: Item) -> None:
        """Take an item that is drawn together with the one that has begun."""
        self._take(next(entry for _, entry in self._ordered() if entry.item is item))

    def cut_in(self, fits: Callable[[Item], bool], *, bulk: bool = False) -> Item | None:
        """Take an item that is to be drawn before the next batch of the one that has begun; None if there is none.

        Between two batches each visitor who waits by then may cut in at most once.

        Args:
            fits: whether an item can be drawn now.
            bulk: whether items that let others pass may cut in, too.
        """
        if self._round is None:
            self._round = self._arrived
        for _, entry in self._ordered():
            is_first = self._rows[entry.visitor].entries[0] is entry
            is_in_round = entry.arrival <= self._round and entry.visitor not in self._let_pass
            if is_first and is_in_round and (bulk or not entry.bulk) and fits(entry.item):
                self._let_pass.add(entry.visitor)
                self._take(entry)
                return entry.item
        return None

    def next_batch(self, pictures: int) -> None:
        """Resume the item that has begun, after so many of its pictures."""
        self._draw(self._tag + pictures)

    def _draw(self, tag: int) -> None:
        """Advance the clock to the picture being drawn now, and begin a new round of letting others pass."""
        self._tag = tag
        self._clock = max(self._clock, tag)
        self._let_pass, self._round = set(), None

    def _check_room(self, visitor: str, size: int, *, replaced: _Entry[Item] | None = None) -> None:
        row, others = self._rows.get(visitor), [entry for entry in self._entries() if entry is not replaced]
        if replaced is None and row and len(row.entries) >= self._limits.each:
            raise UserError("engine.busy_with_yours", count=len(row.entries))
        taken = sum(entry.size for entry in others)
        is_too_large = bool(others) and taken + size > self._limits.megabytes * _MEGABYTE
        is_too_many = replaced is None and len(others) >= self._limits.total
        if is_too_many or is_too_large:
            raise UserError("engine.busy", count=len(others))

    def _entries(self) -> Iterator[_Entry[Item]]:
        """Iterate over all entries, next first."""
        yield from (entry for _, entry in self._ordered())
        yield from self._live.values()

    def _ordered(self) -> list[tuple[int, _Entry[Item]]]:
        """Return all entries that are not live with their tags, next first."""
        tagged = []
        for row in self._rows.values():
            tag = row.start
            for entry in row.entries:
                tag += entry.pictures
                tagged.append((tag, entry))
        # Bulk entries let others pass on equal tags, too.
        return sorted(tagged, key=lambda each: (each[0], each[1].bulk, each[1].arrival))

    def _take(self, entry: _Entry[Item]) -> None:
        row = self._rows[entry.visitor]
        row.start += entry.pictures
        row.entries.remove(entry)
        self._forget_rows()

    def _forget_rows(self) -> None:
        """Forget visitors who have nothing waiting and whose row ends no later than the clock."""
        self._rows = {visitor: row for visitor, row in self._rows.items() if row.entries or row.start > self._clock}
