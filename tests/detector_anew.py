"""Run by `test_detectors` with one more detector, known only from its module and its line in the registry.

Usage: python tests/detector_anew.py BUNDLE FOLDER, with the folder of the changed package first on the path.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any, get_args

import gradio as gr
from PIL import Image

from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.pose.detector import PoseOptions
from ipa_app.pose.sheet import PoseSheet
from ipa_app.ui.api import endpoint_of, hidden_inputs
from ipa_app.ui.form import build_request
from ipa_app.ui.parts import Parts
from ipa_app.ui.studio import Studio
from tests.ui.page_parts import opened_page

MODULE = """
from types import SimpleNamespace

from ipa_app.pose.detector import Detector


class Middle:
    def is_ready(self, _):
        return True

    def load(self, files, _):
        raise AssertionError("it needs none")

    def find(self, photo, options):
        points = [SimpleNamespace(x=0.5, y=(number + 1) / 20) for number in range(18)]
        return [SimpleNamespace(body=SimpleNamespace(keypoints=points), left_hand=None, right_hand=None, face=None)]


MIDDLE = Detector(
    name="middle", title="Middle", licence="MIT", make=lambda device: Middle(), repo="a/b", revision="c", files=(),
    hands=False, help="Middle knows one pose.",
)
"""
LINE = "            DWPOSE,\n"
CHINESE = {"help": "Middle 只认识一个姿势。", "shown": "Middle"}
PHOTO = Image.linear_gradient("L").convert("RGB")


def main() -> None:
    """Follow the detector from its registration to the page, the API and a pose it finds."""
    bundle, folder = map(Path, sys.argv[1:])
    with opened_page(bundle, temporary=folder) as (parts, studio):
        check_programs_may_choose_it(studio)
        check_people_may_choose_it(parts)
        check_it_finds_somebody(studio)
        check_what_it_cannot_do_is_told(studio)


def check_programs_may_choose_it(studio: Studio) -> None:
    """Check that the API's signature and documentation name it, and that other values are refused."""
    offered = get_args(inspect.signature(endpoint_of("pose", studio=studio)).parameters["pose_detector"].annotation)
    assert offered == ("openpose", "dwpose", "middle")
    control: Any = hidden_inputs("pose", shared={})["pose_detector"]
    assert [value for _, value in control.choices] == list(offered)
    assert control.label.endswith("openpose, or dwpose where it is installed, or middle")
    try:
        build_request("pose", {"pose_detector": "edge"})
    except UserError as error:
        assert str(error) == "“Detector of people in photos” is 'edge'; it must be openpose or dwpose or middle."
    else:
        raise AssertionError("nobody checks it")


def check_people_may_choose_it(parts: Parts) -> None:
    """Check that the page offers it with its help text."""
    tab = parts.tab_of("pose")
    radio = parts.inputs_of(tab)["pose_detector"]
    assert isinstance(radio, gr.Radio)
    assert ("Middle", "middle") in (radio.choices or [])
    assert str(radio.info).endswith("Middle knows one pose.")
    assert radio.visible


def check_it_finds_somebody(studio: Studio) -> None:
    """Check that it finds the pose in a photo, and that a picture is drawn from such a pose."""
    search = studio.engine.find_pose(PHOTO, model="toybox", options=PoseOptions(pose_detector="middle"))
    sheet = search.result(60)
    assert isinstance(sheet, PoseSheet)
    assert len(sheet.skeleton.people) == 1
    request = GenerateRequest(task="pose", pose=PHOTO, prompt="a cat", pose_detector="middle", seed=1, steps=1)
    assert studio.engine.submit(request).result(60).settings["pose_detector"] == "middle"


def check_what_it_cannot_do_is_told(studio: Studio) -> None:
    """Check that asking for fingers, which it cannot find, raises an error instead of leaving them out silently."""
    wanted = PoseOptions(pose_detector="middle", pose_hands=True)
    try:
        studio.engine.find_pose(PHOTO, model="toybox", options=wanted).result(60)
    except UserError as error:
        told = "Middle cannot find fingers: please leave them out, or let OpenPose find the pose."
        assert str(error) == told
    else:
        raise AssertionError("fingers were asked for")


if __name__ == "__main__":
    main()
