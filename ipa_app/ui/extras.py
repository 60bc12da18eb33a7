"""What can be done with pictures once they are there: pick one, go on from it, look at earlier ones again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ipa_app.imaging.png import read_settings
from ipa_app.ui import texts
from ipa_app.ui.failures import gradio_error
from ipa_app.ui.orders import SERIES
from ipa_app.ui.parts import Parts
from ipa_app.ui.restore import Restorer
from ipa_app.ui.results import show_picked, show_pictures
from ipa_app.ui.running import Runner
from ipa_app.ui.status import status_line

Update = dict[Any, Any]
PRIVATE: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE: dict[str, Any] = {"queue": False, **PRIVATE}


def connect_extras(parts: Parts, *, runner: Runner, restorer: Restorer) -> None:
    """Connect the buttons under the pictures, the series and the history."""
    _connect_series(parts, runner=runner)
    _connect_picking(parts)
    _connect_more_like_this(parts, runner=runner)
    _connect_history(parts)
    parts.results.use_settings.click(restorer.from_result, parts.results.picked, restorer.outputs, **AT_ONCE)


def drawing_inputs(parts: Parts, task: str) -> dict[str, Any]:
    """What the handlers of `Runner.run` are given: the form, and what this visit has made so far."""
    return {**parts.inputs_of(parts.tab_of(task)), "history": parts.results.history}


def _connect_series(parts: Parts, *, runner: Runner) -> None:
    for tab in parts.tabs:
        for name, button in tab.extras.items():
            button.click(
                runner.run(tab.task, SERIES[name]),
                inputs_kwargs=drawing_inputs(parts, tab.task),
                outputs=runner.outputs,
                preprocess=False,
                concurrency_limit=None,
                **PRIVATE,
            )


def _connect_picking(parts: Parts) -> None:
    results = parts.results
    outputs = [results.picked, results.picked_note, results.settings]

    def pick(shown: Sequence[str], event: gr.SelectData) -> Update:
        return show_picked(results, shown, index=_index(event, shown))

    results.gallery.select(pick, results.shown, outputs, **AT_ONCE)


def _connect_more_like_this(parts: Parts, *, runner: Runner) -> None:
    """Put the picked picture into the place of the reference and make variations of it."""
    panel, tab = parts.panel, parts.tab_of("variation")

    def take(picked: str, scale: float, suited: float) -> Update:
        _check_there(picked)
        updates = {parts.tasks: gr.update(selected=tab.task), panel.suited_scale: tab.default_scale}
        if scale == suited:
            updates[panel.scale] = tab.default_scale
        return {**updates, **panel.references.fill([(picked, 1.0)])}

    taken = parts.results.more_like_this.click(
        take,
        [parts.results.picked, panel.scale, panel.suited_scale],
        [parts.tasks, panel.scale, panel.suited_scale, *panel.references.outputs],
        **AT_ONCE,
    )
    taken.success(
        runner.run(tab.task),
        inputs_kwargs=drawing_inputs(parts, tab.task),
        outputs=runner.outputs,
        preprocess=False,
        concurrency_limit=None,
        **PRIVATE,
    )


def _connect_history(parts: Parts) -> None:
    results = parts.results

    def look_again(history: Sequence[str], event: gr.SelectData) -> Update:
        path = history[_index(event, history)]
        _check_there(path)
        seed = (read_settings(path) or {}).get("seed", "?")
        caption = texts.SEED_CAPTION.format(seed=seed)
        shown = show_pictures(results, [(path, caption)], columns=1, download=path)
        return {**shown, results.status: status_line(texts.FROM_HISTORY, kind="done")}

    results.earlier_gallery.select(look_again, results.history, list(vars(results).values()), **AT_ONCE)


def _index(event: gr.SelectData, paths: Sequence[str]) -> int:
    """The place of the picture that was chosen; the page may still show what is gone here."""
    index = event.index
    if not isinstance(index, int) or not 0 <= index < len(paths):
        raise gradio_error(texts.PICTURE_GONE)
    return index


def _check_there(path: str | None) -> None:
    """Files are cleared away after a day."""
    if path is None or not Path(path).is_file():
        raise gradio_error(texts.PICTURE_GONE)
