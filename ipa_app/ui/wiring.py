"""What happens when something on the page is pressed, chosen or typed. All of it is private to the page."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ipa_app.imaging.result_files import read_settings
from ipa_app.messages import Message
from ipa_app.ui.about import unknown_words_note
from ipa_app.ui.adapters import connect_adapters
from ipa_app.ui.controls import AT_ONCE, CHECKED
from ipa_app.ui.examples import Example
from ipa_app.ui.extras import connect_drawing, connect_extras
from ipa_app.ui.model_choice import connect_model_choice
from ipa_app.ui.parts import Parts
from ipa_app.ui.restore import Restorer, connect_restore
from ipa_app.ui.running import Runner
from ipa_app.ui.studio import Studio
from ipa_app.ui.tabs.shared import TaskTab, subheading

# On a phone the results lie far below the buttons, and the lowest 64 pixels under the bar that holds these.
_SHOW_RESULTS = """() => {
    const status = document.querySelector("#status");
    const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
    if (status.getBoundingClientRect().bottom > innerHeight - 64) status.scrollIntoView({ behavior });
}"""


def connect(parts: Parts, *, page: gr.Blocks, studio: Studio, examples: Sequence[Example]) -> None:
    """Connect every part of the page; called inside its Blocks."""
    runner = Runner(studio=studio, results=parts.results, tabs=parts.tabs)
    restorer = Restorer(parts, studio=studio)
    _connect_generate(parts, runner=runner)
    _connect_reload(parts, page=page, runner=runner)
    _connect_prompts(parts, studio=studio)
    connect_adapters(parts, page=page, studio=studio)
    connect_model_choice(parts, studio=studio)
    _connect_scale(parts)
    connect_restore(parts, restorer=restorer)
    connect_extras(parts, runner=runner, restorer=restorer)
    connect_live(parts, runner=runner)
    for tab in parts.tabs:
        if tab.connect:
            tab.connect(parts, runner)
        _add_examples(tab, parts=parts, examples=[example for example in examples if example.tab == tab.task])


def _connect_generate(parts: Parts, *, runner: Runner) -> None:
    for tab in parts.tabs:
        connect_drawing(parts, tab.generate.click, tab=tab, runner=runner)
        tab.stop.click(runner.stop, parts.results.job, None, **AT_ONCE)
        for button in (tab.generate, *tab.extras.values(), *tab.starting):
            button.click(None, js=_SHOW_RESULTS, **AT_ONCE)


def _connect_reload(parts: Parts, *, page: gr.Blocks, runner: Runner) -> None:
    """Go on with a job that was running when the page was loaded anew."""
    results = parts.results
    page.load(runner.resume, [results.running, results.history], runner.outputs, **CHECKED)


def _connect_prompts(parts: Parts, *, studio: Studio) -> None:
    def note(prompt: str, model: str) -> str:
        return unknown_words_note(prompt, entry=studio.entry(model))

    for tab in parts.tabs:
        inputs = [tab.prompt, parts.settings.model]
        tab.prompt.change(note, inputs, tab.unknown, trigger_mode="always_last", **AT_ONCE)


def _connect_scale(parts: Parts) -> None:
    """Move the strength to what suits the tab, unless the visitor has set it."""
    scale, suited = parts.panel.scale, parts.panel.suited_scale
    for tab in parts.tabs:
        tab.tab.select(_follow_tab(tab.default_scale), [scale, suited], [scale, suited], **AT_ONCE)


def _follow_tab(default: float) -> Callable[[float, float], tuple[Any, float]]:
    def follow(scale: float, suited: float) -> tuple[Any, float]:
        return (default if scale == suited else gr.skip()), default

    return follow


def _add_examples(tab: TaskTab, *, parts: Parts, examples: Sequence[Example]) -> None:
    """Show the tab's examples as thumbnails; choosing one fills the form."""
    if not examples:
        return
    panel, settings = parts.panel, parts.settings
    with tab.examples:
        subheading(Message("page.examples_label"))
        shown = gr.Gallery(
            value=[str(example.file) for example in examples],
            label=Message("page.examples_label"),
            show_label=False,
            elem_id=f"{tab.task}-examples",
            columns=5,
            height="auto",
            allow_preview=False,
            buttons=[],
            interactive=False,
        )
    extras = [tab.from_example(example) if tab.from_example else {} for example in examples]
    names = {name for extra in extras for name in extra}
    own = {name: component for name, component in tab.inputs.items() if name in names}

    def fill(event: gr.SelectData) -> list[Any]:
        example = examples[event.index]
        values = [str(example.file), example.adapter, example.scale, example.prompt, example.seed]
        # What an example has nothing for is left as it is.
        return values + [extras[event.index].get(name, gr.skip()) for name in own]

    first, adapter = panel.references.slots[0].image, panel.adapters.choice
    outputs = [first, adapter, panel.scale, tab.prompt, settings.seed, *own.values()]
    shown.select(fill, None, outputs, **AT_ONCE)


Update = dict[Any, Any]

_SCRIPT = Path(__file__).with_name("live.js")


def connect_live(parts: Parts, *, runner: Runner) -> None:
    """Connect the strength's slider.

    Changing it hands a ticket to the tab that is open; the ticket's change is what draws, so that only that tab's
    inputs are sent.
    """
    task = gr.State(parts.tabs[0].task)
    tickets = {tab.task: gr.State(None) for tab in parts.tabs}
    seed = gr.State(-1)
    for tab in parts.tabs:
        tab.tab.select(_constant(tab.task), None, task, **AT_ONCE)
        connect_drawing(parts, tickets[tab.task].change, tab=tab, runner=runner, instead={"seed": seed})

    def redraw(live: bool, scale: Any, task: str, job: str | None, shown: Sequence[str]) -> Any:
        last = seed_to_redraw(shown, scale=scale) if live else None
        if last is None:
            return gr.skip()
        _make_way(runner.studio, job)
        return {tickets[task]: uuid.uuid4().hex, seed: last}

    # A strength out of range goes on to the request, which says so in the app's own words.
    _watch().release(
        redraw,
        [parts.panel.live, parts.panel.scale, task, parts.results.job, parts.results.shown],
        [*tickets.values(), seed],
        preprocess=False,
        trigger_mode="always_last",
        **CHECKED,
    )


def seed_to_redraw(shown: Sequence[str], *, scale: Any) -> int | None:
    """The seed of the first of the pictures shown.

    None where there is none yet, where it has been cleared away, where it already has this strength, and where the
    strength is no number, because the box it is typed in is empty.
    """
    settings = read_settings(shown[0]) if shown else None
    if settings is None or settings.get("scale") == scale or not isinstance(scale, int | float):
        return None
    seed = settings.get("seed")
    return seed if isinstance(seed, int) else None


def _watch() -> gr.HTML:
    """Lay out what nobody sees: its `release` says that somebody has set the strength."""
    return gr.HTML("", js_on_load=_SCRIPT.read_text(encoding="utf-8"), visible="hidden", elem_id="live-watch")


def _make_way(studio: Studio, job: str | None) -> None:
    """Stop what is still being drawn, and wait until its own handler has said so on the page."""
    studio.cancel(job)
    studio.wait_until_over(job)


def _constant(value: str) -> Callable[[], str]:
    return lambda: value
