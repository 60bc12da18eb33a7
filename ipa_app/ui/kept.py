"""Keeping the inputs when the page is reloaded: the browser stores them for as long as its tab is open.

Further references, weights and anything painted are not stored. In presentation mode nothing is.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import gradio as gr

from ipa_app.ui.controls import AT_ONCE
from ipa_app.ui.presentation import IS_PRESENTED

if TYPE_CHECKING:
    from ipa_app.ui.parts import Parts

_STORED = "ipa-entered"
_TAB = "ipa-tab"
_KEPT = (gr.Textbox, gr.Number, gr.Slider, gr.Checkbox, gr.Radio, gr.Dropdown, gr.Image)
# While the page opens, its initial values must not overwrite the stored ones.
_KEEP = f"""(...values) => {{
    if (!window.ipaOpened || {IS_PRESENTED}) return;
    const entered = Object.fromEntries(%s.map((name, place) => [name, values[place]]));
    // An adapter of the visitor's own is gone with the page, and so is what is painted.
    if (entered.adapter?.includes("~")) delete entered.adapter;
    if (entered["region-1"] === "painted") delete entered["region-1"];
    sessionStorage.setItem("{_STORED}", JSON.stringify(entered));
}}"""
# Inputs that are not stored are left alone: the visitor may have been quicker than the page.
_RESTORE = f"""() => {{
    const entered = {IS_PRESENTED} ? {{}} : JSON.parse(sessionStorage.getItem("{_STORED}") ?? "{{}}");
    return %s.map((name) => name in entered ? entered[name] : {{ __type__: "update" }});
}}"""
_SHOW_WORDS = "(region) => ({ __type__: 'update', visible: region !== 'everywhere' })"
# The tabs are mounted after the page has begun to load, with the first one selected. A page in presentation mode stores
# nothing while it leaves that mode, either.
_OPEN_TAB = f"""async () => {{
    const selected = () => document.querySelector("#tasks [role=tab][aria-selected=true]")?.id;
    while (!selected()) await new Promise(requestAnimationFrame);
    if ({IS_PRESENTED}) return;
    document.getElementById(sessionStorage.getItem("{_TAB}"))?.click();
    // The last that a browser tells for certain of a page that is left, loaded anew or thrown out of memory.
    document.addEventListener("visibilitychange", () => {{
        if (document.hidden && !{IS_PRESENTED}) sessionStorage.setItem("{_TAB}", selected());
    }});
    window.ipaOpened = true;
}}"""


def connect_kept(parts: Parts, *, page: gr.Blocks) -> None:
    """Make the browser store the inputs, and restore them when the page is reloaded."""
    kept = _entered(parts)
    names, components = json.dumps(list(kept)), list(kept.values())
    gr.on([each.change for each in components], None, components, None, js=_KEEP % names, **AT_ONCE)
    restored = page.load(None, None, components, js=_RESTORE % names, **AT_ONCE)
    slot = parts.panel.references.slots[0]
    restored.then(None, slot.controls["region"], slot.region.words_box, js=_SHOW_WORDS, **AT_ONCE)
    restored.then(None, None, None, js=_OPEN_TAB, **AT_ONCE)


def _entered(parts: Parts) -> dict[str, Any]:
    """Return the stored inputs by name: texts, numbers, choices and pictures, except those of further references."""
    slot, *others = parts.panel.references.slots
    asked_for = [slot.controls["weight"]._id, *(part._id for other in others for part in other.parts)]
    inputs = [part for tab in parts.tabs for part in parts.inputs_of(tab).values()]
    kept = {str(part.elem_id): part for part in inputs if isinstance(part, _KEPT) and part._id not in asked_for}
    beside = [parts.sets.name, *(parts.library.search.values() if parts.library else ())]
    kept |= {str(part.elem_id): part for part in beside}
    return {**kept, "suited-scale": parts.panel.suited_scale}
