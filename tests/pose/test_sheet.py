"""Sheets are read from untrusted text, written back unchanged and drawn at any size."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.pose.draw import draw_sheet, draw_skeleton
from ipa_app.pose.keypoints import Details, Keypoint
from ipa_app.pose.presets import POSES_FOLDER, preset_pictures, preset_sheets, presets
from ipa_app.pose.sheet import LONGEST_JSON, PoseSheet
from ipa_app.pose.skeleton import Skeleton

PERSON = {"pose_keypoints_2d": [10.0, 20.0, 1.0] * 17 + [0.0, 0.0, 0.0]}


def text(**changes: Any) -> str:
    sheet = {
        "people": [PERSON],
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
        ('{"people":' * 100_000, "not JSON"),
        (" " * (LONGEST_JSON + 1), "too long"),
        ("1" * 5000, "No keypoints were found"),
        (json.dumps("1" * 5000), "No keypoints were found"),
        (json.dumps(json.dumps(text())), "No keypoints were found"),
        ("[]", "No keypoints were found"),
        ('"people"', "not JSON"),
        ("[{}, {}]", "No keypoints were found"),
        (text(people="x" * 54), "No keypoints were found"),
        (text(people=[{"pose_keypoints_2d": "x" * 54}]), "No keypoints were found"),
        (text(people=[{"pose_keypoints_2d": [float("nan")] * 54}]), "person 1 has no points"),
        (text(people=[{"pose_keypoints_2d": [10**400] * 54}]), "person 1 lies outside the picture"),
        (text(people=[{"pose_keypoints_2d": [True] * 54}]), "person 1 has no points"),
        (text(people=[{"pose_keypoints_2d": [10.0, 97.0, 1.0] * 18}]), "person 1 lies outside the picture"),
        (text(canvas_width=10**400), "does not say how large"),
        (text(canvas_width="<b>"), "does not say how large"),
        (text(canvas_width=12), "16 to 32768 pixels"),
        (text(canvas_width=10**8), "16 to 32768 pixels"),
        (text(canvas_width=20_000), "too narrow"),
    ],
)
def test_hostile_texts_are_explained(hostile: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        PoseSheet.from_json(hostile)
    assert "<" not in str(caught.value)


@pytest.mark.parametrize(
    ("width", "height", "refused"),
    [
        (16, 16, None),
        (16, 128, None),
        (128, 16, None),
        (32_768, 4096, None),
        (15, 100, "is 15 x 100 pixels: please use one of 16 to 32768 pixels a side."),
        (100, 15, "is 100 x 15 pixels: please use one of 16 to 32768 pixels a side."),
        (32_769, 5000, "is 32769 x 5000 pixels: please use one of 16 to 32768 pixels a side."),
        (10**8, 10**300, "is 100000000 x 1e+300 pixels: please use one of 16 to 32768 pixels a side."),
        (5000, 32_769, "is 5000 x 32769 pixels: please use one of 16 to 32768 pixels a side."),
        (16, 129, "is too narrow (16 x 129 pixels): please use one whose long side is at most 8 times the short one."),
        (
            801,
            100,
            "is too narrow (801 x 100 pixels): please use one whose long side is at most 8 times the short one.",
        ),
    ],
)
def test_a_canvas_that_cannot_be_drawn_is_named_with_what_can(width: int, height: int, refused: str | None) -> None:
    skeleton = presets()["waving"]
    if refused is None:
        assert (PoseSheet(skeleton, width, height).width, PoseSheet(skeleton, width, height).height) == (width, height)
        return
    with pytest.raises(UserError) as caught:
        PoseSheet(skeleton, width, height)
    assert str(caught.value) == f"The canvas of this pose {refused}"


@pytest.mark.parametrize("form", ["{}", "\ufeff{}", "[{}]", " {} \n"])
def test_the_text_may_be_wrapped(form: str) -> None:
    sheet = PoseSheet.from_json(text())
    assert PoseSheet.from_json(form.replace("{}", text())) == sheet
    assert PoseSheet.from_json(json.dumps(text())) == sheet


def test_a_file_that_does_not_say_its_canvas_has_the_one_that_is_given() -> None:
    bare = json.dumps({"people": [PERSON]})
    sheet = PoseSheet.from_json(bare, canvas=(64, 96))
    assert sheet == PoseSheet.from_openpose(json.loads(bare), canvas=(64, 96)) == PoseSheet.from_json(text())
    assert PoseSheet.from_json(text(), canvas=(10, 10)) == sheet


def test_a_text_may_be_as_long_as_is_said() -> None:
    assert PoseSheet.from_json(text().ljust(LONGEST_JSON)) == PoseSheet.from_json(text())
    with pytest.raises(UserError, match=f"at most {LONGEST_JSON:,} characters"):
        PoseSheet.from_json(text().ljust(LONGEST_JSON + 1))


def test_what_was_left_out_is_no_part_of_the_pose() -> None:
    whole, cut = (PoseSheet.from_json(text(people=[PERSON, *more])) for more in ([], [None]))
    assert whole == cut and whole.notes == () and cut.notes == ("Person 2 has no points, and was left out.",)
    assert whole.to_json() == cut.to_json()


def spread(*, middle: float, size: float) -> PoseSheet:
    """Return a figure of this size around a point, as fractions of a canvas that is twice as wide as high."""
    body = tuple(Keypoint(middle + size * (i / 17 - 0.5), 0.4 + size * ((i * 7 % 18) / 17 - 0.5)) for i in range(18))
    return PoseSheet(Skeleton((body,), (Details(left_hand=body + body[:3]),)), 400, 200)


def test_a_tiny_figure_is_brought_closer_in_its_shape() -> None:
    tiny = spread(middle=0.5, size=0.07)
    closer = tiny.brought_closer()
    assert (closer.width, closer.height) == (400, 200)
    before, after = (np.array(sheet.skeleton.people[0]) for sheet in (tiny, closer))
    assert np.ptp(after, axis=0) == pytest.approx([0.7, 0.7], rel=0.03)
    assert (after.min(axis=0) + after.max(axis=0)) / 2 == pytest.approx([0.5, 0.5], abs=0.03)
    assert np.ptp(before / np.ptp(before, axis=0) - after / np.ptp(after, axis=0), axis=0) == pytest.approx(0, abs=0.01)
    assert closer.skeleton.details[0].left_hand == closer.skeleton.people[0] + closer.skeleton.people[0][:3]
    assert len(closer.notes) == 1 and "so it was enlarged" in closer.notes[0]
    assert closer.brought_closer() is closer


def test_a_tiny_figure_at_the_edge_stays_on_the_canvas() -> None:
    closer = spread(middle=0.97, size=0.05).brought_closer()
    assert all(point is not None and point.is_inside for point in closer.skeleton.people[0])


@pytest.mark.parametrize("size", [0.3, 0.7])
def test_other_figures_stay_where_they_are(size: float) -> None:
    sheet = spread(middle=0.5, size=size)
    assert sheet.brought_closer() is sheet
    two = PoseSheet(Skeleton((spread(middle=0.1, size=0.05).skeleton.people[0], sheet.skeleton.people[0])), 400, 200)
    assert two.brought_closer() is two


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
