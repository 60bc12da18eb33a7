"""The limit on uploads from one address: a full disk affects everybody.

It is kept per address because Gradio's page sends uploads without naming the session. Files fetched for a call count as
uploaded by its caller.
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
"""Counts bytes that have arrived, or raises a SpentError if they are too many."""

_SPEND: ContextVar[Spend] = ContextVar("spend", default=lambda _: None)


def spend() -> Spend:
    """Return the function that counts bytes uploaded with the current call; without a limit it does nothing."""
    return _SPEND.get()


def set_spend(spend: Spend) -> None:
    """Set the function that counts bytes uploaded with the call that is about to be handled."""
    _SPEND.set(spend)


class SpentError(UserError):
    """Too much has been uploaded from an address."""


@dataclass
class _Spent:
    size: float
    when: float


class Allowance:
    """Counts what has been uploaded from each address lately; thread-safe."""

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing uploaded.

        Args:
            most: bytes that one address may upload at once; the allowance refills steadily, fully within an hour.
            clock: returns the time in seconds.
        """
        self._most = most
        self._clock = clock
        self._spent: dict[str, _Spent] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Allowance:
        """Build the allowance from `IPA_UPLOAD_MEGABYTES`.

        Raises:
            UserError: the value is not a whole number of at least 1.
        """
        return cls(whole_number(environment, "IPA_UPLOAD_MEGABYTES", _MEGABYTES) * 10**6)

    def spend(self, address: str, size: int, *, ahead: int = 0) -> None:
        """Count bytes that have arrived from an address.

        Args:
            address: the sender's address.
            size: bytes that have arrived.
            ahead: further announced bytes, which must still fit into the allowance.

        Raises:
            SpentError: the allowance does not cover them; nothing is counted then.
        """
        now, name = self._clock(), _network(address)
        with self._lock:
            spent = self._left_of(self._spent.get(name), now)
            if spent + size + ahead > self._most:
                raise SpentError("gate.uploads_spent", most=size_text(self._most))
            self._spent.pop(name, None)  # re-inserted below as the latest
            self._spent[name] = _Spent(spent + size, now)
            while len(self._spent) > _MOST_ADDRESSES:
                del self._spent[next(iter(self._spent))]

    def _left_of(self, spent: _Spent | None, now: float) -> float:
        return max(0.0, spent.size - (now - spent.when) * self._most / _REFILLED_S) if spent else 0.0


def _network(address: str) -> str:
    """Return the address, or its /64 network for IPv6, where each visitor has a whole network of addresses."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return address if found.version == 4 else str(ipaddress.ip_network((found, _HOST_BITS), strict=False))
