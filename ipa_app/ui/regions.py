"""The region in which a reference counts: its own words, and a painting area with the new picture's shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from ipa_app.engine.references import MOST_REFERENCES, Reference, RegionName, slot_name
from ipa_app.engine.regions import REGION_COLOURS, show_regions
from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.options import options
from ipa_app.ui.controls import (
    AT_ONCE,
    CHECKED,
    LATEST,
    LATEST_AT_ONCE,
    Update,
    control,
    mask_box,
    mask_editor,
    on_canvas,
    show_opened,
)
from ipa_app.ui.failures import explained
from ipa_app.ui.form import checked_values, read_references, reference_name
from ipa_app.ui.language.markup import said, said_in_toast
from ipa_app.ui.pictures import inline_picture, keep_picture
from ipa_app.ui.tabs import OPENING
from ipa_app.ui.uploads import painted_files

if TYPE_CHECKING:
    from ipa_app.ui.parts import Parts
    from ipa_app.ui.references import Slot
    from ipa_app.ui.studio import Studio
    from ipa_app.ui.tabs.shared import TaskTab


_WHITE = (255, 255, 255)


@dataclass(frozen=True, kw_only=True)
class RegionPanel:
    """The region of one reference, painted or as a file, its words, and the view of all regions.

    Attributes:
        words_box: contains the next two; visible if the reference has a region.
        words: the region's own words.
        unknown: the note on words that the model does not know.
        box: contains the others; visible if the region is painted.
        editor: the painting area.
        softness: the softness of the edge.
        file: a mask file, in addition to what is painted.
        fold: the accordion around the file.
        show: the button that shows all regions.
        shown: all regions, each in its colour.
        colour: the colour of this region.
    """

    words_box: gr.Column
    words: gr.Textbox
    unknown: gr.HTML
    box: gr.Column
    editor: gr.ImageEditor
    softness: gr.Slider
    file: gr.Image
    fold: gr.Accordion
    show: gr.Button
    shown: gr.HTML
    colour: tuple[int, int, int]

    @property
    def parts(self) -> list[Any]:
        """All components that `fill_region` may name."""
        return [self.words_box, self.unknown, self.box, self.editor, self.file, self.fold, self.shown]


def region_panel(number: int) -> RegionPanel:
    """Lay out the panel of a reference."""
    with gr.Column(visible=False, elem_id=f"region-words-{number}") as words_box:
        words = control(options(Reference)["region_prompt"], max_lines=4, elem_id=f"region-prompt-{number}")
        unknown = gr.HTML("", padding=False, elem_id=f"region-unknown-{number}")
    with gr.Column(visible=False, elem_id=f"region-paint-{number}", elem_classes="ipa-region") as box:
        gr.HTML(said(Message("page.region.help"), tag="p", css_class="ipa-help"), padding=False)
        editor = mask_editor(
            Message("page.region.editor_label"),
            elem_id=f"region-editor-{number}",
            colour=f"#{bytes(REGION_COLOURS[number - 1]).hex()}",
            height=380,
        )
        softness = control(options(Reference)["region_softness"], elem_id=f"region-softness-{number}")
        fold, file = mask_box(Message("page.region.mask_label"), elem_id=f"region-mask-{number}", height=140)
        show = gr.Button(Message("page.region.show"), size="sm", elem_id=f"region-show-{number}")
        shown = gr.HTML("", padding=False, elem_id=f"region-shown-{number}")
    return RegionPanel(
        words_box=words_box,
        words=words,
        unknown=unknown,
        box=box,
        editor=editor,
        softness=softness,
        file=file,
        fold=fold,
        show=show,
        shown=shown,
        colour=REGION_COLOURS[number - 1],
    )


def fill_region(panel: RegionPanel, mask: Image.Image | None, *, region: RegionName) -> Update:
    """Return the updates that show a restored region; its mask goes into the file, which is exact.

    The mask stays there, hidden, while another region than "painted" is chosen.
    """
    updates: Update = {panel.words_box: gr.update(visible=region != "everywhere"), panel.unknown: ""}
    if mask is None:
        return updates | {panel.box: gr.update(visible=False), panel.editor: None, panel.file: None, panel.shown: ""}
    ground = Image.new("RGB", mask.size, _WHITE)
    return updates | {
        panel.box: gr.update(visible=region == "painted"),
        panel.editor: on_canvas(ground),
        panel.file: keep_picture(mask),
        panel.fold: gr.update(open=True),
        panel.shown: "",
    }


def connect_regions(parts: Parts, *, studio: Studio) -> None:
    """Connect the painting areas, which take the shape of the new picture, and the buttons that show all regions."""
    references = parts.panel.references
    task = gr.State(OPENING)
    for tab in parts.tabs:
        tab.tab.select(_constant(tab.task), None, task, **LATEST_AT_ONCE)
    shape = {"task": task, **{name: parts.settings.inputs[name] for name in ("width", "height", "model")}}
    shape |= {name: part for tab in parts.tabs for name, part in tab.shape_inputs.items()}
    regions = Regions({tab.task: tab for tab in parts.tabs}, studio=studio)
    for slot in references.slots:
        _connect_canvas(slot, shape=shape, regions=regions)
        inputs = {**references.inputs, **shape}
        show = slot.region.show.click
        shown = show(regions.show, inputs_kwargs=inputs, outputs=slot.region.shown, preprocess=False, **CHECKED)
        shown.success(None, js=show_opened(str(slot.region.shown.elem_id)), **AT_ONCE)


def _constant(value: str) -> Callable[[], str]:
    return lambda: value


def _connect_canvas(slot: Slot, *, shape: Mapping[str, Any], regions: Regions) -> None:
    """Show the words and the painting area when the chosen region needs them; their contents stay while hidden."""
    panel = slot.region
    inputs = {"region": slot.controls["region"], "painted": panel.editor, **shape}

    def choose(region: str, painted: Any, task: str, **sent: Any) -> list[Any]:
        with explained():
            if region != "painted":
                # An editor that was shown before is hidden but stays mounted, with its contents. One that never was is
                # skipped: Gradio would show it.
                return [_shown(region != "everywhere"), _shown(False) if painted else gr.skip(), gr.skip()]
            is_new = painted_files(painted, field="region_mask") is None
            return [_shown(True), _shown(True), on_canvas(regions.canvas(task, sent)) if is_new else gr.skip()]

    def clear(task: str, **sent: Any) -> Any:
        with explained():
            return on_canvas(regions.canvas(task, sent))

    chosen, outputs = slot.controls["region"].input, [panel.words_box, panel.box, panel.editor]
    chosen(choose, inputs_kwargs=inputs, outputs=outputs, preprocess=False, **LATEST)
    panel.editor.clear(clear, inputs_kwargs=dict(shape), outputs=panel.editor, preprocess=False, **CHECKED)


class Regions:
    """The backgrounds for painting regions, and the view of them."""

    def __init__(self, tabs: Mapping[str, TaskTab], *, studio: Studio) -> None:
        self._tabs = tabs
        self._studio = studio

    def ground(self, task: str, sent: Mapping[str, Any]) -> Image.Image:
        """Return a background with the shape of the next picture: white, or the picture that the open tab edits.

        Raises:
            UserError: the size is not allowed.
        """
        shape_of = self._tabs[task].shape_of
        if shape_of is not None and (own := shape_of(sent, self._studio)) is not None:
            return own
        values = checked_values(task, sent, names=("width", "height"))
        return self._white(sent, width=values["width"], height=values["height"])

    def canvas(self, task: str, sent: Mapping[str, Any]) -> Image.Image:
        """Return the background to paint on: the `ground`, or the model's default shape if the size is not allowed."""
        try:
            return self.ground(task, sent)
        except UserError as error:
            gr.Warning(said_in_toast(error.message))
            return self._white(sent)

    def _white(self, sent: Mapping[str, Any], *, width: int = 0, height: int = 0) -> Image.Image:
        entry = self._studio.entry(sent.get("model") or options(GenerateRequest)["model"].default)
        return Image.new("RGB", (width or entry.width, height or entry.height), _WHITE)

    def show(self, task: str, **sent: Any) -> str:
        """Return the HTML that shows the regions of all references, each in its own colour, with a legend."""
        with explained():
            ground = self.ground(task, sent)
            references, _ = read_references(sent, task=task)
            if not references:
                raise UserError("request.no_reference")
        numbers = [number for number in range(1, MOST_REFERENCES + 1) if sent.get(slot_name("reference", number))]
        colours = [REGION_COLOURS[number - 1] for number in numbers]
        label = Message("page.region.shown")
        shown = inline_picture(show_regions(references, ground, colours=colours), alt=label, css_class="ipa-regions")
        names = "".join(map(_named, numbers, colours, references))
        return f'{said(label, tag="p", css_class="ipa-help")}{shown}<ul class="ipa-region-names">{names}</ul>'


def _named(number: int, colour: tuple[int, int, int], reference: Reference) -> str:
    name = reference_name(number)
    if reference.has_words:
        name = Message("page.region.named", reference=name, words=reference.region_prompt)
    return f'<li><i style="background: rgb{colour}"></i>{said(name)}</li>'


def _shown(is_visible: bool) -> dict[str, Any]:
    """Show a component, or hide it but keep it mounted, with its contents."""
    return gr.update(visible=True if is_visible else "hidden")
