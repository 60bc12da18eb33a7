"""Sharing how a picture was made: as a link that opens the page with everything set, and as a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from ipa_app.engine.recipes import recipe_code, recipe_json
from ipa_app.messages import Message
from ipa_app.ui.controls import AT_ONCE, CHECKED, ONE_BY_ONE, Update, show_opened
from ipa_app.ui.failures import explained
from ipa_app.ui.language.markup import said
from ipa_app.ui.pictures import check_there, keep_text

if TYPE_CHECKING:
    from ipa_app.ui.parts import Parts
    from ipa_app.ui.restore import Restorer


_FILE_NAME = "recipe.json"
# In the browser, as the server does not know the page's address.
_AS_LINK = "(code) => `${location.origin}${location.pathname}#recipe=${code}`"
_STORED = "ipa-opened"
_OPENED = f"""
function open() {{
    const [name, recipe] = location.hash.split("=");
    if (name === "#recipe" && recipe) trigger("select", {{ recipe }});
}}
window.addEventListener("hashchange", open);
// The address stays what it is, and whoever comes by it again, from a bookmark say, has everything set by it again. In
// a page that is loaded anew, or gone back to, there is what was entered since.
const [{{ type }}] = performance.getEntriesByType("navigation");
const isThere = type !== "navigate" && sessionStorage.getItem("{_STORED}") === location.hash;
// Once the page is there to be set.
const wait = setInterval(() => {{
    if (!document.querySelector("#variation-generate")) return;
    clearInterval(wait);
    if (!isThere) open();
}}, 50);
"""
_IS_SET = f"""() => {{ sessionStorage.setItem("{_STORED}", location.hash); }}"""


def sharing_box() -> tuple[gr.Column, gr.Textbox, gr.DownloadButton]:
    """Lay out the box for the link and the file of the picked picture, hidden at first."""
    with gr.Column(visible=False, elem_id="sharing") as box:
        gr.HTML(said(Message("page.share.help"), tag="p", css_class="ipa-help"), padding=False)
        link = gr.Textbox(
            label=Message("page.share.link"), interactive=False, max_lines=1, buttons=["copy"], elem_id="share-link"
        )
        return box, link, gr.DownloadButton(Message("page.share.file"), size="sm", elem_id="share-file")


def connect_sharing(parts: Parts, *, restorer: Restorer) -> None:
    """Connect sharing the picked picture's recipe, and restoring the recipe in the page's link."""
    results = parts.results

    def share(picked: str | None) -> Update:
        with explained():
            path = check_there(picked)
            return {
                results.sharing: gr.update(visible=True),
                results.link: recipe_code(path),
                results.recipe: keep_text(recipe_json(path), name=_FILE_NAME),
            }

    shared = results.share.click(share, results.picked, [results.sharing, results.link, results.recipe], **CHECKED)
    shared.success(None, results.link, results.link, js=_AS_LINK, **AT_ONCE)
    shared.success(None, js=show_opened("sharing"), **AT_ONCE)

    opener = gr.HTML("", js_on_load=_OPENED, visible="hidden")

    def open_link(event: gr.EventData, own: Any) -> Update:
        return restorer.from_link(str(event.recipe), own)

    opened = opener.select(open_link, parts.panel.adapters.own, restorer.outputs, **ONE_BY_ONE)
    opened.success(None, None, None, js=_IS_SET, **AT_ONCE)
