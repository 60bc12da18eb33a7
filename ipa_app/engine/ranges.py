"""Ranges in which something counts, as shares of the denoising steps."""

from __future__ import annotations

from typing import Any

from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.options import option


def range_start(what: str) -> Any:
    """Declare the option for the share of the steps at which something, such as "picture", begins to count."""
    return option(
        0.0,
        title=f"The beginning of the {what}'s strength",
        label="From (0: first step)",
        step=0.05,
        between=(0, 1),
        excluded=1,
        doc=f"when the {what} begins to count, as a share of the steps, {{least:g}} to below {{most:g}}",
    )


def range_end(what: str, *, after: str) -> Any:
    """Declare the option for the share of the steps at which something stops counting, later than option `after`."""
    return option(
        1.0,
        title=f"The end of the {what}'s strength",
        label="To (1: last step)",
        step=0.05,
        between=(0, 1),
        excluded=0,
        doc=f"when it stops counting, above {{least:g}} to {{most:g}}; later than {after}",
    )


def check_range(start: float, end: float, *, of: Message, field: str) -> None:
    """Check that a range ends later than it begins.

    Args:
        start: its beginning, 0 to 1.
        end: its end.
        of: what counts, as messages name it.
        field: the field of the end.

    Raises:
        UserError: it does not.
    """
    if start >= end:
        raise UserError("request.ends_before_it_begins", strength=of, start=f"{start:g}", end=f"{end:g}").blaming(field)


def no_whole_step(what: Message, *, start: float, end: float, steps: int, field: str) -> UserError:
    """Return the error for something that counts for less than one step.

    Args:
        what: what would count.
        start: its beginning, 0 to 1.
        end: its end.
        steps: number of denoising steps.
        field: the field of the end.
    """
    return UserError(
        "request.counts_in_no_step", start=f"{start:g}", end=f"{end:g}", steps=steps, counted=what
    ).blaming(field)
