"""The wiring of the page's event handlers. All of them are private to the page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import gradio as gr

from ipa_app.engine.references import words_of_region
from ipa_app.engine.requests import GenerateRequest
from ipa_app.messages import Message
from ipa_app.options import options
from ipa_app.ui.about import unknown_words_note
from ipa_app.ui.adapters import connect_adapters
from ipa_app.ui.amounts import connect_amounts
from ipa_app.ui.blocks import StudioBlocks
from ipa_app.ui.controls import AT_ONCE, CHECKED, LATEST, ONE_BY_ONE, Update
from ipa_app.ui.examples import Example
from ipa_app.ui.extras import connect_drawing, connect_extras
from ipa_app.ui.kept import connect_kept
from ipa_app.ui.library import connect_library
from ipa_app.ui.live import connect_live, tell_changes
from ipa_app.ui.model_choice import connect_model_choice
from ipa_app.ui.parts import Parts
from ipa_app.ui.presentation import AS_PRESENTED, connect_presentation
from ipa_app.ui.reference_sets import connect_sets
from ipa_app.ui.references import Replaced
from ipa_app.ui.regions import connect_regions
from ipa_app.ui.restore import Restorer, connect_restore
from ipa_app.ui.running import Runner
from ipa_app.ui.sharing import connect_sharing
from ipa_app.ui.studio import Studio
from ipa_app.ui.tabs.shared import TaskTab, subheading

# An example is marked as chosen for as long as its picture is the reference.
_UNMARK = """(image, shown, chosen) => {
    const isThere = image && image.path === shown?.[chosen]?.image.path;
    return { __type__: "update", ...(isThere ? {} : { selected_index: null }) };
}"""


def connect(parts: Parts, *, page: StudioBlocks, studio: Studio, examples: Sequence[Example]) -> None:
    """Connect every part of the page; called inside its Blocks."""
    runner = Runner(studio=studio, results=parts.results, tabs=parts.tabs, beside=[parts.live.keep])
    restorer = Restorer(parts, studio=studio, examples=examples)
    _connect_generate(parts, runner=runner)
    _connect_reload(parts, page=page, runner=runner)
    _connect_prompts(parts, studio=studio)
    connect_adapters(parts, page=page, studio=studio)
    connect_model_choice(parts, studio=studio)
    _connect_scale(parts)
    connect_amounts(parts)
    connect_restore(parts, restorer=restorer)
    connect_extras(parts, runner=runner, restorer=restorer)
    connect_regions(parts, studio=studio)
    connect_library(parts, studio=studio)
    tell_changes(parts)
    connect_kept(parts, page=page)
    connect_live(parts, page=page, runner=runner)
    connect_presentation(parts, page=page, examples=examples)
    connect_sharing(parts, restorer=restorer)
    connect_sets(parts, files=studio.sets)
    for tab in parts.tabs:
        if tab.connect:
            tab.connect(parts, runner)
        _add_examples(tab, parts=parts, examples=[example for example in examples if example.tab == tab.task])


def _connect_generate(parts: Parts, *, runner: Runner) -> None:
    runner.connect_presses()
    for tab in parts.tabs:
        connect_drawing(parts, tab.generate.click, tab=tab, runner=runner)
        tab.stop.click(runner.stop, parts.results.turn, None, **AT_ONCE)


def _connect_reload(parts: Parts, *, page: gr.Blocks, runner: Runner) -> None:
    """Connect resuming a job that was running when the page was reloaded."""
    results = parts.results
    inputs = [results.running, results.history, parts.presentation.is_on, results.turn]
    page.load(runner.resume, inputs, runner.outputs, js=AS_PRESENTED, preprocess=False, **CHECKED)


def _connect_prompts(parts: Parts, *, studio: Studio) -> None:
    """Connect the notes on unknown words: of a prompt while it is typed, and of all when the model changes."""
    prompt = options(GenerateRequest)["prompt"].called
    boxes = [(tab.prompt, tab.unknown, prompt) for tab in parts.tabs]
    slots = enumerate(parts.panel.references.slots, start=1)
    boxes += [(slot.region.words, slot.region.unknown, words_of_region(number)) for number, slot in slots]
    names = [called for *_, called in boxes]

    def note(model: str, prompt: str | None, *, called: Message) -> str:
        return unknown_words_note(prompt, entry=studio.entry(model), called=called)

    def note_all(model: str, *prompts: str | None) -> list[str]:
        return [note(model, prompt, called=called) for prompt, called in zip(prompts, names, strict=True)]

    model, latest = parts.settings.model, {"preprocess": False, "trigger_mode": "always_last", **AT_ONCE}
    for box, shown, called in boxes:
        box.change(partial(note, called=called), [model, box], shown, **latest)
    model.change(note_all, [model, *(box for box, *_ in boxes)], [shown for _, shown, _ in boxes], **latest)


def _connect_scale(parts: Parts) -> None:
    """Set the strength to the tab's default, unless the visitor has set it; in the browser, before they can."""
    both = [parts.panel.scale, parts.panel.suited_scale]
    for tab in parts.tabs:
        suits = tab.default_scale
        follow = f"(scale, suited) => [scale === suited ? {suits} : scale, {suits}]"
        tab.tab.select(None, both, both, js=follow, **AT_ONCE)


def _add_examples(tab: TaskTab, *, parts: Parts, examples: Sequence[Example]) -> None:
    """Show the tab's examples as thumbnails; choosing one fills the form."""
    if not examples:
        return
    with tab.examples:
        subheading(Message("page.examples_label"))
        shown = gr.Gallery(
            value=[(str(example.file), example.title) for example in examples],
            label=Message("page.examples_label"),
            show_label=False,
            elem_id=f"{tab.task}-examples",
            columns=5,
            height="auto",
            allow_preview=False,
            buttons=[],
            interactive=False,
        )
    references, adapter = parts.panel.references, parts.panel.adapters.choice
    scale, seed = parts.panel.scale, parts.settings.seed

    def fill(*, chosen: int, over: Replaced) -> Update:
        example = examples[chosen]
        own = tab.from_example(example) if tab.from_example else {}
        values = {adapter: example.adapter, scale: example.scale, tab.prompt: example.prompt, seed: example.seed}
        # Inputs that an example has no value for stay.
        values |= {tab.inputs[name]: value for name, value in own.items()}
        marked = {shown: gr.update(selected_index=chosen)}
        return {**values, **marked, **references.put_first(example.file, over=over)}

    chosen = gr.Number(visible=False)
    outputs = [adapter, scale, tab.prompt, seed, shown, *tab.inputs.values(), *references.outputs]
    # Only the event itself says which one it was, not what follows it.
    pressed = shown.select(_index, None, chosen, **ONE_BY_ONE)
    references.let_fill(pressed.success, fill, {"chosen": chosen}, outputs=outputs, **LATEST)
    first = references.slots[0].image
    first.change(None, [first, shown, chosen], shown, js=_UNMARK, **AT_ONCE)


def _index(event: gr.SelectData) -> int:
    return event.index
