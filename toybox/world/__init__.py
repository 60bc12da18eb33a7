"""The toy world: attributes of its characters, and their pictures, keypoints, masks and captions."""

from __future__ import annotations

from toybox.world.captions import caption, full_caption, says, scene_caption, scene_text, words
from toybox.world.palette import PALETTE
from toybox.world.render import render, render_mask, render_place, svg
from toybox.world.scene import (
    ATTRIBUTES,
    POSES,
    SCENE_ATTRIBUTES,
    Scene,
    View,
    labels,
    sample_scene,
    sample_view,
)
from toybox.world.skeleton import keypoints, pose_keypoints
from toybox.world.subject import SUBJECT_ATTRIBUTES, Subject, is_held_out, sample_subject

__all__ = [
    "ATTRIBUTES",
    "PALETTE",
    "POSES",
    "SCENE_ATTRIBUTES",
    "SUBJECT_ATTRIBUTES",
    "Scene",
    "Subject",
    "View",
    "caption",
    "full_caption",
    "says",
    "scene_caption",
    "scene_text",
    "is_held_out",
    "keypoints",
    "labels",
    "pose_keypoints",
    "render",
    "render_mask",
    "render_place",
    "sample_scene",
    "sample_subject",
    "sample_view",
    "svg",
    "words",
]
