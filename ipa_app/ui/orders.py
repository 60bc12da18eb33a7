"""The series that buttons draw, and how their pictures are shown."""

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
    """A series that a button draws.

    Attributes:
        button: the key of the button's text.
        parts: plans the series from the request and the adapters to compare.
        caption: returns the caption of a result, given the model that drew it.
        done: returns the sentence on the finished series, from the captions and the seed.
        columns: the most pictures side by side.
        compared: whether two pictures are shown on top of each other, with a slider between them.
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
