"""The panels that all tasks share: the picture prompt on the left, the settings and the restoring under the tabs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.tasks import TASKS
from ipa_app.messages import Message
from ipa_app.models.catalog import Catalog, ModelEntry
from ipa_app.options import options
from ipa_app.ui.about import left_out_note
from ipa_app.ui.adapters import AdapterPanel, adapter_choice, adapter_panel
from ipa_app.ui.amounts import amount_choice
from ipa_app.ui.controls import AT_ONCE, control, controls
from ipa_app.ui.language.markup import said
from ipa_app.ui.offer import OfferPanel, offer_panel
from ipa_app.ui.references import References
from ipa_app.ui.studio import Studio
from ipa_app.ui.tabs import OPENING


@dataclass(frozen=True, kw_only=True)
class PicturePanel:
    """The picture prompt: reference pictures, adapters and strength.

    `inputs` holds the controls other than the pictures by API name, including `part` and `scale`; `amount` sets three
    of them at once. `folds` holds the accordions around inputs, by the input's name. `suited_scale` is the default
    strength of the current tab: if the strength still has this value, it changes to the next tab's default.
    """

    references: References
    adapters: AdapterPanel
    part: gr.Radio
    amount: gr.Radio
    scale: gr.Slider
    inputs: Mapping[str, Any]
    folds: Mapping[str, gr.Accordion]
    suited_scale: gr.Number


@dataclass(frozen=True, kw_only=True)
class SettingsPanel:
    """Settings with good defaults, which most visitors never open.

    `inputs` holds all of them by API name, including `speed`, `seed` and `model`.
    """

    inputs: Mapping[str, Any]
    speed: gr.Radio
    seed: gr.Number
    model: gr.Dropdown
    memory: gr.HTML
    offer: OfferPanel


def picture_panel(*, references: References, adapter: str, entry: ModelEntry, studio: Studio) -> PicturePanel:
    """Lay out the adapters and the strength, under the reference pictures.

    Args:
        references: the reference pictures.
        adapter: the adapter that is chosen when the page opens.
        entry: the model that is chosen when the page opens.
        studio: knows the adapters.
    """
    choice = adapter_choice(entry, chosen=adapter)
    part = control("part", visible=bool(entry.presets))
    amount = amount_choice()
    scale = control("scale")
    with gr.Accordion(Message("page.when.heading"), open=False, elem_id="when-panel") as when:
        gr.HTML(said(Message("page.when.help"), tag="p", css_class="ipa-help"), padding=False)
        shares = controls("start", "end")
    with gr.Accordion(Message("page.away_heading"), open=False, elem_id="away-panel") as away:
        gr.HTML(said(Message("page.away_help"), tag="p", css_class="ipa-help"), padding=False)
        negative = controls("negative_reference")
    panel = adapter_panel(*choice, studio=studio)
    return PicturePanel(
        references=references,
        adapters=panel,
        part=part,
        amount=amount,
        scale=scale,
        inputs={"adapter": panel.choice, "part": part, "scale": scale, **shares, **negative},
        folds={**dict.fromkeys(shares, when), **dict.fromkeys(negative, away)},
        suited_scale=gr.Number(TASKS[OPENING].default_of(options(GenerateRequest)["scale"]), visible=False),
    )


def offer_parts(entry: ModelEntry) -> dict[str, Any]:
    """Update the choice of the part of the picture that counts, for a model; without a choice, everything counts."""
    return gr.update(visible=True) if entry.presets else gr.update(visible=False, value="all")


def offer_speeds(entry: ModelEntry) -> dict[str, Any]:
    """Update the choice of speeds for a model; without a choice, it is "best"."""
    return gr.update(visible=True) if entry.fast else gr.update(visible=False, value="best")


def settings_panel(*, catalog: Catalog, entry: ModelEntry, elsewhere: Collection[str]) -> SettingsPanel:
    """Lay out count, speed, seed, steps, guidance, size, negative prompt, options without another place, and the model.

    Args:
        catalog: all models.
        entry: the model that is chosen when the page opens.
        elsewhere: the options whose controls are elsewhere on the page.
    """
    inputs = controls("count")
    speed = inputs["speed"] = control("speed", visible=entry.fast is not None)
    with gr.Accordion(Message("page.settings_heading"), open=False, elem_id="more-settings"):
        seed = control("seed")
        random_seed = gr.Button(Message("page.random_seed"), size="sm", elem_id="random-seed")
        random_seed.click(lambda: -1, None, seed, **AT_ONCE)
        negative_prompt = control("negative_prompt", placeholder=Message("page.negative_placeholder"))
        inputs |= {"seed": seed, "negative_prompt": negative_prompt, **controls("steps", "guidance_scale")}
        with gr.Row():
            inputs |= controls("width", "height")
        inputs |= controls(*_without_place({*elsewhere, *inputs, "model"}))
        inputs["model"] = gr.Dropdown(
            label=options(GenerateRequest)["model"].label,
            choices=[(each.title, name) for name, each in catalog.items()],
            value=entry.name,
            elem_id="model",
        )
        if catalog.left_out:
            gr.HTML(left_out_note(catalog.left_out), padding=False, elem_id="models-left-out")
        memory = gr.HTML("", padding=False, elem_id="model-memory")
        offer = offer_panel(chosen=entry.name)
    return SettingsPanel(inputs=inputs, speed=speed, seed=seed, model=inputs["model"], memory=memory, offer=offer)


def _without_place(placed: Collection[str]) -> list[str]:
    """Return the fields of a request whose options have a control, but no place of their own on the page."""
    declared = options(GenerateRequest).items()
    return [name for name, option in declared if option.label and option.api not in placed]


@dataclass(frozen=True, kw_only=True)
class RestorePanel:
    """The drop box for a result's file, and the note on the outcome."""

    file: gr.File
    note: gr.HTML


def restore_panel() -> RestorePanel:
    """Lay out the accordion."""
    with gr.Accordion(Message("page.restore.heading"), open=False, elem_id="restore-panel"):
        gr.HTML(said(Message("page.restore.help"), tag="p", css_class="ipa-help"), padding=False)
        file = gr.File(
            label=Message("page.restore.file"),
            show_label=False,
            file_types=[".png", ".jpg", ".jpeg", ".webp", ".json"],
            height=110,
            elem_id="restore-file",
        )
        note = gr.HTML("", padding=False, elem_id="restore-note")
    return RestorePanel(file=file, note=note)
