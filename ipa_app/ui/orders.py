"""What one press of a button asks for: a single request, or a series, and how its pictures are shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import GenerateResult
from ipa_app.engine.series import Part, both_adapters, scale_strip
from ipa_app.ui import texts


@dataclass(frozen=True, kw_only=True)
class Order:
    """A series that a button stands for.

    Attributes:
        parts: plans it from what is entered.
        caption: names each of its pictures.
        done: says what is to be seen; has room for the seed.
        columns: pictures side by side.
        compared: two pictures lie on each other, with a handle between them.
    """

    parts: Callable[[GenerateRequest], Sequence[Part]]
    caption: Callable[[GenerateResult], str]
    done: str
    columns: int
    compared: bool = False


SERIES = {
    "scale-strip": Order(
        parts=scale_strip,
        caption=lambda result: f"{result.settings['scale']:g}",
        done=texts.STRIP_DONE,
        columns=5,
    ),
    "both-adapters": Order(
        parts=both_adapters,
        caption=lambda result: texts.ADAPTER_CAPTIONS[result.settings["adapter"]],
        done=texts.BOTH_DONE,
        columns=2,
        compared=True,
    ),
}
