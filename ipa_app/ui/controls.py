"""The page's controls, of each option the one that suits its type as it declares it, and how their listeners run."""

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
from ipa_app.ui.language.markup import said
from ipa_app.ui.pictures import keep_picture, show_anywhere

if TYPE_CHECKING:
    from ipa_app.models.entry import ModelEntry

Update = dict[Any, Any]
"""What a listener answers: new values or properties, by component."""
PRIVATE: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""What every listener of the page has; the public API has its own."""
AT_ONCE: dict[str, Any] = {"queue": False, **PRIVATE}
"""For what cannot fail: without the queue an error reaches the page as a bare HTTP 500."""
CHECKED: dict[str, Any] = {"concurrency_limit": None, **PRIVATE}
"""For what may raise gr.Error, whose sentence only comes through the queue. Nobody waits there: the engine has the
queue of what is drawn."""
IN_TURN: dict[str, Any] = {"trigger_mode": "multiple", **CHECKED}
"""The same for what the page has one of at a time, to which the page's turn sees: of one that is over for the visitor
the end may be on its way still, and until it is there Gradio drops what is pressed."""
LATEST: dict[str, Any] = {"trigger_mode": "always_last", **CHECKED}
"""For what is chosen, entered or brought: of several quick acts the last one counts. Gradio would drop it otherwise."""
LATEST_AT_ONCE: dict[str, Any] = {"trigger_mode": "always_last", **AT_ONCE}
"""The same for what cannot fail."""
ONE_BY_ONE: dict[str, Any] = {"trigger_mode": "multiple", "concurrency_limit": 1, **PRIVATE}
"""`LATEST` for what an event tells beside the inputs, such as which picture was chosen: of those that came meanwhile
Gradio has only what the first one told. They are answered in turn, each of them in no time."""

KEEP_IN_SIGHT = """
    show(matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth");
    // What comes above it meanwhile may push it out of sight again; whoever scrolls has another wish.
    let looks = 8;
    const over = new AbortController();
    const { signal } = over;
    const again = setInterval(() => { if (looks--) show("auto"); else over.abort(); }, 600);
    signal.addEventListener("abort", () => clearInterval(again));
    for (const act of ["wheel", "touchmove", "keydown", "pointerdown"])
        addEventListener(act, () => over.abort(), { signal, passive: true });
}"""
"""The end of a script that has said what to `show` and how, which stays in sight for a while."""

AS_TEXT = "(...values) => JSON.stringify(values)"
"""For values that may name files. As files, one that is gone by now would be refused, and with it all the others."""

_DROPPED = "(dropped) => dropped"
_EXCHANGED = """(there, exchanged) => {
    // Another picture may have been chosen meanwhile, or none.
    if (!exchanged || there?.path !== exchanged.of) return { __type__: "update" };
    const url = there.url.replace(/file=.*/, () => `file=${exchanged.shown}`);
    return { path: exchanged.shown, url, meta: { _type: "gradio.FileData" } };
}"""

# Of a mask's canvas, in pixels. A larger one takes a browser longer to gather, and is shown smaller than it is.
_CANVAS_SIDE = 512
_BRUSH = 48


def show_opened(elem_id: str) -> str:
    """Return the script that brings into sight what a press has opened, as soon as it is there.

    Args:
        elem_id: of it, in the page.
    """
    return f"""() => {{
    const show = (behavior) => document.getElementById("{elem_id}")?.scrollIntoView({{ behavior, block: "nearest" }});
    {KEEP_IN_SIGHT}"""


def control(option: Option | str, **properties: Any) -> Any:
    """Lay out the control of an option: a slider, a box, a switch, a choice or a box for a picture.

    Args:
        option: itself, or the name of a request's field.
        properties: of the component, beside those that follow from the option or in place of them.
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
    """Lay out the controls of several fields of a request, and return them by what programs know the options by."""
    declared = options(GenerateRequest)
    return {declared[name].api: control(name, **properties) for name in names}


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
        placeholder=Message("page.reference_placeholder"),
    )
    if not is_kept:
        exchanged = gr.JSON(visible=False)
        done = box.upload(_exchanged, box, exchanged, preprocess=False, **LATEST)
        done.success(None, [box, exchanged], box, js=_EXCHANGED, **AT_ONCE)
    return box


def _exchanged(upload: Any) -> dict[str, str] | None:
    """Return the file that a browser shows in an upload's place, and of which it is; None where it shows the upload."""
    shown = show_anywhere(upload)
    return {"of": upload["path"], "shown": shown} if isinstance(shown, str) else None


def dropped_into(box: gr.File) -> tuple[Callable[..., Any], gr.JSON]:
    """Return the event of a file that is dropped into a box, and what was dropped.

    Whoever listens empties the box: what comes meanwhile would be gone with that, were it read from the box itself.
    """
    taken = gr.JSON(visible=False)
    return box.upload(None, box, taken, js=_DROPPED, **AT_ONCE).then, taken


def style_title(name: str) -> str:
    """Return what people call a style; one that is somebody's own is called as in its file."""
    return titled(f"style.{name}", name)


def style_choice(entry: ModelEntry, *, elem_id: str) -> gr.Dropdown:
    """Lay out the choice of a prompt style.

    Args:
        entry: the model that is chosen when the page opens.
        elem_id: of the choice.
    """
    return gr.Dropdown(
        label=options(GenerateRequest)["style"].label,
        choices=_styles_of(entry),
        value="",
        visible=bool(entry.styles),
        # Gradio looks for what is typed in the English names, whatever the page's language.
        filterable=False,
        elem_id=elem_id,
        scale=1,
        min_width=130,
    )


def offer_styles(entry: ModelEntry, *, chosen: str) -> dict[str, Any]:
    """Update the choice of styles for a model; what is chosen stays where the model has it."""
    value = chosen if chosen in entry.styles else ""
    return gr.update(choices=_styles_of(entry), value=value, visible=bool(entry.styles))


def _styles_of(entry: ModelEntry) -> list[tuple[str, str]]:
    return [(Message("page.style.none"), ""), *((style_title(name), name) for name in entry.styles)]


def mask_editor(label: Message, *, elem_id: str, colour: str, height: int) -> gr.ImageEditor:
    """Return an area to paint a mask in, with one colour, and nothing else to do in it.

    Args:
        label: what is painted.
        elem_id: of the area.
        colour: of the brush, as "#rrggbb".
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
    """Return what such an area shows: a copy of a picture, of a size that is handy to paint on, and nothing painted."""
    copy = picture.convert("RGB").resize(fitted_size(picture.size, (_CANVAS_SIDE, _CANVAS_SIDE)))
    return {"background": keep_picture(copy), "layers": [], "composite": None}


def mask_box(label: Message, *, elem_id: str, height: int) -> tuple[gr.Accordion, gr.Image]:
    """Lay out an upload box for a mask beside what is painted, and return the accordion that it lies in, and it.

    Args:
        label: what it means.
        elem_id: of the box.
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
