"""A request of each task in which every field differs from its default, so that no lost field goes unnoticed."""

from __future__ import annotations

import dataclasses
from typing import Any

from PIL import Image

from ipa_app.engine.requests import GenerateRequest, Reference
from ipa_app.models.styles import Style
from ipa_app.pose.presets import preset_pictures
from tests.engine.conftest import noise_picture, reference

EVERYWHERE: dict[str, Any] = {
    "model": "other",
    "prompt": "a cat, on a beach",
    "negative_prompt": "a dog",
    "references": (
        Reference(image=noise_picture(0), weight=0.5, view="pad", centre_x=0.1),
        Reference(
            image=noise_picture(1),
            centre_x=0.25,
            centre_y=0.75,
            region="left",
            region_prompt="a (red:1.2) dog",
            start=0.4,
            end=0.8,
        ),
        Reference(
            image=noise_picture(2),
            weight=2,
            view="stretch",
            region_mask=Image.linear_gradient("L").resize((64, 72)),
            region_softness=1.5,
        ),
        reference(3, 0),
    ),
    "negative_reference": noise_picture(4),
    "adapter": "fine",
    "scale": 0.35,
    "count": 2,
    "seed": 77,
    "steps": 3,
    "guidance_scale": 4.5,
    "guidance_start": 0.2,
    "guidance_end": 0.8,
    "width": 64,
    "height": 72,
    "start": 0.35,
    "end": 0.9,
    "part": "style",
    "output_format": "webp",
    "style": "night",
    "speed": "fast",
}
STYLES = {"night": Style(name="night", prompt="{prompt}, on the beach", negative_prompt="a hat")}
PRESETS = {"style": {"up_blocks": 1.0}, "layout": {"down_blocks": 1.0}}
"""What the model of these requests is to have, for the style and the part of the picture that they ask for; for their
speed it is to have a fast way."""

OF_TASK: dict[str, dict[str, Any]] = {
    "variation": {},
    "mix": {"start_image": noise_picture(5), "strength": 0.7},
    "inpaint": {
        "image": noise_picture(7),
        "mask": noise_picture(8).convert("L").point(lambda level: 255 * (level > 127)),
        "mask_invert": True,
        "mask_grow": 2.5,
        "mask_feather": 3.0,
        "area": "whole",
        "mask_padding": 40.0,
        "extend_left": 10.0,
        "extend_right": 20.0,
        "extend_up": 30.0,
        "extend_down": 5.0,
        "surroundings": False,
    },
    "pose": {
        "pose": Image.open(next(iter(preset_pictures().values()))).convert("RGB"),
        "pose_hands": True,
        "pose_face": True,
        "pose_detector": "dwpose",
        "pose_fit": False,
        "control_scale": 0.85,
        "control_start": 0.3,
        "control_end": 0.95,
    },
}


def sample_request(task: str, **changes: Any) -> GenerateRequest:
    """Return a task's sample request, with some fields changed."""
    return GenerateRequest(task=task, **{**EVERYWHERE, **OF_TASK[task], **changes})  # type: ignore[arg-type]


def differences(one: GenerateRequest, other: GenerateRequest) -> list[str]:
    """Return the names of the fields in which two requests differ; pictures are compared by their pixels."""
    names = [field.name for field in dataclasses.fields(GenerateRequest)]
    return [name for name in names if plain(getattr(one, name)) != plain(getattr(other, name))]


def plain(value: Any) -> Any:
    """Return a value in comparable form: pictures by size and pixels."""
    if isinstance(value, Image.Image):
        return value.size, value.convert("RGB").tobytes()
    if isinstance(value, Reference):
        return [plain(part) for part in vars(value).values()]
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value
