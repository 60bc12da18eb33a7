"""Bytes and seconds in human-readable units, and a download's progress, speed and remaining time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from ipa_app.messages import Message

_WINDOW_S = 15.0
_SPEED_AFTER_S = 1.0


def size_text(count: float) -> str:
    """Return a number of bytes as text in decimal units, as disks and the Hub count: 6140000000 is "6.1 GB"."""
    if count >= 10**9:
        return f"{count / 10**9:.1f} GB"
    if count >= 10**6:
        return f"{count / 10**6:.0f} MB"
    return f"{max(count, 0) / 10**3:.0f} kB"


def time_text(seconds: float) -> Message:
    """Return a duration as text, suitably rounded, at least 2 seconds: "20 seconds", "3 minutes", "1.5 hours"."""
    if seconds < 90:
        return Message("amount.seconds", number=max(2, round(seconds)))
    if seconds < 90 * 60:
        return Message("amount.minutes", number=max(2, round(seconds / 60)))
    return Message("amount.hours", number=f"{seconds / 3600:.1f}")


class Meter:
    """Counts the bytes of a download. For one thread."""

    def __init__(self, total: int, *, done: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        """Start counting.

        Args:
            total: bytes in all.
            done: bytes that an earlier try has fetched.
            clock: returns the time in seconds.
        """
        self.total = total
        self.done = done
        self._clock = clock
        self._arrived: deque[tuple[float, int]] = deque([(clock(), 0)])

    def add(self, count: int) -> None:
        """Count bytes that have arrived; a negative number takes back what has to be fetched again."""
        self.done += count
        now = self._clock()
        self._arrived.append((now, max(count, 0)))
        while len(self._arrived) > 2 and now - self._arrived[0][0] > _WINDOW_S:
            self._arrived.popleft()

    @property
    def share(self) -> float:
        """Share that is done, 0 to 1."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total else 1.0

    @property
    def speed(self) -> float:
        """Bytes per second over the last seconds; 0 if not known yet."""
        began = self._arrived[0][0]
        elapsed = self._clock() - began
        # The first entry only marks the start of the window: its bytes came before.
        return sum(count for when, count in self._arrived if when > began) / elapsed if elapsed > _SPEED_AFTER_S else 0

    def text(self) -> Message:
        """Return the progress as text for users: "1.2 of 4.0 GB, 23 MB/s, 2 minutes left"."""
        done, total = size_text(self.done), size_text(self.total)
        arrived = Message("download.arrived", done=done.removesuffix(total[-3:]), total=total)
        speed = self.speed
        if speed <= 0 or self.done >= self.total:
            return arrived
        left = time_text((self.total - self.done) / speed)
        return Message("download.arrived_at_speed", arrived=arrived, speed=size_text(speed), left=left)
