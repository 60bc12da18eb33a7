"""The editor as a Gradio component: an empty box, the script that fills it, and the script's data on the body."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr

from ipa_app.messages import english
from ipa_app.pose.body import (
    BONE_COLOURS,
    BONES,
    FACE_MIRRORED,
    FACE_POINT_COLOUR,
    HAND_BONE_COLOURS,
    HAND_BONES,
    HAND_POINT_COLOUR,
    JOINT_COLOURS,
    JOINT_NAMES,
    MIRRORED,
    REST_POSE,
    WRISTS,
    Rgb,
)
from ipa_app.pose.keypoints import PARTS
from ipa_app.pose.sheet import PoseSheet

_FOLDER = Path(__file__).parent
_SCRIPTS = ("poses.js", "elements.js", "editor.js")
_WORDS = "page.skeleton."
# Selectors of pictures on the page that can be shown behind the skeleton; the first one found is used.
_BEHIND = ("#results img", "#reference img")


def skeleton_editor(sheet: PoseSheet | None) -> gr.HTML:
    """Make an editor that opens with `sheet`; its value is the edited sheet as OpenPose's JSON, empty for None."""
    return gr.HTML(
        value="" if sheet is None else sheet.to_json(),
        html_template='<div class="ipa-skeleton"></div>',
        css_template=(_FOLDER / "editor.css").read_text(encoding="utf-8"),
        js_on_load=_script(),
        apply_default_css=False,
        padding=False,
        elem_id="skeleton",
    )


def _script() -> str:
    """Return the script with its data: a component's properties are lost when an event names it in a closed tab."""
    scripts = ((_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    return "".join((f'"use strict";\nconst setup = {json.dumps(_setup())};\n', *scripts))


def _setup() -> dict[str, Any]:
    """Return the script's data: the body's joints and bones, and all texts that it shows."""
    return {
        "joints": JOINT_NAMES,
        "jointColours": [_css(colour) for colour in JOINT_COLOURS],
        "bones": BONES,
        "boneColours": [_css(colour) for colour in BONE_COLOURS],
        "mirrored": MIRRORED,
        "restPose": REST_POSE,
        "parts": {part: {"file": name, **_part(part)} for part, (name, _) in PARTS.items()},
        "behind": _BEHIND,
        "labels": _labels(),
    }


def _labels() -> dict[str, Any]:
    """Return the editor's English texts by the last part of their keys."""
    sentences = english().sentences.items()
    return {key.removeprefix(_WORDS): text for key, text in sentences if key.startswith(_WORDS)}


def _part(part: str) -> dict[str, Any]:
    """Return the joint that a hand or the face is attached to, its mirror image, and its look at 512 pixels."""
    if part == "face":
        look = {"lines": (), "colours": (), "dot": _css(FACE_POINT_COLOUR), "radius": 3}
        return {"joint": JOINT_NAMES.index("nose"), "mirror": {"other": part, "points": FACE_MIRRORED}, "look": look}
    other = next(hand for hand in WRISTS if hand != part)
    colours = [_css(colour) for colour in HAND_BONE_COLOURS]
    look = {"lines": HAND_BONES, "colours": colours, "dot": _css(HAND_POINT_COLOUR), "radius": 4}
    return {"joint": WRISTS[part], "mirror": {"other": other}, "look": look}


def _css(colour: Rgb) -> str:
    return f"rgb({colour[0]} {colour[1]} {colour[2]})"
