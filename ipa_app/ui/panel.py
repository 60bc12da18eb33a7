"""The parts that every task shares: the reference pictures on the left, the settings under the tabs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ipa_app.models.catalog import Catalog, ModelEntry
from ipa_app.ui import texts
from ipa_app.ui.about import left_out_note
from ipa_app.ui.adapters import AdapterPanel, adapter_choice, adapter_panel
from ipa_app.ui.examples import DEFAULT_SCALES
from ipa_app.ui.kept import show_anywhere
from ipa_app.ui.listeners import AT_ONCE, CHECKED
from ipa_app.ui.offer import OfferPanel, offer_panel
from ipa_app.ui.sliders import slider

if TYPE_CHECKING:
    from ipa_app.ui.references import References
    from ipa_app.ui.studio import Studio


@dataclass(frozen=True, kw_only=True)
class PicturePanel:
    """The picture prompt: reference pictures, adapters and strength.

    `suited_scale` is the strength that suits the present tab: one that is still at it moves along to the next tab.
    `folds` are the accordions that inputs lie in, by the input's name.
    """

    references: References
    adapters: AdapterPanel
    part: gr.Radio
    scale: gr.Slider
    live: gr.Checkbox
    start: gr.Slider
    end: gr.Slider
    negative_reference: gr.Image
    folds: Mapping[str, gr.Accordion]
    suited_scale: gr.State


@dataclass(frozen=True, kw_only=True)
class SettingsPanel:
    """Settings with good defaults that most visitors never open."""

    count: gr.Slider
    seed: gr.Number
    steps: gr.Slider
    guidance: gr.Slider
    width: gr.Number
    height: gr.Number
    negative_prompt: gr.Textbox
    model: gr.Dropdown
    memory: gr.HTML
    offer: OfferPanel


def picture_input(
    *, label: str, elem_id: str, height: int = 240, value: Path | None = None, is_kept: bool = False
) -> gr.Image:
    """Return an upload box for one picture; what it is stands above it, not on it.

    Args:
        label: what it is.
        elem_id: of the box.
        height: in pixels.
        value: a picture that is in it from the beginning.
        is_kept: the file stays as it was uploaded. Otherwise what browsers do not show is exchanged for what they do.
    """
    box = gr.Image(
        value=None if value is None else str(value),
        label=label,
        show_label=False,
        elem_id=elem_id,
        elem_classes="ipa-picture",
        height=height,
        type="filepath",
        sources=["upload", "clipboard"],
        buttons=["fullscreen"],
        interactive=True,
        placeholder=texts.REFERENCE_PLACEHOLDER,
    )
    if not is_kept:
        box.upload(show_anywhere, box, box, preprocess=False, **CHECKED)
    return box


def picture_panel(*, references: References, adapter: str, entry: ModelEntry, studio: Studio) -> PicturePanel:
    """Lay out the adapters and the strength, under the reference pictures.

    Args:
        references: the pictures.
        adapter: the chosen one when the page opens.
        entry: the model that is chosen then.
        studio: knows the adapters.
    """
    choice = adapter_choice(entry, chosen=adapter)
    part = _part_choice(entry)
    scale = slider(texts.SCALE_LABEL, texts.SCALE_HELP, span=(0, 1.5), step=0.05, value=1.0, elem_id="scale")
    live = gr.Checkbox(label=texts.LIVE_LABEL, info=texts.LIVE_HELP, value=False, elem_id="live")
    with gr.Accordion(texts.WHEN_HEADING, open=False, elem_id="when-panel") as when:
        start, end = share_sliders(help_text=texts.WHEN_HELP, elem_ids=("start", "end"))
    with gr.Accordion(texts.AWAY_HEADING, open=False, elem_id="away-panel") as away:
        gr.HTML(f'<p class="ipa-help">{texts.AWAY_HELP}</p>', padding=False)
        negative = picture_input(label=texts.AWAY_LABEL, elem_id="negative-reference", height=150)
    return PicturePanel(
        references=references,
        adapters=adapter_panel(*choice, studio=studio),
        part=part,
        scale=scale,
        live=live,
        start=start,
        end=end,
        negative_reference=negative,
        folds={"start": when, "end": when, "negative_reference": away},
        suited_scale=gr.State(DEFAULT_SCALES["variation"]),
    )


def _part_choice(entry: ModelEntry) -> gr.Radio:
    return gr.Radio(
        label=texts.PART_LABEL,
        choices=list(texts.PART_CHOICES),
        value="all",
        info=texts.PART_HELP,
        visible=bool(entry.presets),
        elem_id="part",
    )


def offer_parts(entry: ModelEntry) -> dict[str, Any]:
    """Update the choice of what counts for a model; where there is no choice, everything does."""
    return gr.update(visible=True) if entry.presets else gr.update(visible=False, value="all")


def share_sliders(*, help_text: str, elem_ids: tuple[str, str]) -> tuple[gr.Slider, gr.Slider]:
    """Lay out two sliders that say from when to when something counts, in shares of the work."""
    gr.HTML(f'<p class="ipa-help">{help_text}</p>', padding=False)
    labels, values = (texts.WHEN_BEGIN, texts.WHEN_END), (0.0, 1.0)
    begin, end = (
        slider(label, None, span=(0, 1), step=0.05, value=value, elem_id=elem_id)
        for label, value, elem_id in zip(labels, values, elem_ids, strict=True)
    )
    return begin, end


def settings_panel(*, catalog: Catalog, default_model: str) -> SettingsPanel:
    """Lay out count, seed, steps, guidance, size, negative words and model."""
    count = slider(texts.COUNT_LABEL, None, span=(1, 8), step=1, value=4, elem_id="count")
    with gr.Accordion(texts.SETTINGS_HEADING, open=False, elem_id="more-settings"):
        seed = gr.Number(label=texts.SEED_LABEL, info=texts.SEED_HELP, value=-1, precision=0, elem_id="seed")
        random_seed = gr.Button(texts.RANDOM_SEED, size="sm", elem_id="random-seed")
        random_seed.click(lambda: -1, None, seed, **AT_ONCE)
        negative_prompt = gr.Textbox(
            label=texts.NEGATIVE_LABEL, placeholder=texts.NEGATIVE_PLACEHOLDER, elem_id="negative-prompt"
        )
        steps = slider(texts.STEPS_LABEL, texts.STEPS_HELP, span=(0, 100), step=1, value=0, elem_id="steps")
        guidance = slider(
            texts.GUIDANCE_LABEL, texts.GUIDANCE_HELP, span=(0, 20), step=0.5, value=0, elem_id="guidance"
        )
        with gr.Row():
            width = gr.Number(label=texts.WIDTH_LABEL, info=texts.SIZE_HELP, value=0, precision=0, elem_id="width")
            height = gr.Number(label=texts.HEIGHT_LABEL, info=texts.SIZE_HELP, value=0, precision=0, elem_id="height")
        model = gr.Dropdown(
            label=texts.MODEL_LABEL,
            choices=[(entry.title, name) for name, entry in catalog.items()],
            value=default_model,
            elem_id="model",
        )
        if catalog.left_out:
            gr.HTML(left_out_note(catalog.left_out), padding=False, elem_id="models-left-out")
        memory = gr.HTML("", padding=False, elem_id="model-memory")
        offer = offer_panel(chosen=default_model)
    return SettingsPanel(
        count=count,
        seed=seed,
        steps=steps,
        guidance=guidance,
        width=width,
        height=height,
        negative_prompt=negative_prompt,
        model=model,
        memory=memory,
        offer=offer,
    )
