"""What one press of a button asks for: a single request, or a series, and how its pictures are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import GenerateResult
from ipa_app.engine.series import Part, each_adapter, scale_strip
from ipa_app.messages import Message
from ipa_app.models.entry import AdapterEntry, ModelEntry
from ipa_app.ui.adapters import adapter_title


@dataclass(frozen=True, kw_only=True)
class Order:
    """A series that a button stands for.

    Attributes:
        button: key of what the button says.
        parts: plans it from what is entered, and the adapters that are to be compared.
        caption: names each of its pictures, which the given model has drawn.
        done: says what is to be seen, from the captions and the seed.
        columns: most pictures side by side.
        compared: where there are two pictures, they lie on each other, with a handle between them.
    """

    button: str
    parts: Callable[[GenerateRequest, Mapping[str, AdapterEntry]], Sequence[Part]]
    caption: Callable[[GenerateResult, ModelEntry], str]
    done: Callable[[Sequence[str], int], Message]
    columns: int
    compared: bool = False


def _adapters_done(captions: Sequence[str], seed: int) -> Message:
    if len(captions) != 2:
        return Message("series.each_done", seed=seed)
    return Message("series.both_done", series=captions[0], other=captions[1], seed=seed)


SERIES = {
    "scale-strip": Order(
        button="page.series.scale_strip",
        parts=lambda request, _adapters: scale_strip(request),
        caption=lambda result, _entry: f"{result.settings['scale']:g}",
        done=lambda _captions, seed: Message("series.strip_done", seed=seed),
        columns=5,
    ),
    "both-adapters": Order(
        button="page.series.both_adapters",
        parts=each_adapter,
        caption=lambda result, entry: adapter_title(entry, result.settings["adapter"]),
        done=_adapters_done,
        columns=4,
        compared=True,
    ),
}
