"""The right-hand side: status line, pictures with their seeds, and how they were made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ipa_app.engine.results import GenerateResult
from ipa_app.ui import texts
from ipa_app.ui.status import status_line


@dataclass(frozen=True, kw_only=True)
class ResultsPanel:
    """Where pictures appear. `job` holds the id of the visitor's running job, nothing else."""

    status: gr.HTML
    nothing: gr.HTML
    gallery: gr.Gallery
    details: gr.Accordion
    settings: gr.JSON
    job: gr.State


def results_panel() -> ResultsPanel:
    """Lay out the results."""
    status = gr.HTML(status_line(texts.IDLE), elem_id="status", padding=False)
    nothing = gr.HTML(
        f'<div class="ipa-nothing"><p>{texts.NOTHING_YET}</p></div>', padding=False, elem_id="nothing-yet"
    )
    gallery = gr.Gallery(
        label=texts.GALLERY_LABEL,
        show_label=False,
        elem_id="results",
        format="png",
        columns=2,
        height="auto",
        object_fit="contain",
        buttons=["download", "fullscreen"],
        interactive=False,
        visible=False,
    )
    with gr.Accordion(texts.RESULT_SETTINGS, open=False, visible=False, elem_id="result-settings-panel") as details:
        settings = gr.JSON(show_label=False, elem_id="result-settings")
    return ResultsPanel(
        status=status, nothing=nothing, gallery=gallery, details=details, settings=settings, job=gr.State(None)
    )


def show_pictures(panel: ResultsPanel, paths: Sequence[str], *, result: GenerateResult) -> dict[Any, Any]:
    """Return the updates that show every picture with its seed, in as many columns as suit their number."""
    captions = [texts.SEED_CAPTION.format(seed=seed) for seed in result.seeds]
    pictures = list(zip(paths, captions, strict=True))
    return {
        panel.nothing: gr.update(visible=False),
        panel.gallery: gr.update(value=pictures, columns=_columns(len(pictures)), selected_index=None, visible=True),
        panel.details: gr.update(visible=True),
        panel.settings: dict(result.settings),
    }


def _columns(count: int) -> int:
    if count == 1:
        return 1
    return 2 if count <= 4 else 3
