"""Keypoints from strangers on their way into the editor and into a request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.pose.presets import preset_file, preset_pictures, preset_sheets
from ipa_app.pose.sheet import LONGEST_JSON, PoseSheet
from ipa_app.ui.form import build_request
from ipa_app.ui.pose_finder import found_pose
from ipa_app.ui.studio import Studio
from ipa_app.ui.tabs.pose import read_keypoints, read_keypoints_file
from tests.ui.page_parts import opened_page

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


@pytest.fixture(scope="module")
def reading_studio(reading_bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with opened_page(reading_bundle_dir, temporary=tmp_path_factory.mktemp("gradio")) as (_, studio):
        yield studio


def test_the_pose_of_a_toy_picture_reaches_the_editor(reading_studio: Studio, tmp_path: Path) -> None:
    Image.new("RGB", (150, 90), (200, 180, 90)).save(tmp_path / "toy.png")
    text = found_pose({"path": str(tmp_path / "toy.png")}, model="toybox", studio=reading_studio)
    sheet = PoseSheet.from_json(text)
    assert (sheet.width, sheet.height) == (150, 90)
    assert None not in sheet.skeleton.people[0]


def test_no_pose_can_be_found_in_nothing_or_in_a_skeleton(reading_studio: Studio) -> None:
    skeleton = {"path": str(preset_pictures()["waving"])}
    for payload, message in ((None, "There is no picture"), (skeleton, "drawn skeleton")):
        with pytest.raises(gr.Error, match=message):
            found_pose(payload, model="toybox", studio=reading_studio)
