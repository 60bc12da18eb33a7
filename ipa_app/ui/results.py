"""The right-hand side: status line, pictures with their seeds, how they were made, and those made before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ipa_app.imaging.png import read_settings
from ipa_app.ui import texts
from ipa_app.ui.status import status_line

LONGEST_HISTORY = 30


@dataclass(frozen=True, kw_only=True)
class ResultsPanel:
    """Where pictures appear.

    The states hold what is this visitor's: `job` the id of the running job, `running` the same where it outlives the
    page, `shown` the files in the gallery, `picked`
    the one that the buttons below act on, `history` the latest files, newest first.
    """

    preview: gr.HTML
    status: gr.HTML
    nothing: gr.HTML
    compared: gr.ImageSlider
    gallery: gr.Gallery
    actions: gr.Column
    picked_note: gr.HTML
    more_like_this: gr.Button
    use_settings: gr.Button
    enlarge: gr.Button
    download: gr.DownloadButton
    enlarged: gr.Image
    details: gr.Accordion
    settings: gr.JSON
    earlier: gr.Accordion
    earlier_gallery: gr.Gallery
    job: gr.State
    running: gr.BrowserState
    shown: gr.State
    picked: gr.State
    history: gr.State


def results_panel() -> ResultsPanel:
    """Lay out the results."""
    preview = gr.HTML("", visible=False, elem_id="preview", padding=False)
    status = gr.HTML(status_line(texts.IDLE), elem_id="status", padding=False)
    nothing = gr.HTML(
        f'<div class="ipa-nothing"><p>{texts.NOTHING_YET}</p></div>', padding=False, elem_id="nothing-yet"
    )
    compared = gr.ImageSlider(
        label=texts.COMPARED_LABEL,
        show_label=False,
        elem_id="compared",
        type="filepath",
        format="png",
        buttons=["fullscreen"],
        interactive=False,
        visible=False,
    )
    gallery = _gallery(elem_id="results", label=texts.GALLERY_LABEL, columns=2, visible=False)
    with gr.Column(visible=False, elem_id="result-actions") as actions:
        picked_note = gr.HTML("", padding=False, elem_id="picked")
        with gr.Row(elem_classes="ipa-extras"):
            more_like_this = gr.Button(texts.MORE_LIKE_THIS, size="sm", min_width=120, elem_id="more-like-this")
            use_settings = gr.Button(texts.USE_SETTINGS, size="sm", min_width=120, elem_id="use-settings")
            enlarge = gr.Button(texts.ENLARGE, size="sm", min_width=120, elem_id="enlarge")
            download = gr.DownloadButton(texts.DOWNLOAD_ALL, size="sm", min_width=120, elem_id="download-all")
    enlarged = gr.Image(
        label=texts.ENLARGED_LABEL,
        show_label=False,
        elem_id="enlarged",
        type="filepath",
        format="png",
        buttons=["download", "fullscreen"],
        interactive=False,
        visible=False,
    )
    with gr.Accordion(texts.RESULT_SETTINGS, open=False, visible=False, elem_id="result-settings-panel") as details:
        gr.HTML(f'<p class="ipa-help">{texts.RESULT_SETTINGS_HELP}</p>', padding=False)
        settings = gr.JSON(show_label=False, elem_id="result-settings")
    with gr.Accordion(texts.HISTORY_HEADING, open=False, visible=False, elem_id="history-panel") as earlier:
        earlier_gallery = _gallery(elem_id="history", label=texts.HISTORY_HEADING, columns=6, allow_preview=False)
    return ResultsPanel(
        preview=preview,
        status=status,
        nothing=nothing,
        compared=compared,
        gallery=gallery,
        actions=actions,
        picked_note=picked_note,
        more_like_this=more_like_this,
        use_settings=use_settings,
        enlarge=enlarge,
        download=download,
        enlarged=enlarged,
        details=details,
        settings=settings,
        earlier=earlier,
        earlier_gallery=earlier_gallery,
        job=gr.State(None),
        # Its secret keeps nothing from anybody: a job's id cannot be guessed, and means nothing to another server.
        running=gr.BrowserState(None, storage_key="ipa-running", secret="ipa-running"),
        shown=gr.State([]),
        picked=gr.State(None),
        history=gr.State([]),
    )


def show_pictures(
    panel: ResultsPanel, pictures: Sequence[tuple[str, str]], *, columns: int, download: str, compared: bool = False
) -> dict[Any, Any]:
    """Return the updates that show pictures and pick the first one.

    Args:
        panel: where.
        pictures: file and caption of each, at least one.
        columns: how many side by side.
        download: the file that holds them all.
        compared: the two pictures lie on each other, too.
    """
    paths = [path for path, _ in pictures]
    text = texts.DOWNLOAD_ONE if len(paths) == 1 else texts.DOWNLOAD_ALL
    return {
        panel.nothing: gr.update(visible=False),
        panel.compared: gr.update(value=(paths[0], paths[1]) if compared else None, visible=compared),
        panel.gallery: gr.update(value=list(pictures), columns=columns, selected_index=None, visible=True),
        panel.actions: gr.update(visible=True),
        panel.download: gr.update(value=download, label=text),
        panel.details: gr.update(visible=True),
        panel.shown: paths,
        **show_picked(panel, paths, index=0),
    }


def show_picked(panel: ResultsPanel, paths: Sequence[str], *, index: int) -> dict[Any, Any]:
    """Return the updates that pick one of the pictures shown: the buttons act on it, its settings are shown."""
    settings = read_settings(paths[index]) or {}
    text = texts.PICKED_ONE if len(paths) == 1 else texts.PICKED
    note = text.format(number=index + 1, count=len(paths), seed=settings.get("seed", "?"))
    return {
        panel.picked: paths[index],
        panel.picked_note: f'<p class="ipa-help">{note}</p>',
        panel.settings: settings,
        # It shows the one that was picked before.
        panel.enlarged: gr.update(value=None, visible=False),
    }


def remember(panel: ResultsPanel, history: Sequence[str], paths: Sequence[str]) -> dict[Any, Any]:
    """Return the updates that put new files before the earlier ones; the oldest are forgotten."""
    kept = [*paths, *(path for path in history if path not in paths)][:LONGEST_HISTORY]
    return {
        panel.history: kept,
        panel.earlier: gr.update(visible=True),
        panel.earlier_gallery: gr.update(value=kept, selected_index=None),
    }


def columns_for(count: int) -> int:
    """How many pictures side by side suit their number."""
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
