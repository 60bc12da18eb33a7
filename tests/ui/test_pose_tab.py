"""Untrusted keypoints on their way into the editor and into a request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.pose.presets import preset_file, preset_pictures, preset_sheets
from ipa_app.pose.sheet import LONGEST_JSON, PoseSheet
from ipa_app.pose.skeleton import Skeleton
from ipa_app.ui.form import build_request
from ipa_app.ui.parts import Parts
from ipa_app.ui.running import Runner
from ipa_app.ui.tabs.pose import read_canvas, read_keypoints, read_keypoints_file
from ipa_app.ui.tabs.pose_finder import PoseFinder, find_pose, found_text
from tests.drawn_skeletons import STANDING, drawn, without
from tests.seen import paragraphs
from tests.ui.page_parts import Opened, Update, opened_page

WAVING = preset_file("waving").read_text("utf-8")


def test_a_request_takes_the_skeleton_unless_there_is_a_picture() -> None:
    request = build_request("pose", {"skeleton": WAVING, "pose": None})
    assert request.pose == preset_sheets()["waving"]
    picture = {"path": str(preset_pictures()["waving"])}
    request = build_request("pose", {"skeleton": "never read", "pose": picture})
    assert not isinstance(request.pose, PoseSheet)


@pytest.mark.parametrize(("skeleton", "message"), [("{", "not JSON"), ({"a": 1}, "must be text"), ("", "no pose")])
def test_a_request_with_a_bad_skeleton_is_refused(skeleton: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_request("pose", {"skeleton": skeleton})


def test_keypoints_reach_the_editor_checked() -> None:
    pose, notes, text = read_keypoints(WAVING)
    assert json.loads(pose) == json.loads(WAVING)
    assert notes == "" and text == gr.skip()
    for bad, message in ((None, "nothing to read"), ("<b>", "not JSON"), ('{"people": []}', "no person in it")):
        with pytest.raises(gr.Error, match=message):
            read_keypoints(bad)


def test_what_is_left_out_of_keypoints_is_said_beside_them() -> None:
    cut = {**json.loads(WAVING), "people": [*json.loads(WAVING)["people"], {"<b>": 1}]}
    pose, notes, _ = read_keypoints(json.dumps(cut))
    assert json.loads(pose) == json.loads(WAVING)
    assert paragraphs(notes) == ["Person 2 has no points, and was left out."]


def test_the_size_of_the_picture_is_asked_for_where_keypoints_do_not_say_it(tmp_path: Path) -> None:
    people = json.dumps({"people": json.loads(WAVING)["people"]})
    (tmp_path / "people.json").write_text(people)
    Image.new("RGB", (512, 512)).save(tmp_path / "picture.png")
    upload = {"path": str(tmp_path / "people.json")}
    for asked in (
        read_keypoints(people),
        read_keypoints(people, 0, 0),
        read_keypoints(people, 512, None),
        read_keypoints(people, "512", -1),
        read_keypoints_file(upload),
    ):
        assert asked[0] == gr.skip() and asked[2] == people
        assert "does not say how large its picture is: please fill in" in asked[1]
    size = read_canvas({"path": str(tmp_path / "picture.png")})
    assert size == (512, 512)
    for answered in (read_keypoints(people, *size), read_keypoints_file(upload, *size)):
        assert json.loads(answered[0]) == json.loads(WAVING)
        assert answered[1] == ""
    # The size in the file takes precedence.
    assert json.loads(read_keypoints(WAVING, 100, 50)[0]) == json.loads(WAVING)
    with pytest.raises(gr.Error, match="cannot be opened as a picture"):
        read_canvas(upload)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_keypoints_files_are_read_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "waving.json").write_text(WAVING, encoding=encoding)
    assert json.loads(read_keypoints_file({"path": str(tmp_path / "waving.json")})[0]) == json.loads(WAVING)


def test_keypoints_files_are_text_of_bearable_length(tmp_path: Path) -> None:
    bytes_, long = (tmp_path / name for name in ("bytes.json", "long.json"))
    bytes_.write_bytes(b"\xff\xfe\x00")
    with long.open("wb") as file:
        file.truncate(4 * LONGEST_JSON + 1)
    for path, message in ((bytes_, "not text"), (long, "too long")):
        with pytest.raises(gr.Error, match=message):
            read_keypoints_file({"path": str(path)})


@pytest.fixture(scope="module")
def reading(reading_bundle_dir: Path) -> Iterator[Opened]:
    with opened_page(reading_bundle_dir) as opened:
        yield opened


SEARCHED = gr.Textbox(visible=False, render=False)


def finder_of(parts: Parts) -> PoseFinder:
    tab = parts.tab_of("pose")
    (find,) = tab.starting
    options = {name: tab.inputs[name] for name in ("pose_hands", "pose_face", "pose_detector")}
    own = {"picture": tab.inputs["pose"], "skeleton": tab.inputs["skeleton"], "searched": SEARCHED}
    return PoseFinder(find=find, options=options, **own)


def found(opened: Opened, picture: Path | None, **options: Any) -> list[Update]:
    """Return the page's updates when the button is pressed, in order."""
    parts, studio = opened
    finder = finder_of(parts)
    runner = Runner(studio=studio, results=parts.results, tabs=parts.tabs)
    values = {"pose_hands": False, "pose_face": False, "pose_detector": "openpose", **options}
    payload = None if picture is None else {"path": str(picture)}
    return list(find_pose(finder, runner=runner)(picture=payload, model="toybox", **values))


def test_the_pose_of_a_toy_picture_reaches_the_editor(reading: Opened, tmp_path: Path) -> None:
    Image.new("RGB", (150, 90), (200, 180, 90)).save(tmp_path / "toy.png")
    parts, _ = reading
    started, *_, last = found(reading, tmp_path / "toy.png")
    tab = parts.tab_of("pose")
    finder = finder_of(parts)
    assert started[tab.stop]["interactive"] and not started[finder.find]["interactive"]
    sheet = PoseSheet.from_json(last[finder.skeleton])
    assert (sheet.width, sheet.height) == (150, 90)
    assert None not in sheet.skeleton.people[0]
    assert last[finder.searched] == str(tmp_path / "toy.png")
    assert Message("pose.found", count=1) in last[parts.results.status]
    assert last[finder.find]["interactive"] and not last[tab.stop]["interactive"]


def test_no_pose_can_be_found_in_nothing_or_where_joints_cannot_be_read(reading: Opened, tmp_path: Path) -> None:
    drawn(without(STANDING, 0, *range(5, 18))).save(tmp_path / "arm.png")
    for picture, message in ((None, "There is no picture"), (tmp_path / "arm.png", "its joints cannot be read")):
        with pytest.raises(gr.Error, match=message):
            found(reading, picture)


def test_the_joints_of_a_drawn_skeleton_reach_the_editor_with_what_is_left_out(reading: Opened, tmp_path: Path) -> None:
    canvas = Image.new("RGBA", (1600, 1600))
    canvas.paste(drawn(STANDING).resize((128, 192), Image.Resampling.LANCZOS), (200, 900))
    canvas.save(tmp_path / "small.png")
    *_, last = found(reading, tmp_path / "small.png")
    parts, _ = reading
    finder = finder_of(parts)
    sheet = PoseSheet.from_json(last[finder.skeleton])
    assert None not in sheet.skeleton.people[0]
    said = last[parts.results.status]
    assert Message("pose.found", count=1) in said and "to be followed, so it was enlarged." in said


def test_how_many_were_found_is_told() -> None:
    one = preset_sheets()["waving"]
    assert found_text(one) == Message("pose.found", count=1)
    two = PoseSheet(Skeleton(one.skeleton.people * 2), one.width, one.height)
    assert found_text(two).startswith("2 figures were found")
