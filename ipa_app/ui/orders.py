"""What one press of a button asks for: a single request, or a series, and how its pictures are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import GenerateResult
from ipa_app.engine.series import Part, each_adapter, scale_strip
from ipa_app.models.entry import AdapterEntry, ModelEntry
from ipa_app.ui import texts
from ipa_app.ui.adapters import adapter_title


@dataclass(frozen=True, kw_only=True)
class Order:
    """A series that a button stands for.

    Attributes:
        parts: plans it from what is entered, and the adapters that are to be compared.
        caption: names each of its pictures, which the given model has drawn.
        done: says what is to be seen, from the captions and the seed.
        columns: most pictures side by side.
        compared: where there are two pictures, they lie on each other, with a handle between them.
    """

    parts: Callable[[GenerateRequest, Mapping[str, AdapterEntry]], Sequence[Part]]
    caption: Callable[[GenerateResult, ModelEntry], str]
    done: Callable[[Sequence[str], int], str]
    columns: int
    compared: bool = False


def _adapters_done(captions: Sequence[str], seed: int) -> str:
    if len(captions) != 2:
        return texts.EACH_DONE.format(seed=seed)
    return texts.BOTH_DONE.format(series=captions[0], series2=captions[1], seed=seed)


SERIES = {
    "scale-strip": Order(
        parts=lambda request, _adapters: scale_strip(request),
        caption=lambda result, _entry: f"{result.settings['scale']:g}",
        done=lambda _captions, seed: texts.STRIP_DONE.format(seed=seed),
        columns=5,
    ),
    "both-adapters": Order(
        parts=each_adapter,
        caption=lambda result, entry: adapter_title(entry, result.settings["adapter"]),
        done=_adapters_done,
        columns=4,
        compared=True,
    ),
}
