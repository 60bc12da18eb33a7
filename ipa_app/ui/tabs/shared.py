"""What the tabs have in common: the prompt and the buttons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import gradio as gr

from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.tasks import TASKS
from ipa_app.messages import Message
from ipa_app.options import options
from ipa_app.ui.controls import Update, style_choice
from ipa_app.ui.language.markup import said

if TYPE_CHECKING:
    from PIL import Image

    from ipa_app.imaging.opening import Opened
    from ipa_app.models.entry import ModelEntry
    from ipa_app.ui.examples import Example
    from ipa_app.ui.parts import Parts
    from ipa_app.ui.running import Runner
    from ipa_app.ui.studio import Studio


Keeping = Mapping[str, Callable[[Any], str | None]]
Fields = tuple[dict[str, Any], list[Message]]


@dataclass(frozen=True, kw_only=True)
class Tab:
    """The description of a tab, before it is laid out.

    Attributes:
        lay_out: lays out the tab, given the model that is chosen when the page opens.
        about: what the endpoint of its task does, for programmers, in English only.
        first: the endpoint's first parameters after the required ones, if they differ from the usual order.
        beside: the names of its inputs that are not options of a request.
        opens: the names of the picture options that `read` opens.
        read: turns these, and the inputs in `beside`, into fields of a request and notes on how they were understood.
            Its arguments are all that was sent, the values of the request's other fields, and its other pictures,
            opened.
    """

    lay_out: Callable[[ModelEntry], TaskTab]
    about: str
    first: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    opens: tuple[str, ...] = ()
    read: Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Opened]], Fields] | None = None


@dataclass(frozen=True, kw_only=True)
class TaskTab:
    """One tab.

    Attributes:
        task: the engine's name for the task.
        tab: the tab itself.
        prompt: its prompt box.
        style: the choice of a style for the prompt.
        unknown: the note on words that the model does not know.
        generate: its main button.
        stop: the button that stops its job.
        examples: the column that the page fills with the tab's examples.
        inputs: further inputs by the request's field.
        folds: the accordions around inputs, by the input's name; opened if a value in them is not the default.
        extras: further buttons that draw, by the name of their series.
        compared: the choice of adapters for the series that compares them.
        told_by: the event for an input's change, by the input's name, if it is not the input's own.
        starting: the tab's own buttons that start something that Stop stops.
        connect: connects what only this tab has.
        from_example: returns the values of its own inputs for an example, by the input's name; others stay.
        from_request: returns further updates of its own components when a request is restored.
        shape_inputs: those of its inputs that determine the shape of its pictures, besides width and height.
        shape_of: returns a picture of that shape to paint on, mode "RGB", from what was sent; None if there is none.
    """

    task: str
    tab: gr.Tab
    prompt: gr.Textbox
    style: gr.Dropdown
    unknown: gr.HTML
    generate: gr.Button
    stop: gr.Button
    examples: gr.Column
    inputs: dict[str, Any] = field(default_factory=dict)
    folds: dict[str, gr.Accordion] = field(default_factory=dict)
    extras: dict[str, gr.Button] = field(default_factory=dict)
    compared: gr.CheckboxGroup | None = None
    told_by: Mapping[str, Any] = field(default_factory=dict)
    starting: tuple[gr.Button, ...] = ()
    connect: Callable[[Parts, Runner], None] | None = None
    from_example: Callable[[Example], dict[str, Any]] | None = None
    from_request: Callable[[GenerateRequest], Update] | None = None
    shape_inputs: Mapping[str, Any] = field(default_factory=dict)
    shape_of: Callable[[Mapping[str, Any], Studio], Image.Image | None] | None = None

    @property
    def default_scale(self) -> float:
        """The default strength of the reference for this task."""
        return TASKS[self.task].default_of(options(GenerateRequest)["scale"])


def help_text(*texts: Message) -> None:
    """Lay out a line or two of help."""
    gr.HTML(said(*texts, tag="p", css_class="ipa-help"), padding=False, elem_classes="ipa-text")


def subheading(text: Message) -> None:
    """Lay out a heading for what follows."""
    gr.HTML(said(text, tag="h3"), padding=False, elem_classes="ipa-subheading")


def finish_tab(
    *,
    task: str,
    tab: gr.Tab,
    entry: ModelEntry,
    label: str,
    placeholder: str,
    extras: Mapping[str, Message] = MappingProxyType({}),
    compared: Callable[[], gr.CheckboxGroup] | None = None,
) -> TaskTab:
    """Lay out the prompt, the buttons and the column for examples, the same way in every tab.

    Args:
        task: the engine's name for the task.
        tab: the tab itself.
        entry: the model that is chosen when the page opens.
        label: the prompt's label.
        placeholder: an example of a prompt.
        extras: the texts of further buttons, by the name of their series.
        compared: lays out the choice of the adapters to compare.
    """
    prompt, style = _prompt_and_style(task, entry, label=label, placeholder=placeholder)
    help_text(Message("page.prompt_help"))
    unknown = gr.HTML("", elem_id=f"{task}-unknown", padding=False)
    with gr.Row(elem_classes="ipa-actions"):
        generate = gr.Button(
            Message("page.generate"), variant="primary", size="lg", scale=3, elem_id=f"{task}-generate"
        )
        stop = gr.Button(
            Message("page.stop"), size="lg", scale=1, min_width=90, interactive=False, elem_id=f"{task}-stop"
        )
    further = _further_buttons(task, extras) if extras else {}
    choice = compared() if compared else None
    examples = gr.Column(elem_classes="ipa-examples")
    return TaskTab(
        task=task,
        tab=tab,
        prompt=prompt,
        style=style,
        unknown=unknown,
        generate=generate,
        stop=stop,
        examples=examples,
        extras=further,
        compared=choice,
    )


def _prompt_and_style(task: str, entry: ModelEntry, *, label: str, placeholder: str) -> tuple[gr.Textbox, gr.Dropdown]:
    with gr.Row():
        prompt = gr.Textbox(
            label=label,
            placeholder=placeholder,
            lines=2,
            max_lines=4,
            elem_id=f"{task}-prompt",
            submit_btn=False,
            scale=3,
            min_width=200,
        )
        style = style_choice(entry, elem_id=f"{task}-style")
    return prompt, style


def _further_buttons(task: str, extras: Mapping[str, Message]) -> dict[str, gr.Button]:
    with gr.Row(elem_classes="ipa-extras"):
        return {
            name: gr.Button(text, size="sm", min_width=140, elem_id=f"{task}-{name}") for name, text in extras.items()
        }
