"""The right-hand side: status line, pictures with their seeds, their settings, and earlier pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ipa_app.imaging.opening import open_image
from ipa_app.imaging.result_files import read_settings
from ipa_app.imaging.transparency import on_white
from ipa_app.messages import Message
from ipa_app.ui.controls import KEEP_IN_SIGHT
from ipa_app.ui.language.markup import known, said
from ipa_app.ui.pictures import inline_picture
from ipa_app.ui.sharing import sharing_box
from ipa_app.ui.status import UNTIL_CHANGED, made_html, status_line

LONGEST_HISTORY = 30
# On a phone the results are far below the buttons, and live pictures push them down. The pictures follow the status
# line, and need the lower half of the window.
SHOW_RESULTS = f"""() => {{
    const status = document.querySelector("#status");
    const show = (behavior) => {{
        const {{ top, bottom }} = status.getBoundingClientRect();
        const least = parseFloat(getComputedStyle(document.documentElement).scrollPaddingTop) || 0;
        if (top < least || bottom > innerHeight / 2) status.scrollIntoView({{ behavior }});
    }};{KEEP_IN_SIGHT}"""
# Strokes send no event; see live.js.
_END_WHAT_IS_OVER = f"""
const end = () => {{ if (props.value?.includes("{UNTIL_CHANGED}")) props.value = IDLE; }};
for (const change of ["ipa-changed", "ipa-repainted"]) window.addEventListener(change, end);
window.addEventListener("pointerup", ({{ target }}) => {{ if (target.closest?.(".pixi-target")) end(); }});
"""
# Within the margins, it lies neither under the tabs nor under the bar.
_TELL_WHETHER_IN_SIGHT = """
const told = ([{ isIntersecting }]) => document.body.toggleAttribute("data-status-in-sight", isIntersecting);
new IntersectionObserver(told, { rootMargin: "-44px 0px -64px", threshold: 1 }).observe(element.closest("#status"));
"""
# Whatever changes, be it the pictures, or which one is picked, changes the column.
_MARK_PICKED = """
const mark = () => {
    if (!element.isConnected) return observer.disconnect();
    const picked = element.querySelector("[data-picked]")?.dataset.picked;
    document.querySelectorAll("#results .grid-container .thumbnail-item").forEach((tile, index) => {
        if (String(index) === picked) tile.setAttribute("aria-current", "true");
        else tile.removeAttribute("aria-current");
    });
};
const observer = new MutationObserver(mark);
observer.observe(element.closest(".ipa-results"), { childList: true, subtree: true });
mark();
"""
# Each browser tab has a job of its own. The job of a closed tab is taken over by the next tab that is opened, if nobody
# follows it by then.
_KEEP_RUNNING = """
let mine = null;
watch("value", () => {
    const job = props.value || null;
    for (const storage of [sessionStorage, localStorage]) {
        if (job) storage.setItem("ipa-running", job);
        else if (storage.getItem("ipa-running") === mine) storage.removeItem("ipa-running");
    }
    mine = job;
});
"""
KEPT_RUNNING = """(() => {
    // What an earlier version kept may be no JSON.
    const kept = (storage) => { try { return JSON.parse(storage.getItem("ipa-running")); } catch { return null; } };
    const other = kept(localStorage);
    return kept(sessionStorage) ?? (other && { ...other, elsewhere: true });
})()"""
"""The job that the browser has stored for this tab, or else for another tab; null if there is none."""
_THUMBNAIL = 96
"""Pixels of its longer side, twice its size on most screens."""


class Turn:
    """The one run that a page may have under way; it can be stopped before it has a job.

    The page learns with a delay that a run has begun, so another button, or Stop, may be pressed before that.
    """

    def __init__(self) -> None:
        self.job: str | None = None
        self.is_stopped = False
        self._free = [True]

    def take(self) -> bool:
        """Begin a run; return False if one is under way."""
        try:
            self._free.pop()  # of two threads one gets it
        except IndexError:
            return False
        self.job, self.is_stopped = None, False
        return True

    def give_back(self) -> None:
        """End the run, so that the next may begin."""
        self._free.append(True)


@dataclass(frozen=True, kw_only=True)
class ResultsPanel:
    """The panel in which pictures appear.

    The states are per session: `turn` is the run under way, always the same object, `shown` the files in the gallery,
    `picked` the file that the buttons below act on, `history` the latest files, newest first. `running` passes what is
    needed to follow the job to the browser, which stores it in case the page is reloaded. `new_seed` is shown beside
    pictures with a fixed seed, as the seed's own box is in a closed accordion.
    """

    newest: gr.HTML
    preview: gr.HTML
    status: gr.HTML
    new_seed: gr.Button
    nothing: gr.HTML
    compared: gr.ImageSlider
    gallery: gr.Gallery
    actions: gr.Column
    picked_note: gr.HTML
    more_like_this: gr.Button
    use_settings: gr.Button
    enlarge: gr.Button
    download_picked: gr.DownloadButton
    download: gr.DownloadButton
    enlarged: gr.Image
    share: gr.Button
    sharing: gr.Column
    link: gr.Textbox
    recipe: gr.DownloadButton
    details: gr.Accordion
    made: gr.HTML
    settings: gr.JSON
    earlier: gr.Accordion
    earlier_gallery: gr.Gallery
    turn: gr.State
    running: gr.HTML
    shown: gr.State
    picked: gr.State
    history: gr.State


def newest_picture() -> gr.HTML:
    """Lay out the place of the newest picture in the bar that is always visible, outside of all columns."""
    return gr.HTML("", elem_id="newest", padding=False)


def results_panel(newest: gr.HTML) -> ResultsPanel:
    """Lay out the results, except the newest picture in the bar."""
    preview = gr.HTML("", visible=False, elem_id="preview", padding=False)
    idle = status_line(Message("page.idle"))
    script = f"const IDLE = {json.dumps(idle)};\n{_END_WHAT_IS_OVER}{_TELL_WHETHER_IN_SIGHT}"
    status = gr.HTML(idle, js_on_load=script, elem_id="status", padding=False)
    new_seed = gr.Button(Message("page.random_seed"), size="sm", visible=False, elem_id="new-seed")
    nothing = gr.HTML(
        f'<div class="ipa-nothing">{said(Message("page.nothing_yet"), tag="p")}</div>',
        padding=False,
        elem_id="nothing-yet",
    )
    compared = gr.ImageSlider(
        label=Message("page.compared_label"),
        show_label=False,
        elem_id="compared",
        type="filepath",
        format="png",
        buttons=["fullscreen"],
        interactive=False,
        visible=False,
    )
    gallery = _gallery(elem_id="results", label=Message("page.gallery_label"), columns=2, visible=False)
    with gr.Column(visible=False, elem_id="result-actions") as actions:
        picked_note = gr.HTML("", js_on_load=_MARK_PICKED, padding=False, elem_id="picked")
        with gr.Row(elem_classes="ipa-extras"):
            more_like_this = gr.Button(
                Message("page.more_like_this"), size="sm", min_width=120, elem_id="more-like-this"
            )
            use_settings = gr.Button(Message("page.use_settings"), size="sm", min_width=120, elem_id="use-settings")
            enlarge = gr.Button(Message("page.enlarge"), size="sm", min_width=120, elem_id="enlarge")
            download_picked = gr.DownloadButton(
                Message("page.download_one"), size="sm", min_width=120, visible=False, elem_id="download-picked"
            )
            download = gr.DownloadButton(Message("page.download_all"), size="sm", min_width=120, elem_id="download-all")
            share = gr.Button(Message("page.share.name"), size="sm", min_width=120, elem_id="share")
    sharing, link, recipe = sharing_box()
    enlarged = gr.Image(
        label=Message("page.enlarged_label"),
        show_label=False,
        elem_id="enlarged",
        type="filepath",
        format="png",
        buttons=["download", "fullscreen"],
        interactive=False,
        visible=False,
    )
    with gr.Accordion(
        Message("page.result_settings"), open=False, visible=False, elem_id="result-settings-panel"
    ) as details:
        gr.HTML(said(Message("page.result_settings_help"), tag="p", css_class="ipa-help"), padding=False)
        made = gr.HTML("", padding=False, elem_id="made")
        with gr.Accordion(Message("page.result_settings_all"), open=False, elem_id="result-settings-all"):
            settings = gr.JSON(show_label=False, elem_id="result-settings")
    with gr.Accordion(Message("page.history_heading"), open=False, visible=False, elem_id="history-panel") as earlier:
        earlier_gallery = _gallery(
            elem_id="history", label=Message("page.history_heading"), columns=6, allow_preview=False
        )
    return ResultsPanel(
        newest=newest,
        preview=preview,
        status=status,
        new_seed=new_seed,
        nothing=nothing,
        compared=compared,
        gallery=gallery,
        actions=actions,
        picked_note=picked_note,
        more_like_this=more_like_this,
        use_settings=use_settings,
        enlarge=enlarge,
        download_picked=download_picked,
        download=download,
        enlarged=enlarged,
        share=share,
        sharing=sharing,
        link=link,
        recipe=recipe,
        details=details,
        made=made,
        settings=settings,
        earlier=earlier,
        earlier_gallery=earlier_gallery,
        turn=gr.State(Turn()),
        running=gr.HTML("", js_on_load=_KEEP_RUNNING, visible="hidden"),
        shown=gr.State([]),
        picked=gr.State(None),
        history=gr.State([]),
    )


def show_pictures(
    panel: ResultsPanel, pictures: Sequence[tuple[str, str]], *, columns: int, download: str, compared: bool = False
) -> dict[Any, Any]:
    """Return the updates that show pictures and pick the first one.

    Args:
        panel: the panel.
        pictures: file and caption of each, at least one.
        columns: how many side by side.
        download: the file that contains them all.
        compared: whether the two pictures are also shown on top of each other.
    """
    paths = [path for path, _ in pictures]
    text = Message("page.download_one") if len(paths) == 1 else Message("page.download_all")
    return {
        panel.newest: _thumbnail(paths[0]),
        panel.nothing: gr.update(visible=False),
        panel.compared: gr.update(value=(paths[0], paths[1]) if compared else None, visible=compared),
        panel.gallery: gr.update(value=list(pictures), columns=columns, visible=True),
        panel.actions: gr.update(visible=True),
        panel.download: gr.update(value=download, label=text),
        panel.details: gr.update(visible=True),
        panel.shown: paths,
        **show_picked(panel, paths, index=0, captions=[caption for _, caption in pictures]),
    }


def show_earlier(panel: ResultsPanel, paths: Sequence[str], *, download: str) -> dict[Any, Any]:
    """Return the updates that show earlier pictures; two are also shown on top of each other.

    Args:
        panel: the panel.
        paths: the pictures' files, at least one.
        download: as for `show_pictures`.
    """
    seeds = [(read_settings(path) or {}).get("seed", "?") for path in paths]
    pictures = [(path, Message("result.seed", seed=seed)) for path, seed in zip(paths, seeds, strict=True)]
    columns, said = columns_for(len(paths)), Message("result.from_history", count=len(paths))
    shown = show_pictures(panel, pictures, columns=columns, download=download, compared=len(paths) == 2)
    return {**shown, panel.status: status_line(said, kind="done"), panel.new_seed: gr.update(visible=False)}


def _thumbnail(path: str) -> str:
    """Return the button in the bar that scrolls to the results."""
    image = on_white(open_image(path))
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    shown = inline_picture(image, alt=Message("page.newest"), css_class="ipa-thumbnail")
    return f'<button type="button">{shown}</button>'


def show_picked(
    panel: ResultsPanel, paths: Sequence[str], *, index: int, captions: Sequence[str] = ()
) -> dict[Any, Any]:
    """Return the updates that pick one of the pictures shown: the buttons act on it, its settings are shown.

    Args:
        panel: the panel.
        paths: the pictures' files.
        index: the index of the one to pick.
        captions: the pictures' captions, if they are shown for the first time.
    """
    settings = read_settings(paths[index]) or {}
    seed = settings.get("seed", "?")
    note, mark = Message("result.picked_one", seed=seed), ""
    if len(paths) > 1:
        note = Message("result.picked", number=index + 1, total=len(paths), seed=seed)
        mark = f'<span hidden data-picked="{index}"></span>'
    return {
        panel.picked: paths[index],
        panel.picked_note: said(note, tag="p", css_class="ipa-help") + mark + known(captions),
        panel.made: made_html(settings),
        panel.settings: settings,
        # Of a single picture, the other button downloads it.
        panel.download_picked: gr.update(value=paths[index], visible=len(paths) > 1),
        # These belong to the picture that was picked before.
        panel.enlarged: gr.update(value=None, visible=False),
        panel.sharing: gr.update(visible=False),
    }


def remember(panel: ResultsPanel, history: Sequence[str], paths: Sequence[str]) -> dict[Any, Any]:
    """Return the updates that put new files before the earlier ones; the oldest are dropped."""
    kept = [*paths, *(path for path in history if path not in paths)][:LONGEST_HISTORY]
    return {
        panel.history: kept,
        panel.earlier: gr.update(visible=True),
        panel.earlier_gallery: gr.update(value=kept),
    }


def columns_for(count: int) -> int:
    """Return how many columns suit a number of pictures."""
    if count == 1:
        return 1
    return 2 if count <= 4 else 3


def _gallery(*, elem_id: str, label: str, columns: int, visible: bool = True, allow_preview: bool = True) -> gr.Gallery:
    return gr.Gallery(
        label=label,
        show_label=False,
        elem_id=elem_id,
        format="png",
        columns=columns,
        height="auto",
        object_fit="contain",
        allow_preview=allow_preview,
        buttons=["download", "fullscreen"] if allow_preview else [],
        interactive=False,
        visible=visible,
    )
