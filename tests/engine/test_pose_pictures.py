"""A hand-drawn skeleton, from the request to the result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import Progress
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from ipa_app.pose.detect import pose_image
from ipa_app.pose.sheet import PoseSheet
from tests.drawn_skeletons import SIZE, STANDING, as_openpose, drawn, moved
from tests.engine.conftest import Generate, pixels

ORDER = {"task": "pose", "prompt": "a cat", "seed": 1}


def never(*_: object, **__: object) -> None:
    raise AssertionError("a drawn skeleton is looked at as a photo")


@pytest.mark.parametrize("given", [{"ground": (255, 255, 255)}, {"ground": (127, 127, 127)}, {"hairlines": True}])
def test_it_is_followed_however_it_is_drawn(generate: Generate, given: dict) -> None:
    picture = drawn(STANDING, **given)
    result = generate(**ORDER, pose=picture)
    assert result.notes == ()
    anew = pose_image(picture, (result.images[0].width, result.images[0].height), find=never).image
    assert pixels(result) == pixels(generate(**ORDER, pose=anew)) != pixels(generate(**ORDER, pose=picture.rotate(90)))


def test_what_is_done_to_it_is_said_with_the_result(generate: Generate) -> None:
    small = moved(STANDING, by=(230, 300), scale=0.2)
    result = generate(**ORDER, pose=drawn(small, half_width=1, radius=1))
    assert result.notes == ("The figure was too small on its canvas to be followed, so it was enlarged.",)


def test_what_a_file_of_keypoints_loses_is_said_with_the_result(generate: Generate) -> None:
    below = [{"pose_keypoints_2d": points} for points in as_openpose(moved(STANDING, scale=1.3))]
    sheet = PoseSheet.from_json(json.dumps({"people": below, "canvas_width": SIZE[0], "canvas_height": SIZE[1]}))
    result = generate(**ORDER, pose=sheet)
    assert result.notes == (
        "For person 1, this lies outside the picture and was left out: right ankle and left ankle.",
    )


def test_who_waits_for_a_controlnet_to_be_read_is_told_so(tiny_bundle_dir: Path) -> None:
    entry = entry_from_folder(tiny_bundle_dir, name="toybox")
    # The first one is read with the model, the second one on demand.
    controlnets = {"depth": replace(entry.controlnet("pose"), name="depth", kind="depth"), **entry.controlnets}
    engine = Engine(ModelManager({"toybox": replace(entry, controlnets=controlnets)}, device="cpu"))
    request = GenerateRequest(**ORDER, pose=drawn(STANDING))
    try:
        first, second = (
            [event.message for event in engine.submit(request).events() if isinstance(event, Progress)] for _ in "12"
        )
    finally:
        engine.close()
    assert first.index("getting ready for pictures of this kind") < first.index("drawing")
    assert "getting ready for pictures of this kind" not in second
