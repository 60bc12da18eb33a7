"""The parameters of every endpoint of the API, in order and with their defaults, which programs rely on."""

from __future__ import annotations

COMMON = {
    "negative_prompt": "",
    "count": 1,
    "seed": -1,
    "steps": 0,
    "guidance": 0,
    "width": 0,
    "height": 0,
    "model": "toybox",
    "start": 0.0,
    "end": 1.0,
    "view": "crop",
    "centre_x": 0.5,
    "centre_y": 0.5,
    "negative_reference": None,
}
LAST = {"part": "all", "region": "everywhere", "output_format": "png", "region_mask": None, "region_softness": 0}
FURTHER = {"reference": None, "weight": 1.0, "region": "everywhere", "region_mask": None}
LAST |= {"weight": 1.0, **{f"{name}_{number}": value for number in (2, 3, 4) for name, value in FURTHER.items()}}
RANGES = {"reference_start": 0.0, "reference_end": 1.0}
MARKS = ("", "_2", "_3", "_4")
NEWEST = {f"{name}{mark}": value for mark in MARKS for name, value in RANGES.items()}
NEWEST |= {f"region_prompt{mark}": "" for mark in MARKS} | {"guidance_start": 0.0, "guidance_end": 0}
REQUIRED = object()
PROMISED = {
    "/variation": {
        "reference": REQUIRED,
        "adapter": "base",
        "scale": 1.0,
        "prompt": "",
        **COMMON,
        **LAST,
        "style": "",
        "speed": "best",
        **NEWEST,
    },
    "/mix": {
        "prompt": REQUIRED,
        "reference": None,
        "adapter": "base",
        "scale": 0.6,
        **COMMON,
        "start_image": None,
        "strength": 0.75,
        **LAST,
        "style": "",
        "speed": "best",
        **NEWEST,
    },
    "/inpaint": {
        "image": REQUIRED,
        "mask": None,
        "reference": None,
        "prompt": "",
        "adapter": "base",
        "scale": 1.0,
        **COMMON,
        "mask_invert": False,
        "mask_grow": 0,
        "mask_feather": 1,
        "area": "masked",
        "mask_padding": 25,
        "extend_left": 0,
        "extend_right": 0,
        "extend_up": 0,
        "extend_down": 0,
        **LAST,
        "style": "",
        "speed": "best",
        **NEWEST,
        "surroundings": True,
    },
    "/pose": {
        "pose": REQUIRED,
        "reference": None,
        "prompt": "",
        "adapter": "base",
        "scale": 1.0,
        "control_scale": 1.0,
        **COMMON,
        "control_start": 0.0,
        "control_end": 1.0,
        **dict(list(LAST.items())[:2]),
        "pose_hands": False,
        "pose_face": False,
        "pose_detector": "openpose",
        **dict(list(LAST.items())[2:]),
        "pose_fit": True,
        "style": "",
        "speed": "best",
        **NEWEST,
    },
    "/models": {},
}
