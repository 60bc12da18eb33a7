"""What can be done with results: pick one, continue from it, look at earlier ones again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import gradio as gr

from ipa_app.engine.requests import RANDOM_SEED
from ipa_app.imaging.enlarging import enlarge
from ipa_app.imaging.opening import open_image
from ipa_app.messages import Message
from ipa_app.ui.controls import AT_ONCE, CHECKED, ONE_BY_ONE, Update, show_opened
from ipa_app.ui.failures import gradio_error
from ipa_app.ui.orders import SERIES, Order
from ipa_app.ui.parts import Parts
from ipa_app.ui.pictures import check_there, keep_picture
from ipa_app.ui.references import Filling, Replaced
from ipa_app.ui.restore import Restorer
from ipa_app.ui.results import SHOW_RESULTS, show_earlier, show_picked
from ipa_app.ui.running import Runner
from ipa_app.ui.tabs import OPENING
from ipa_app.ui.tabs.shared import TaskTab

# Where a picture is opened, other pictures would be too, whichever is picked. The server leaves `None` out of updates.
_NONE_OPENED = "() => ({ __type__: 'update', selected_index: null })"


def connect_extras(parts: Parts, *, runner: Runner, restorer: Restorer) -> None:
    """Connect the buttons under the pictures, the series and the history."""
    _connect_series(parts, runner=runner)
    _connect_picking(parts)
    _connect_enlarging(parts)
    _connect_more_like_this(parts, runner=runner)
    _connect_history(parts)
    _connect_new_seed(parts)
    parts.panel.references.let_fill(
        parts.results.use_settings.click,
        restorer.from_result,
        {"path": parts.results.picked, "own": parts.panel.adapters.own},
        outputs=restorer.outputs,
        **CHECKED,
    )


def connect_drawing(
    parts: Parts,
    press: Callable[..., Any],
    *,
    tab: TaskTab,
    runner: Runner,
    order: Order | None = None,
    beside: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Connect an event to drawing what a tab's form asks for.

    Args:
        parts: the parts of the page.
        press: the event.
        tab: the tab with the form.
        runner: runs the request.
        order: the series to draw; None for a single request.
        beside: further inputs by name.
    """
    kept = {"history": parts.results.history, "presented": parts.presentation.is_on}
    runner.connect(press, task=tab.task, inputs={**parts.inputs_of(tab), **kept, **beside}, order=order)


def _connect_series(parts: Parts, *, runner: Runner) -> None:
    for tab in parts.tabs:
        for name, button in tab.extras.items():
            beside = {"compared": tab.compared} if tab.compared else {}
            connect_drawing(parts, button.click, tab=tab, runner=runner, order=SERIES[name], beside=beside)


def _connect_picking(parts: Parts) -> None:
    results = parts.results
    about = [results.picked, results.picked_note, results.made, results.settings]
    outputs = [*about, results.download_picked, results.enlarged, results.sharing]

    def pick(shown: Sequence[str], event: gr.SelectData) -> Update:
        return show_picked(results, shown, index=_index(event, shown))

    results.gallery.select(pick, results.shown, outputs, **ONE_BY_ONE)
    results.gallery.change(None, None, results.gallery, js=_NONE_OPENED, **AT_ONCE)


def _connect_enlarging(parts: Parts) -> None:
    results = parts.results

    def show(picked: str) -> Any:
        check_there(picked)
        return gr.update(value=keep_picture(enlarge(open_image(picked))), visible=True)

    enlarged = results.enlarge.click(show, results.picked, results.enlarged, **CHECKED)
    enlarged.success(None, js=show_opened("enlarged"), **AT_ONCE)


def _connect_more_like_this(parts: Parts, *, runner: Runner) -> None:
    """Make the picked picture the reference, and draw variations of it."""
    panel, tab = parts.panel, parts.tab_of(OPENING)

    def take(*, picked: str, scale: float, suited: float, over: Replaced) -> Update:
        check_there(picked)
        updates = {parts.tasks: gr.update(selected=tab.task), panel.suited_scale: tab.default_scale}
        if scale == suited:
            updates[panel.scale] = tab.default_scale
        # With a fixed seed, pressing it again would give the same pictures.
        updates[parts.settings.seed] = RANDOM_SEED
        return {**updates, **panel.references.fill([Filling(path=picked)], over=over)}

    taken = panel.references.let_fill(
        parts.results.more_like_this.click,
        take,
        {"picked": parts.results.picked, "scale": panel.scale, "suited": panel.suited_scale},
        outputs=[parts.tasks, panel.scale, panel.suited_scale, parts.settings.seed, *panel.references.outputs],
        **CHECKED,
    )
    runner.connect_failure(taken.failure)
    connect_drawing(parts, taken.success, tab=tab, runner=runner)


def _connect_new_seed(parts: Parts) -> None:
    """Make the button beside the status switch back to random seeds, and disappear."""
    seed, button = parts.settings.seed, parts.results.new_seed
    button.click(lambda: (RANDOM_SEED, gr.update(visible=False)), None, [seed, button], **AT_ONCE)


def _connect_history(parts: Parts) -> None:
    results = parts.results

    def look_again(history: Sequence[str], event: gr.SelectData) -> Update:
        path = history[_index(event, history)]
        check_there(path)
        return show_earlier(results, [path], download=path)

    shown = results.earlier_gallery.select(look_again, results.history, list(vars(results).values()), **ONE_BY_ONE)
    shown.success(None, js=SHOW_RESULTS, **AT_ONCE)


def _index(event: gr.SelectData, paths: Sequence[str]) -> int:
    """Return the index of the chosen picture; the page may still show pictures that are gone here.

    Raises:
        gr.Error: the picture is gone.
    """
    index = event.index
    if not isinstance(index, int) or not 0 <= index < len(paths):
        raise gradio_error(Message("result.gone"))
    return index
