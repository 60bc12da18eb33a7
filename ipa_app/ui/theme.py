"""The look: a calm Soft theme in our own colours; every font ships with Gradio."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

CSS_FILE = Path(__file__).with_name("style.css")

INK = gr.themes.Color(
    name="ink",
    c50="#f8f7f4",
    c100="#f1efea",
    c200="#e4e1d9",
    c300="#cfcbc1",
    c400="#a09c93",
    c500="#757168",
    c600="#57534c",
    c700="#403d38",
    c800="#2a2825",
    c900="#1e1c1a",
    c950="#151412",
)
PLUM = gr.themes.Color(
    name="plum",
    c50="#f6f3fb",
    c100="#ece5f8",
    c200="#d9ccf1",
    c300="#bfa9e6",
    c400="#9f7fd8",
    c500="#7f57c5",
    c600="#6a42b0",
    c700="#583593",
    c800="#492d78",
    c900="#3d2762",
    c950="#251640",
)


def build_theme() -> gr.themes.Base:
    """Return the theme of the page, light and dark."""
    return gr.themes.Soft(
        primary_hue=PLUM,
        secondary_hue=PLUM,
        neutral_hue=INK,
        radius_size=gr.themes.sizes.radius_lg,
        # Only the weights whose files in Gradio hold the whole alphabet.
        font=(gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif"),
        font_mono=(gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"),
    ).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        background_fill_primary_dark="*neutral_900",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="0px",
        block_border_width_dark="0px",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_label_text_size="*text_sm",
        block_title_background_fill="transparent",
        block_title_background_fill_dark="transparent",
        block_title_padding="0",
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_100",
        block_title_text_size="*text_md",
        block_info_text_size="*text_sm",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        input_background_fill="*neutral_50",
        input_background_fill_dark="*neutral_800",
        input_placeholder_color="*neutral_600",
        input_placeholder_color_dark="*neutral_400",
        input_border_color="*neutral_200",
        input_border_color_dark="*neutral_700",
        input_border_color_focus="*primary_500",
        input_border_color_focus_dark="*primary_400",
        input_border_width="1px",
        input_shadow="none",
        input_shadow_focus="0 0 0 3px *primary_100",
        input_shadow_focus_dark="0 0 0 3px *primary_900",
        slider_color="*primary_500",
        checkbox_border_color="*neutral_500",
        checkbox_border_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_500",
        button_primary_background_fill_hover_dark="*primary_400",
        button_primary_text_color="white",
        button_primary_shadow="none",
        button_primary_shadow_hover="none",
        button_secondary_background_fill="*neutral_100",
        button_secondary_background_fill_hover="*neutral_200",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_secondary_shadow="none",
        button_secondary_shadow_hover="none",
    )
