"""One choice for how much of the picture counts: named points that set its strength and its range together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.tasks import TASKS
from ipa_app.messages import Message
from ipa_app.options import options
from ipa_app.ui.controls import AT_ONCE
from ipa_app.ui.tabs import OPENING

if TYPE_CHECKING:
    from ipa_app.ui.parts import Parts

NAMES = ("hint", "usual", "strong", "copy")


@dataclass(frozen=True)
class Amount:
    """The slider values of a named point: the strength, and where it starts and ends, as shares of the steps."""

    scale: float
    start: float = 0.0
    end: float = 1.0


# The points other than the usual one. With words, the method's authors recommend about 0.5 for Stable Diffusion 1.5 and
# XL, and 1 leaves words little influence; `python -m bench.quality --amounts` measures what each point takes over from
# the picture with Toybox (docs/toybox.md). A late start leaves the layout to the words.
_WITH_WORDS = (Amount(0.4, start=0.2), Amount(0.8), Amount(1.0))
_ALONE = (Amount(0.5, start=0.2), Amount(1.2), Amount(1.4))


def amounts_of(task: str) -> Mapping[str, Amount]:
    """Return the named points of a task, the usual one being its default."""
    usual = TASKS[task].default_of(options(GenerateRequest)["scale"])
    points = _WITH_WORDS if usual < 1 else _ALONE
    return dict(zip(NAMES, (points[0], Amount(usual), *points[1:]), strict=True))


_SCRIPT = """
    const amounts = %s;
    const open = document.querySelector(".tab-container button[aria-selected=true][id^=tab-]");
    // On the Library tab use the points of the tab that was open before, found by its usual strength.
    const before = Object.values(amounts).find(({ usual }) => usual[0] === suited) ?? amounts["%s"];
    const points = amounts[open?.id.split("-")[1]] ?? before;
    const isThere = (name) => points[name].every((value, i) => Math.abs(value - set[i]) < 0.001);
"""
# The sliders follow a choice with a delay, and their change events must not undo a newer choice that was made meanwhile
# with the keyboard: until the sliders are where the newest choice puts them, that choice stands.
_HEARD = """
window.addEventListener("input", ({target}) => {
    window.ipaAmount = target.closest("#amount") ? target.value : null;
}, true);
"""
_CHOSEN = """(name, suited, ...set) => {%s
    const chosen = window.ipaAmount ?? name;
    if (isThere(chosen)) window.ipaAmount = null;
    return points[chosen];
}"""
_MOVED = """(suited, ...set) => {%s
    const chosen = window.ipaAmount;
    if (chosen && !isThere(chosen)) return chosen;
    window.ipaAmount = null;
    return Object.keys(points).find(isThere) ?? null;
}"""


def amount_choice() -> gr.Radio:
    """Lay out the choice; with the sliders between the points, none is chosen."""
    gr.HTML("", js_on_load=_HEARD, visible="hidden")
    return gr.Radio(
        choices=[(Message(f"page.amount.{name}"), name) for name in NAMES],
        value="usual",
        label=Message("page.amount.label"),
        info=Message("page.amount.help"),
        elem_id="amount",
    )


def connect_amounts(parts: Parts) -> None:
    """Make the sliders follow the choice, and the choice the sliders, in the browser alone."""
    amounts: dict[str, Any] = {task: {name: astuple(each) for name, each in amounts_of(task).items()} for task in TASKS}
    look = _SCRIPT % (json.dumps(amounts), OPENING)
    panel = parts.panel
    sliders = [panel.scale, panel.inputs["start"], panel.inputs["end"]]
    set_so_far = [panel.suited_scale, *sliders]
    panel.amount.input(None, [panel.amount, *set_so_far], sliders, js=_CHOSEN % look, **AT_ONCE)
    moved = [*(slider.change for slider in sliders), *(tab.tab.select for tab in parts.tabs)]
    gr.on(moved, None, set_so_far, panel.amount, js=_MOVED % look, **AT_ONCE)
