"""The page's controls, built from the declarations of options, and the settings of event listeners."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from ipa_app.engine.requests import GenerateRequest
from ipa_app.imaging.cropping import fitted_size
from ipa_app.messages import Message, titled
from ipa_app.options import Option, options
from ipa_app.ui.language.markup import said, said_in_toast
from ipa_app.ui.pictures import keep_picture, show_anywhere

if TYPE_CHECKING:
    from ipa_app.models.entry import ModelEntry

Update = dict[Any, Any]
"""What a listener returns: new values or properties, by component."""
PRIVATE: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""For every listener of the page; the public API has listeners of its own."""
AT_ONCE: dict[str, Any] = {"queue": False, **PRIVATE}
"""For listeners that cannot fail: outside the queue an error reaches the page as a bare HTTP 500."""
CHECKED: dict[str, Any] = {"concurrency_limit": None, **PRIVATE}
"""For listeners that may raise gr.Error, whose sentence only arrives through the queue. Nothing waits in Gradio's
queue: requests to draw wait in the engine's."""
IN_TURN: dict[str, Any] = {"trigger_mode": "multiple", **CHECKED}
"""The same for what a page does one of at a time, which its `Turn` ensures. Gradio's own "once" would drop a press
while the end of the previous run, over for the visitor, is still on its way."""
LATEST: dict[str, Any] = {"trigger_mode": "always_last", **CHECKED}
"""For choices, inputs and uploads: of several in quick succession the last one counts, which Gradio would else drop."""
LATEST_AT_ONCE: dict[str, Any] = {"trigger_mode": "always_last", **AT_ONCE}
"""The same for listeners that cannot fail."""
ONE_BY_ONE: dict[str, Any] = {"trigger_mode": "multiple", "concurrency_limit": 1, **PRIVATE}
"""`LATEST` for listeners that use event data, such as which picture was chosen: of events that are held back, Gradio
keeps only the first one's data. So all of them are handled in turn, which takes next to no time."""

KEEP_IN_SIGHT = """
    show(matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth");
    // What comes above it meanwhile may push it out of sight again; whoever scrolls has another wish.
    let [looks, wasBusy] = [8, false];
    const over = new AbortController();
    const { signal } = over;
    const again = setInterval(() => {
        const isBusy = document.querySelector("#status .ipa-busy") !== null;
        if (wasBusy && !isBusy) looks = 8; // the pictures come
        wasBusy = isBusy;
        if (looks) {
            looks -= 1;
            show("auto");
        } else if (!isBusy) over.abort();
    }, 600);
    signal.addEventListener("abort", () => clearInterval(again));
    for (const act of ["wheel", "touchmove", "keydown", "pointerdown"])
        addEventListener(act, () => over.abort(), { signal, passive: true });
}"""
"""The end of a script that has defined `show`: calls it now, and for a while again, to keep the element in view; then
once more for a while when a drawing ends."""

AS_TEXT = "(...values) => JSON.stringify(values)"
"""For values that may name files. Sent as files, one that has been deleted would make Gradio refuse all the others."""

_PICTURE_BOX = Path(__file__).with_name("picture_box.js")
_DROPPED = "(dropped) => dropped"
_EXCHANGED = """(there, exchanged) => {
    // Another picture may have been chosen meanwhile, or none.
    if (!exchanged || there?.path !== exchanged.of) return { __type__: "update" };
    const url = there.url.replace(/file=.*/, () => `file=${exchanged.shown}`);
    return { path: exchanged.shown, url, meta: { _type: "gradio.FileData" } };
}"""

# Side of a mask's canvas in pixels. A larger one takes the browser longer to export, and is scaled down on the page.
_CANVAS_SIDE = 512
_BRUSH = 48


def show_opened(elem_id: str) -> str:
    """Return the script that scrolls an element that a button has opened into view as soon as it appears.

    Args:
        elem_id: the element's id.
    """
    return f"""() => {{
    const show = (behavior) => document.getElementById("{elem_id}")?.scrollIntoView({{ behavior, block: "nearest" }});
    {KEEP_IN_SIGHT}"""


def control(option: Option | str, **properties: Any) -> Any:
    """Lay out the control of an option: a slider, a box, a switch, a choice or a box for a picture.

    Args:
        option: the option, or the name of a request's field.
        properties: of the component, in addition to those that follow from the option, or in place of them.
    """
    declared = options(GenerateRequest)[option] if isinstance(option, str) else option
    common: dict[str, Any] = {"label": declared.label, "elem_id": declared.api.replace("_", "-"), **properties}
    if declared.is_picture:
        return picture_input(**{"height": 150, **common})
    if declared.type is str:
        return gr.Textbox(value=declared.default or None, info=declared.help or None, **common)
    common = {"value": declared.default if declared.initial is None else declared.initial, **common}
    common["info"] = declared.help or None
    if declared.type is bool:
        return gr.Checkbox(**common)
    if declared.choices:
        return gr.Radio(choices=list(zip(declared.shown, declared.choices, strict=True)), **common)
    return _slider(declared, common) if declared.step else _number(declared, common)


def controls(*names: str, **properties: Any) -> dict[str, Any]:
    """Lay out the controls of several fields of a request, and return them by API name."""
    declared = options(GenerateRequest)
    return {declared[name].api: control(name, **properties) for name in names}


def picture_input(
    *, label: str, elem_id: str, height: int = 240, value: Path | None = None, is_kept: bool = False
) -> gr.Image:
    """Return an upload box for one picture, without a visible label; its caption stands above it.

    Args:
        label: the caption.
        elem_id: the id of the box.
        height: in pixels.
        value: the initial picture.
        is_kept: whether the file stays as it was uploaded. Otherwise a format that browsers cannot show is converted.
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
        placeholder=Message("page.reference_placeholder"),
    )
    if not is_kept:
        exchanged = gr.JSON(visible=False)
        done = box.upload(_exchanged, box, exchanged, preprocess=False, **LATEST)
        done.success(None, [box, exchanged], box, js=_EXCHANGED, **AT_ONCE)
    return box


def choose_picture() -> gr.HTML:
    """Lay out the button that chooses a picture for the box above it.

    Its script also has every box keep its picture until there is another.
    """
    button = gr.HTML(
        value="",
        html_template=f'<button type="button" class="ipa-choose">{said(Message("page.reference_choose"))}</button>',
        js_on_load=_PICTURE_BOX.read_text(encoding="utf-8"),
        apply_default_css=False,
        padding=False,
    )
    button.apply(_nothing_to_paste, **CHECKED)
    return button


def _nothing_to_paste() -> None:
    gr.Info(said_in_toast(Message("page.nothing_to_paste")))


def _exchanged(upload: Any) -> dict[str, str] | None:
    """Return the upload's path and a converted file to show instead; None where browsers can show the upload."""
    shown = show_anywhere(upload)
    return {"of": upload["path"], "shown": shown} if isinstance(shown, str) else None


def dropped_into(box: gr.File) -> tuple[Callable[..., Any], gr.JSON]:
    """Return the event of a file being dropped into a box, and the component that holds the dropped file.

    Listeners empty the box. If they read the file from the box itself, one that is dropped meanwhile would be lost.
    """
    taken = gr.JSON(visible=False)
    return box.upload(None, box, taken, js=_DROPPED, **AT_ONCE).then, taken


def style_title(name: str) -> str:
    """Return the title of a style; one that does not ship with the app is named as in its file."""
    return titled(f"style.{name}", name)


def style_choice(entry: ModelEntry, *, elem_id: str) -> gr.Dropdown:
    """Lay out the choice of a prompt style.

    Args:
        entry: the model that is chosen when the page opens.
        elem_id: the id of the choice.
    """
    return gr.Dropdown(
        label=options(GenerateRequest)["style"].label,
        choices=_styles_of(entry),
        value="",
        visible=bool(entry.styles),
        # Gradio's filter only matches the English names, whatever the page's language.
        filterable=False,
        elem_id=elem_id,
        scale=1,
        min_width=130,
    )


def offer_styles(entry: ModelEntry, *, chosen: str) -> dict[str, Any]:
    """Update the choice of styles for a model; the current choice stays if the model has it."""
    value = chosen if chosen in entry.styles else ""
    return gr.update(choices=_styles_of(entry), value=value, visible=bool(entry.styles))


def _styles_of(entry: ModelEntry) -> list[tuple[str, str]]:
    return [(Message("page.style.none"), ""), *((style_title(name), name) for name in entry.styles)]


def mask_editor(label: Message, *, elem_id: str, colour: str, height: int) -> gr.ImageEditor:
    """Return an area to paint a mask in, with one colour and no other tools but an eraser.

    Args:
        label: what is painted.
        elem_id: the id of the area.
        colour: the brush's colour, as "#rrggbb".
        height: in pixels.
    """
    return gr.ImageEditor(
        label=label,
        show_label=False,
        elem_id=elem_id,
        type="pil",
        image_mode="RGBA",
        sources=(),
        transforms=(),
        layers=False,
        brush=gr.Brush(colors=[colour], color_mode="fixed", default_size=_BRUSH),
        eraser=gr.Eraser(default_size=_BRUSH),
        canvas_size=(_CANVAS_SIDE, _CANVAS_SIDE),
        height=height,
        buttons=["fullscreen"],
        interactive=True,
    )


def on_canvas(picture: Image.Image) -> dict[str, Any]:
    """Return the value of such an area: a copy of a picture, at a size that is handy to paint on, and no strokes."""
    copy = picture.convert("RGB").resize(fitted_size(picture.size, (_CANVAS_SIDE, _CANVAS_SIDE)))
    return {"background": keep_picture(copy), "layers": [], "composite": None}


def mask_box(label: Message, *, elem_id: str, height: int) -> tuple[gr.Accordion, gr.Image]:
    """Lay out an upload box for a mask file, in addition to painting, and return its accordion and the box.

    Args:
        label: what the mask means.
        elem_id: the id of the box.
        height: in pixels.
    """
    with gr.Accordion(Message("page.inpaint.mask_accordion"), open=False, elem_id=f"{elem_id}-panel") as fold:
        gr.HTML(said(label, tag="p", css_class="ipa-help"), padding=False, elem_classes="ipa-text")
        return fold, picture_input(label=label, elem_id=elem_id, height=height, is_kept=True)


def _slider(declared: Option, common: dict[str, Any]) -> gr.Slider:
    least = 0 if declared.or_zero else declared.least
    low = least if declared.low is None else declared.low
    # Without Gradio's own reset button.
    return gr.Slider(minimum=low, maximum=declared.most, step=declared.step, buttons=[], **common)


def _number(declared: Option, common: dict[str, Any]) -> gr.Number:
    return gr.Number(precision=0 if declared.type is int else None, **common)
