"""Bytes and seconds in words for people."""

from __future__ import annotations

from ipa_app.messages import Message


def size_text(count: float) -> str:
    """Say a number of bytes in decimal units, as disks and the Hub count: 6140000000 is "6.1 GB"."""
    if count >= 10**9:
        return f"{count / 10**9:.1f} GB"
    if count >= 10**6:
        return f"{count / 10**6:.0f} MB"
    return f"{max(count, 0) / 10**3:.0f} kB"


def time_text(seconds: float) -> Message:
    """Say a duration as roughly as it is known, from 2 seconds on: "20 seconds", "3 minutes", "1.5 hours"."""
    if seconds < 90:
        return Message("amount.seconds", number=max(2, round(seconds)))
    if seconds < 90 * 60:
        return Message("amount.minutes", number=max(2, round(seconds / 60)))
    return Message("amount.hours", number=f"{seconds / 3600:.1f}")
