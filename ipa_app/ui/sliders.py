"""The sliders of the page: all without Gradio's own reset button, each saying what it does."""

from __future__ import annotations

from typing import Any

import gradio as gr


def slider(
    label: str,
    info: str | None = None,
    *,
    span: tuple[float, float],
    step: float,
    value: float,
    elem_id: str,
    **options: Any,
) -> gr.Slider:
    """Return a slider.

    Args:
        label: what it sets.
        info: what that means, in plain words.
        span: its least and its greatest value.
        step: between two values.
        value: where it stands at first.
        elem_id: its name in the page.
        options: of `gr.Slider`, such as `visible`.
    """
    low, high = span
    return gr.Slider(
        label=label,
        info=info,
        minimum=low,
        maximum=high,
        step=step,
        value=value,
        buttons=[],
        elem_id=elem_id,
        **options,
    )
