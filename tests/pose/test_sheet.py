"""Sheets are read from texts of strangers, written back unchanged and drawn for any size."""

from __future__ import annotations

import json
from typing import Any

import pytest
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.pose.detect import find_pose
from ipa_app.pose.draw import draw_sheet, draw_skeleton
from ipa_app.pose.presets import POSES_FOLDER, preset_pictures, preset_sheets, presets
from ipa_app.pose.sheet import LONGEST_JSON, PoseSheet


def text(**changes: Any) -> str:
    sheet = {
        "people": [{"pose_keypoints_2d": [10.0, 20.0, 1.0] * 17 + [0.0, 0.0, 0.0]}],
        "canvas_width": 64,
        "canvas_height": 96,
    }
    return json.dumps(sheet | changes)


def test_json_round_trip() -> None:
    sheet = PoseSheet.from_json(text())
    assert (sheet.width, sheet.height) == (64, 96)
    assert json.loads(sheet.to_json()) == json.loads(text())
    assert PoseSheet.from_json(sheet.to_json()) == sheet
    assert PoseSheet.from_json(f"[{text()}]") == sheet


def test_presets_come_back_as_their_files_say() -> None:
    for name, sheet in preset_sheets().items():
        written = json.loads((POSES_FOLDER / f"{name.replace(' ', '_')}.json").read_text("utf-8"))
        assert json.loads(sheet.to_json()) == written


@pytest.mark.parametrize(
    ("hostile", "message"),
    [
        (None, "must be text"),
        (7, "must be text"),
        ("", "not JSON"),
        ("<script>alert(1)</script>", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("1" * 5000, "not JSON"),
        (" " * (LONGEST_JSON + 1), "too long"),
        ("[]", "people"),
        ('"people"', "people"),
        ("[{}, {}]", "people"),
        (text(people="x" * 54), "54 numbers"),
        (text(people=[{"pose_keypoints_2d": "x" * 54}]), "not a number"),
        (text(people=[{"pose_keypoints_2d": [float("nan")] * 54}]), "not a number"),
        (text(people=[{"pose_keypoints_2d": [10**400] * 54}]), "not a number"),
        (text(people=[{"pose_keypoints_2d": [True] * 54}]), "not a number"),
        (text(people=[{"pose_keypoints_2d": [10.0, 97.0, 1.0] * 18}]), "outside the picture"),
        (text(canvas_width=10**400), "canvas_width"),
        (text(canvas_width=1e-300, people=[{"pose_keypoints_2d": [0.0, 0.0, 1.0] * 18}]), "16 to 32768 pixels"),
        (text(canvas_width=10**8), "16 to 32768 pixels"),
        (text(canvas_width=20_000), "too narrow"),
    ],
)
def test_hostile_texts_are_explained(hostile: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        PoseSheet.from_json(hostile)
    assert "<" not in str(caught.value)


@pytest.mark.parametrize("size", [(512, 512), (128, 128)])
def test_a_preset_that_was_not_moved_is_its_picture(size: tuple[int, int]) -> None:
    for name, path in preset_pictures().items():
        drawn = draw_sheet(PoseSheet.from_json(preset_sheets()[name].to_json()), size)
        assert drawn.tobytes() == draw_skeleton(presets()[name], size).tobytes()
        if size == (512, 512):
            assert drawn.tobytes() == Image.open(path).convert("RGB").tobytes()


def test_another_shape_is_padded_not_squeezed() -> None:
    sheet = preset_sheets()["arms out"]
    wide = draw_sheet(sheet, (256, 128))
    assert wide.size == (256, 128)
    assert wide.crop((64, 0, 192, 128)).tobytes() == draw_sheet(sheet, (128, 128)).tobytes()
    assert wide.crop((0, 0, 64, 128)).getbbox() is None


def test_joints_are_not_read_back_from_a_drawing() -> None:
    drawn = draw_sheet(preset_sheets()["waving"], (128, 128))
    with pytest.raises(UserError, match="drawn skeleton"):
        find_pose(drawn, find=lambda _: preset_sheets()["waving"].skeleton)
