from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ipa_app.engine.requests import GenerateRequest, Reference
from ipa_app.errors import UserError

PICTURE = Image.new("RGB", (16, 16))
REFERENCE = Reference(image=PICTURE)

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"task": "upscale"}, "The task is 'upscale'; it must be variation or mix or inpaint or pose."),
    ({"adapter": ["plus"]}, "The adapter is ['plus']; it must be text."),
    ({"adapter": None}, "The adapter is None"),
    ({"adapter": "a" * 256}, "The adapter is 256 characters long; it must have at most 255."),
    ({"model": 3}, "The model is 3"),
    ({"model": "x" * 101}, "The model is 101 characters"),
    ({"prompt": 3}, "“Words” is 3"),
    ({"prompt": "x" * 2001}, "“Words” is 2001 characters long; it must have at most 2000."),
    ({"prompt": "\ud800"}, "broken characters"),
    ({"negative_prompt": ["x"]}, "“Not in the picture” is"),
    ({"scale": float("nan")}, "“Strength of the picture” is nan; it must be a number from 0 to 1.5."),
    ({"scale": float("inf")}, "“Strength of the picture” is inf"),
    ({"scale": -0.1}, "“Strength of the picture” is -0.1"),
    ({"scale": 1.6}, "“Strength of the picture” is 1.6"),
    ({"scale": True}, "“Strength of the picture” is True"),
    ({"scale": "1"}, "“Strength of the picture” is '1'"),
    ({"scale": None}, "“Strength of the picture” is None"),
    ({"scale": 10**5000}, "“Strength of the picture” is a huge number"),
    ({"count": 0}, "“How many pictures” is 0; it must be a whole number from 1 to 8."),
    ({"count": 10_000}, "“How many pictures” is 10000"),
    ({"count": 1.5}, "“How many pictures” is 1.5"),
    ({"count": float("nan")}, "“How many pictures” is nan"),
    ({"count": "x" * 100}, "xxx…; it must be a whole number"),
    ({"seed": -2}, "The seed is -2; it must be a whole number from -1 to 4294967295."),
    ({"seed": 2**32}, "The seed is 4294967296"),
    ({"seed": -(10**5000)}, "The seed is a huge number"),
    # What a page makes of 99999999999999999.
    ({"seed": 10**17}, "The seed is a huge number; it must be a whole number from -1 to 4294967295."),
    ({"steps": 101}, "The number of steps is 101; it must be a whole number from 0 to 100."),
    ({"steps": -1}, "The number of steps is -1"),
    ({"guidance_scale": 0.5}, "The guidance is 0.5; it must be 0 or a number from 1 to 20."),
    ({"guidance_scale": 21}, "The guidance is 21"),
    ({"width": 100}, "The width is 100; it must be 0 or a multiple of 8."),
    ({"height": 4096}, "The height is 4096"),
    ({"height": -8}, "The height is -8"),
    ({"control_scale": 2.1}, "“Strength of the pose” is 2.1; it must be a number from 0 to 2."),
    ({"start": -0.1}, "The beginning of the picture's strength is -0.1; it must be a number from 0 to 1."),
    ({"end": 1.1}, "The end of the picture's strength is 1.1"),
    ({"start": 0.5, "end": 0.5}, "begins at 0.5 and ends at 0.5; it must end later than it begins."),
    ({"task": "pose", "control_start": 0.8, "control_end": 0.2}, "The pose's strength begins at 0.8"),
    ({"control_end": float("nan")}, "The end of the pose's strength is nan"),
    ({"strength": 1.5}, "“How much to change” is 1.5; it must be a number from 0 to 1."),
    ({"negative_reference": "a.png"}, "The picture to avoid is 'a.png'; it must be a picture."),
    ({"start_image": 3}, "The start picture is 3"),
    ({"references": ()}, "There is no reference"),
    ({"references": (REFERENCE,) * 5}, "There are 5 references; there may be at most 4."),
    ({"references": (PICTURE,)}, "must be pictures, each with a weight"),
    ({"task": "mix", "references": (), "prompt": "  "}, "nothing to draw"),
    ({"task": "inpaint"}, "There is no picture"),
    ({"task": "inpaint", "image": PICTURE}, "There is no mask"),
    ({"task": "inpaint", "image": "a.png", "mask": PICTURE}, "The picture is 'a.png'; it must be a picture."),
    ({"task": "inpaint", "image": PICTURE, "extend_up": 0}, "There is no mask"),
    ({"task": "inpaint", "image": PICTURE, "mask": "a.png", "extend_up": 1}, "The mask is 'a.png'"),
    ({"mask_invert": 1}, "“Swap” is 1; it must be true or false."),
    ({"mask_grow": 20.5}, "“Grow or shrink the mask” is 20.5; it must be a number from -20 to 20."),
    ({"mask_grow": float("nan")}, "“Grow or shrink the mask” is nan"),
    ({"mask_feather": 9}, "“Softness of its edge” is 9; it must be a number from 0 to 8."),
    ({"area": "half"}, "“What the model looks at” is 'half'; it must be masked or whole."),
    ({"mask_padding": 201}, "“Surroundings of the masked part” is 201; it must be a number from 0 to 200."),
    ({"extend_left": -1}, "The extension to the left is -1; it must be a number from 0 to 100."),
    ({"extend_down": 101}, "The extension downwards is 101"),
    ({"task": "pose"}, "There is no pose"),
]


@pytest.mark.parametrize(
    ("fields", "message"), REFUSED, ids=[f"{next(iter(fields))} {index}" for index, (fields, _) in enumerate(REFUSED)]
)
def test_bad_values_are_refused_in_one_sentence(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refused:
        GenerateRequest(**{"task": "variation", "references": (REFERENCE,), **fields})
    assert message in str(refused.value)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("weight", [-1, 2.5, float("nan"), "1", None])
def test_a_bad_weight_is_refused(weight: object) -> None:
    with pytest.raises(UserError, match="The reference's weight is"):
        Reference(image=PICTURE, weight=weight)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("view", "tile", "becomes a square” is 'tile'; it must be crop or pad or stretch or tiles."),
        ("centre_x", 1.1, r"left \(0\) to right \(1\)” is 1.1"),
        ("centre_y", -1, r"top \(0\) to bottom \(1\)” is -1"),
        ("centre_y", float("nan"), r"top \(0\) to bottom \(1\)” is nan"),
    ],
)
def test_a_bad_square_is_refused(field: str, value: object, told: str) -> None:
    with pytest.raises(UserError, match=told):
        Reference(image=PICTURE, **{field: value})


def test_a_reference_must_be_a_picture() -> None:
    with pytest.raises(UserError, match="it must be a picture"):
        Reference(image="cat.png")


def test_whole_numbers_as_sliders_send_them_are_fine() -> None:
    request = GenerateRequest(
        task="variation", references=[REFERENCE], count=4.0, steps=np.int64(3), seed=7.0, scale=1, width=64.0
    )
    assert (request.count, request.steps, request.seed, request.scale, request.width) == (4, 3, 7, 1.0, 64)
    assert isinstance(request.count, int)
    assert isinstance(request.scale, float)
    assert request.references == (REFERENCE,)


def test_a_request_cannot_be_changed() -> None:
    request = GenerateRequest(task="mix", prompt="a cat")
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.count = 9
