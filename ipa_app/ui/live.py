"""Live mode: one large picture that follows the inputs while they are changed.

The page draws one such picture at a time, and then the newest input is next: Gradio's own "always_last". A picture that
takes long is cancelled when a newer one is wanted. A model that suits live mode and has a fast way draws a draft with
it first, and then, unless something newer has come, the picture as requested. Pictures are sent inside the page's HTML,
and are not saved until the visitor asks for it.

On hardware that lends a GPU for each picture, live mode is not offered.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ipa_app.engine.plan import draft_of
from ipa_app.engine.requests import GenerateRequest, random_seed
from ipa_app.engine.results import GenerateResult, Progress
from ipa_app.errors import Cancelled
from ipa_app.imaging.transparency import on_white
from ipa_app.messages import Message
from ipa_app.ui.calls import arrived, awaited
from ipa_app.ui.controls import AT_ONCE, IN_TURN, LATEST, LATEST_AT_ONCE, Update
from ipa_app.ui.failures import explain
from ipa_app.ui.form import build_request
from ipa_app.ui.language.markup import attribute, status_note
from ipa_app.ui.pictures import inline_picture
from ipa_app.ui.results import Turn
from ipa_app.ui.running import Runner
from ipa_app.ui.studio import Studio
from ipa_app.ui.turns import opening_turn

if TYPE_CHECKING:
    from PIL import Image

    from ipa_app.ui.parts import Parts
    from ipa_app.ui.tabs.shared import TaskTab


_STAYS_IN_SIGHT = Path(__file__).with_name("live_picture.js")
_SCRIPT = Path(__file__).with_name("live.js")
_STORED = "ipa-live"
_FINISHES_S = 0.7
"""An overtaken picture may still finish within this time from its start: otherwise none would while somebody drags."""

# Events within the page: live.js decides whether to request a picture, and the status line clears what is outdated.
_CHANGED = "() => { window.dispatchEvent(new Event('ipa-changed')); }"
_REPAINTED = "() => { window.dispatchEvent(new Event('ipa-repainted')); }"
_TAKEN = "(...painted) => [...painted, performance.now()]"
_SWITCHED = """(on) => {
    document.body.toggleAttribute("data-live", on);
    window.dispatchEvent(new Event("ipa-changed"));
}"""
_SET = f"""(on) => {{ sessionStorage.setItem("{_STORED}", on); }}"""
_SUITED = f"""(model) => {{
    const set = sessionStorage.getItem("{_STORED}");
    return set === null ? %s.includes(model) : set === "true";
}}"""


@dataclass(frozen=True, kw_only=True)
class LivePanel:
    """The switch and the panel that it shows.

    The states are per session: `under_way` is the `UnderWay` of the newest picture, `seed` the seed of all pictures for
    which none is entered, and `drawn` the inputs of the picture that is shown, as the page sent them.
    """

    switch: gr.Checkbox
    box: gr.Column
    picture: gr.HTML
    note: gr.HTML
    keep: gr.Button
    under_way: gr.State
    seed: gr.State
    drawn: gr.State


def live_panel(*, offered: bool) -> LivePanel:
    """Lay out the panel, switched off.

    Args:
        offered: whether live mode can be switched on.
    """
    help_text = Message("page.live_help") if offered else Message("page.live_not_here")
    switch = gr.Checkbox(
        label=Message("page.live_label"), info=help_text, value=False, interactive=offered, elem_id="live"
    )
    with gr.Column(visible=False, elem_id="live-panel") as box:
        picture = _picture()
        note = gr.HTML("", padding=False, elem_id="live-note")
        keep = gr.Button(Message("page.live_keep"), size="sm", visible=False, elem_id="live-keep")
    return LivePanel(
        switch=switch,
        box=box,
        picture=picture,
        note=note,
        keep=keep,
        under_way=gr.State(None),
        seed=gr.State(None),
        drawn=gr.State(None),
    )


def _picture() -> gr.HTML:
    name = attribute("aria-label", Message("page.live_size"))
    size = f'<button type="button" class="ipa-live-size"{name}></button>'
    return gr.HTML(
        "",
        html_template=f'<div class="ipa-live-box">${{value}}{size}</div>',
        js_on_load=_STAYS_IN_SIGHT.read_text(encoding="utf-8"),
        padding=False,
        elem_id="live-picture",
    )


def connect_live(parts: Parts, *, page: gr.Blocks, runner: Runner) -> None:
    """Connect the switch, all inputs that a picture depends on, and the button that keeps it."""
    studio, panel = runner.studio, parts.live
    if not studio.engine.device.offers_live:
        return
    live = Live(panel, studio=studio)
    # Until the visitor sets it, live mode is on if the model suits it.
    suited = _SUITED % json.dumps([entry.name for entry in studio.catalog.values() if entry.live])
    opened = f"""(model) => {{
        if (location.hash === "#live") sessionStorage.setItem("{_STORED}", true);
        return ({suited})(model);
    }}"""
    page.load(None, parts.settings.model, panel.switch, js=opened, **AT_ONCE)
    parts.settings.model.change(None, parts.settings.model, panel.switch, js=suited, **AT_ONCE)
    panel.switch.input(None, panel.switch, None, js=_SET, **AT_ONCE)
    panel.switch.change(None, panel.switch, None, js=_SWITCHED, **AT_ONCE)
    panel.switch.change(live.switch, [panel.switch, panel.under_way], panel.box, **LATEST_AT_ONCE)
    for tab in parts.tabs:
        _connect_tab(parts, tab, live=live)

    def keep(drawn: Mapping[str, Any] | None, history: Sequence[str], presented: bool, turn: Turn) -> Iterator[Update]:
        if drawn:
            # The seed is the live picture's, and was not set by the visitor.
            run = runner.run(drawn["task"], tells_seed=False)
            yield from run(history=history, presented=presented, turn=turn, **drawn["sent"])

    kept = [panel.drawn, parts.results.history, parts.presentation.is_on, parts.results.turn]
    kept_for_good = panel.keep.click(keep, kept, runner.outputs, preprocess=False, **IN_TURN)
    runner.connect_failure(kept_for_good.failure)


def tell_changes(parts: Parts) -> None:
    """Send the page's scripts an event when any input of a request changes."""
    gr.on(_changes(parts), None, None, None, js=_CHANGED, **AT_ONCE)
    for tab in parts.tabs:
        if tab.told_by:
            gr.on(list(dict.fromkeys(tab.told_by.values())), None, None, None, js=_REPAINTED, **AT_ONCE)


def _connect_tab(parts: Parts, tab: TaskTab, *, live: Live) -> None:
    """Draw a tab's request when live.js asks for it.

    Exporting a painting takes the browser a while, and Gradio collects all inputs of a listener several times. So each
    editor is exported once after each stroke, into a hidden component.
    """
    panel, inputs = parts.live, parts.inputs_of(tab)
    editors = [part for part in inputs.values() if isinstance(part, gr.ImageEditor)]
    watch, taken = _watch(tab.task, editors=editors), gr.Number(visible=False)
    painted: dict[int, Any] = {part._id: gr.JSON(visible=False) for part in editors}
    watch.apply(None, editors, [*painted.values(), taken], js=_TAKEN, **AT_ONCE)
    inputs = {name: painted.get(part._id, part) for name, part in inputs.items()}
    inputs |= {"live_seed": panel.seed, "live_drawn": panel.drawn}
    gr.on(
        [watch.release, taken.change],
        live.follow(tab.task),
        inputs_kwargs=inputs,
        outputs=live.outputs,
        preprocess=False,
        **LATEST,
    )
    # Each is sent at once: one held back until the one before is answered would overtake the picture it asked for.
    watch.input(live.overtake, panel.under_way, None, trigger_mode="multiple", **AT_ONCE)


def _changes(parts: Parts) -> list[Any]:
    """Return the change events of all inputs of requests, except those that live.js notices itself."""
    watched = {}
    for tab in parts.tabs:
        inputs = parts.inputs_of(tab)
        watched |= {part._id: part for name, part in inputs.items() if name not in tab.told_by}
    # An editor with a listener uploads all its pictures at each stroke.
    unwatched = (gr.State, gr.ImageEditor)
    changes = [part.change for part in watched.values() if not isinstance(part, unwatched)]
    return [*changes, *(tab.tab.select for tab in parts.tabs)]


def _watch(task: str, *, editors: Sequence[gr.ImageEditor]) -> gr.HTML:
    """Lay out the hidden component whose events say that a task's picture is wanted, or overtaken.

    Args:
        task: the task.
        editors: the tab's painting areas.
    """
    script = _SCRIPT.read_text(encoding="utf-8")
    return gr.HTML("", js_on_load=script, visible="hidden", task=task, editors=[f"#{each.elem_id}" for each in editors])


def _kept(value: Any) -> Any:
    """Return the part of a value that matters: for uploads and painting areas, without what else was sent with them."""
    if isinstance(value, dict) and isinstance(value.get("path"), str):
        return {"path": value["path"]}
    if isinstance(value, dict) and isinstance(value.get("layers"), list):
        return {"background": _kept(value.get("background")), "layers": [_kept(each) for each in value["layers"]]}
    return value


class UnderWay:
    """A live picture being drawn: a draft if there is one, and then the picture as requested. Thread-safe.

    Attributes:
        began: when it was begun, in seconds of the monotonic clock.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self.began = time.monotonic()
        self._lock = threading.Lock()
        self._jobs: list[str] = []
        self._is_overtaken = self._stops_at_once = False

    def submit(self, request: GenerateRequest) -> str:
        """Queue the draft or the picture after it, and return the job's id.

        Raises:
            Cancelled: a newer picture is wanted.
            UserError: as for `Studio.submit`.
        """
        with self._lock:
            if self._is_overtaken:
                raise Cancelled
            self._jobs.append(self._studio.submit(request, live=True))
            return self._jobs[-1]

    def overtake(self, *, at_once: bool = False) -> None:
        """Stop the picture, as a newer one is wanted; with `at_once`, as none is.

        Unless `at_once`, a first job that has just begun may go on for `_FINISHES_S`; its follower then stops it.
        """
        with self._lock:
            self._is_overtaken, self._stops_at_once = True, at_once
        self.stop_if_late()

    def stop_if_late(self) -> None:
        """Stop an overtaken job that waits or takes long; its follower calls this several times a second."""
        with self._lock:
            finishes_s = _FINISHES_S if len(self._jobs) == 1 and not self._stops_at_once else 0.0
            if self._is_overtaken and self._jobs:
                self._studio.cancel(self._jobs[-1], older_than=finishes_s)


class Live:
    """The event handlers of live pictures."""

    def __init__(self, panel: LivePanel, *, studio: Studio) -> None:
        self._panel = panel
        self._studio = studio

    @property
    def outputs(self) -> list[Any]:
        """Every component that an update may name."""
        panel = self._panel
        return [panel.picture, panel.note, panel.keep, panel.under_way, panel.seed, panel.drawn]

    def switch(self, on: bool, under_way: UnderWay | None) -> Update:
        """Show or hide the panel; hiding it stops the picture under way."""
        if under_way is not None and not on:
            under_way.overtake(at_once=True)
        return gr.update(visible=on)

    def overtake(self, under_way: UnderWay | None) -> None:
        """Stop the picture under way, unless it is about to finish, or is the one that overtakes: it may be quicker."""
        if under_way is not None and under_way.began <= arrived():
            under_way.overtake()

    def follow(self, task: str) -> Callable[..., Iterator[Update]]:
        """Return the handler that draws a task's request; errors are shown under the picture."""

        def draw(
            *, live_seed: int | None = None, live_drawn: Mapping[str, Any] | None = None, **sent: Any
        ) -> Iterator[Update]:
            seed = random_seed() if live_seed is None else live_seed
            if sent.get("seed") in (None, -1):
                sent["seed"] = seed
            drawn = {"task": task, "sent": {**{name: _kept(value) for name, value in sent.items()}, "count": 1}}
            if drawn == live_drawn:
                yield {self._panel.note: ""}
                return
            try:
                yield from self._draw(drawn, seed=seed)
            except Cancelled:
                return
            except Exception as error:  # noqa: BLE001 - said to the visitor, and logged, by `explain`
                yield {self._panel.note: status_note(explain(error), css_class="ipa-note ipa-failed")}

        return draw

    def _draw(self, drawn: Mapping[str, Any], *, seed: int) -> Iterator[Update]:
        panel, under_way = self._panel, UnderWay(self._studio)
        # The model's own number of steps: the one entered is for pictures that people wait for.
        sent = {**drawn["sent"], "steps": 0}
        with opening_turn(sent, engine=self._studio.engine, live=True):
            request = build_request(drawn["task"], sent)
            draft = draft_of(request, self._studio.entry(request.model))
            job = under_way.submit(draft or request)
        begun = {panel.under_way: under_way, panel.seed: seed}
        if draft is not None:
            yield from self._drafted(job, drawn, begun)
            job = under_way.submit(request)
        yield from self._followed(job, drawn, begun)

    def _drafted(self, job: str, drawn: Mapping[str, Any], begun: Update) -> Iterator[Update]:
        """Show a draft, if it succeeds; a failure is only logged, as requesting the fast way itself would show it."""
        try:
            # Marked as a draft, so that the same inputs still draw the picture itself if it was not reached.
            yield from self._followed(job, {**drawn, "is_draft": True}, begun)
        except Cancelled:
            raise
        except Exception as error:  # noqa: BLE001 - logged by `explain`; the picture itself is still drawn
            explain(error)

    def _followed(self, job: str, drawn: Mapping[str, Any], begun: Update) -> Iterator[Update]:
        """Yield the updates for a job's start, its progress and its picture; a follower who leaves cancels the job."""
        panel, is_draft, is_there = self._panel, "is_draft" in drawn, awaited()
        under_way: UnderWay = begun[panel.under_way]

        def is_awaited() -> bool:
            under_way.stop_if_late()
            return is_there()

        with self._studio.following(job, awaited=is_awaited, newest=True) as events:
            yield begun
            for event in events:
                if isinstance(event, Progress):
                    if event.phase == "loading" and event.message:
                        yield {panel.note: status_note(Message("progress.alone", doing=event.message))}
                elif isinstance(event, GenerateResult):
                    notes = () if is_draft else event.notes
                    yield {
                        panel.picture: _shown(event.images[0], is_draft=is_draft),
                        panel.note: status_note(*notes) if notes else "",
                        panel.keep: gr.update(visible=True),
                        panel.drawn: drawn,
                    }


def _shown(image: Image.Image, *, is_draft: bool) -> str:
    css_class = "ipa-live ipa-draft" if is_draft else "ipa-live"
    return inline_picture(on_white(image), alt=Message("page.live_picture"), css_class=css_class)
