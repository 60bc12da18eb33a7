"""Keypoints from strangers on their way into the editor and into a request."""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr
import pytest

from ipa_app.errors import UserError
from ipa_app.pose.presets import preset_file, preset_pictures, preset_sheets
from ipa_app.pose.sheet import LONGEST_JSON, PoseSheet
from ipa_app.ui.form import build_request
from ipa_app.ui.tabs.pose import read_keypoints, read_keypoints_file

WAVING = preset_file("waving").read_text("utf-8")


def test_a_request_takes_the_skeleton_unless_there_is_a_picture() -> None:
    request = build_request(task="pose", skeleton=WAVING, pose=None)
    assert request.pose == preset_sheets()["waving"]
    picture = {"path": str(preset_pictures()["waving"])}
    request = build_request(task="pose", skeleton="never read", pose=picture)
    assert not isinstance(request.pose, PoseSheet)


@pytest.mark.parametrize(("skeleton", "message"), [("{", "not JSON"), ({"a": 1}, "must be text"), ("", "no pose")])
def test_a_request_with_a_bad_skeleton_is_refused(skeleton: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_request(task="pose", skeleton=skeleton)


def test_keypoints_reach_the_editor_checked() -> None:
    assert json.loads(read_keypoints(WAVING)) == json.loads(WAVING)
    for bad, message in ((None, "nothing to read"), ("<b>", "not JSON"), ('{"people": []}', "canvas_width")):
        with pytest.raises(gr.Error, match=message):
            read_keypoints(bad)


def test_keypoints_files_are_read_as_text_of_bearable_length(tmp_path: Path) -> None:
    good, bytes_, long = (tmp_path / name for name in ("good.json", "bytes.json", "long.json"))
    good.write_text("\ufeff" + WAVING, encoding="utf-8")
    bytes_.write_bytes(b"\xff\xfe\x00")
    long.write_text(" " * (4 * LONGEST_JSON + 1))
    assert json.loads(read_keypoints_file({"path": str(good)})) == json.loads(WAVING)
    for path, message in ((bytes_, "not text"), (long, "too long")):
        with pytest.raises(gr.Error, match=message):
            read_keypoints_file({"path": str(path)})
