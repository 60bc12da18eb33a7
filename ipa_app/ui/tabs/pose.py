"""Pose: the reference says who, a stick figure says how they stand."""

from __future__ import annotations

import gradio as gr

from ipa_app.pose.presets import preset_pictures
from ipa_app.ui import texts
from ipa_app.ui.panel import picture_input
from ipa_app.ui.tabs.shared import TaskTab, finish_tab, help_text, subheading


def pose_tab() -> TaskTab:
    """Lay out the tab; choosing a preset puts its stick figure into the pose box, where an upload goes too."""
    pictures = preset_pictures()
    names = list(pictures)
    with gr.Tab(texts.POSE_TAB, id="pose", elem_id="tab-pose") as tab:
        help_text(texts.POSE_HELP)
        subheading(texts.POSE_PRESETS_LABEL)
        presets = gr.Gallery(
            value=[(str(pictures[name]), name) for name in names],
            label=texts.POSE_PRESETS_LABEL,
            show_label=False,
            elem_id="pose-presets",
            columns=5,
            height="auto",
            allow_preview=False,
            buttons=[],
            interactive=False,
            visible=bool(names),
        )
        subheading(texts.POSE_IMAGE_LABEL)
        pose = picture_input(
            label=texts.POSE_IMAGE_LABEL,
            elem_id="pose-image",
            height=190,
            value=pictures[names[0]] if names else None,
        )
        control_scale = gr.Slider(
            label=texts.CONTROL_SCALE_LABEL,
            info=texts.CONTROL_SCALE_HELP,
            minimum=0,
            maximum=2,
            step=0.05,
            value=1.0,
            buttons=[],
            elem_id="control-scale",
        )
        finished = finish_tab(
            task="pose",
            tab=tab,
            label=texts.PROMPT_OPTIONAL_LABEL,
            inputs={"pose": pose, "control_scale": control_scale},
        )

    def chosen(event: gr.SelectData) -> str:
        return str(pictures[names[event.index]])

    presets.select(chosen, None, pose, queue=False, show_progress="hidden", api_visibility="private")
    return finished
