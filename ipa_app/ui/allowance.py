"""How much may be uploaded from one address: whoever fills the disk fills it for everybody.

Uploads are not a session's: Gradio's page sends them without saying whose they are. What is fetched for a call counts
as uploaded by whoever made it.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from ipa_app.errors import UserError
from ipa_app.models.units import size_text
from ipa_app.runtime import whole_number

_MEGABYTES = 4096
_REFILLED_S = 3600
_MOST_ADDRESSES = 10_000
_HOST_BITS = 64


Spend = Callable[[int], None]
"""Counts bytes that have arrived, or raises a SpentError where they are too many."""

_SPEND: ContextVar[Spend] = ContextVar("spend", default=lambda _: None)


def spend() -> Spend:
    """Return what counts what is brought with the call that is being handled; what has no limit is not counted."""
    return _SPEND.get()


def set_spend(spend: Spend) -> None:
    """Set what counts what is brought with the call that is about to be handled."""
    _SPEND.set(spend)


class SpentError(UserError):
    """Too much has been uploaded from an address."""


@dataclass
class _Spent:
    size: float
    when: float


class Allowance:
    """What has been uploaded from each address lately; to be asked from any thread."""

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing uploaded.

        Args:
            most: bytes of one address at once; what is spent of it comes back steadily, all of it within an hour.
            clock: tells the seconds.
        """
        self._most = most
        self._clock = clock
        self._spent: dict[str, _Spent] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Allowance:
        """Read what an operator allows.

        Raises:
            UserError: the value is no whole number of at least 1.
        """
        return cls(whole_number(environment, "IPA_UPLOAD_MEGABYTES", _MEGABYTES) * 10**6)

    def spend(self, address: str, size: int, *, ahead: int = 0) -> None:
        """Count what has arrived from an address.

        Args:
            address: of whoever sends it.
            size: in bytes.
            ahead: bytes that are announced besides, for which there must be enough left.

        Raises:
            SpentError: there is not; nothing is counted then.
        """
        now, name = self._clock(), _network(address)
        with self._lock:
            spent = self._left_of(self._spent.get(name), now)
            if spent + size + ahead > self._most:
                raise SpentError("gate.uploads_spent", most=size_text(self._most))
            self._spent.pop(name, None)  # to be the latest
            self._spent[name] = _Spent(spent + size, now)
            while len(self._spent) > _MOST_ADDRESSES:
                del self._spent[next(iter(self._spent))]

    def _left_of(self, spent: _Spent | None, now: float) -> float:
        return max(0.0, spent.size - (now - spent.when) * self._most / _REFILLED_S) if spent else 0.0


def _network(address: str) -> str:
    """Return what is one visitor's: of IPv6 everybody has a whole network of addresses."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return address if found.version == 4 else str(ipaddress.ip_network((found, _HOST_BITS), strict=False))
