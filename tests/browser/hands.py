"""What a visitor's hands do that takes more than one call."""

from __future__ import annotations

from typing import Any


def enter(page: Any, box: str, number: str) -> None:
    """Type a number into a slider's box; in an accordion that was just opened it takes a moment to stay."""
    field = f"#{box} input[type=number]"
    page.wait_for_selector(field)
    page.wait_for_timeout(700)
    page.fill(field, number)
    page.locator(field).blur()
    page.wait_for_timeout(300)
    assert page.input_value(field) == number
