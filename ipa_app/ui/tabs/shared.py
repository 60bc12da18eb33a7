"""What the four tabs have in common: words and the buttons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import gradio as gr

from ipa_app.engine.requests import GenerateRequest
from ipa_app.messages import Message
from ipa_app.options import options
from ipa_app.ui.language.markup import said


@dataclass(frozen=True, kw_only=True)
class MaskView:
    """The button that shows the mask as it will be used, and where.

    `box` holds all of it: the notes, and `understood` with the picture where the mask could be understood.
    """

    show: gr.Button
    box: gr.Column
    notes: gr.HTML
    understood: gr.Column
    picture: gr.Image


@dataclass(frozen=True, kw_only=True)
class PoseFinder:
    """The button that finds the pose in the picture, and where that goes.

    `options` are the inputs that say how people are looked for, by the request's field.
    """

    find: gr.Button
    options: dict[str, Any]
    picture: gr.Image
    skeleton: gr.HTML


@dataclass(frozen=True, kw_only=True)
class TaskTab:
    """One tab.

    Attributes:
        task: the engine's name for it.
        tab: the tab itself.
        prompt: its box for words.
        unknown: where words that the model does not know are named.
        generate: its main button.
        stop: the button that stops its job.
        examples: slot that the page fills with the tab's examples.
        inputs: further inputs by the request's field.
        folds: the accordion that an input lies in, by the input's name; opened where one in it is not as usual.
        extras: further buttons that draw something, by the name of their series.
        compared: which adapters one of these compares.
        mask_view: where the mask can be looked at as it will be used.
        pose_finder: where a pose can be found in a picture.
    """

    task: str
    tab: gr.Tab
    prompt: gr.Textbox
    unknown: gr.HTML
    generate: gr.Button
    stop: gr.Button
    examples: gr.Column
    inputs: dict[str, Any] = field(default_factory=dict)
    folds: dict[str, gr.Accordion] = field(default_factory=dict)
    extras: dict[str, gr.Button] = field(default_factory=dict)
    compared: gr.CheckboxGroup | None = None
    mask_view: MaskView | None = None
    pose_finder: PoseFinder | None = None

    @property
    def default_scale(self) -> float:
        """The strength of the picture that suits this task."""
        return options(GenerateRequest)["scale"].default_for(self.task)


def help_text(*texts: Message) -> None:
    """Say in a line or two what the tab does."""
    gr.HTML(said(*texts, tag="p", css_class="ipa-help"), padding=False, elem_classes="ipa-text")


def subheading(text: Message) -> None:
    """Name what follows."""
    gr.HTML(said(text, tag="h3"), padding=False, elem_classes="ipa-subheading")


def finish_tab(
    *,
    task: str,
    tab: gr.Tab,
    label: str,
    inputs: dict[str, Any] | None = None,
    folds: dict[str, gr.Accordion] | None = None,
    extras: Mapping[str, Message] = MappingProxyType({}),
    compared: Callable[[], gr.CheckboxGroup] | None = None,
    mask_view: MaskView | None = None,
    pose_finder: PoseFinder | None = None,
) -> TaskTab:
    """Lay out the words, the buttons and room for examples, the same way in every tab.

    Args:
        task: the engine's name for it.
        tab: the tab itself.
        label: of the words.
        inputs: as in `TaskTab`.
        folds: as in `TaskTab`.
        extras: what the further buttons say, by the name of their series.
        compared: lays out the choice of what they compare.
        mask_view: as in `TaskTab`.
        pose_finder: as in `TaskTab`.
    """
    prompt = gr.Textbox(
        label=label,
        placeholder=Message(f"page.prompt_examples.{task}"),
        lines=2,
        max_lines=4,
        elem_id=f"{task}-prompt",
        submit_btn=False,
    )
    unknown = gr.HTML("", elem_id=f"{task}-unknown", padding=False)
    with gr.Row(elem_classes="ipa-actions"):
        generate = gr.Button(
            Message("page.generate"), variant="primary", size="lg", scale=3, elem_id=f"{task}-generate"
        )
        stop = gr.Button(
            Message("page.stop"), size="lg", scale=1, min_width=90, interactive=False, elem_id=f"{task}-stop"
        )
    further = {}
    if extras:
        with gr.Row(elem_classes="ipa-extras"):
            further = {
                name: gr.Button(text, size="sm", min_width=140, elem_id=f"{task}-{name}")
                for name, text in extras.items()
            }
    choice = compared() if compared else None
    examples = gr.Column(elem_classes="ipa-examples")
    return TaskTab(
        task=task,
        tab=tab,
        prompt=prompt,
        unknown=unknown,
        generate=generate,
        stop=stop,
        examples=examples,
        inputs=inputs or {},
        folds=folds or {},
        extras=further,
        compared=choice,
        mask_view=mask_view,
        pose_finder=pose_finder,
    )
