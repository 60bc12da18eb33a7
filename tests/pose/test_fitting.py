"""Skeletons of strangers brought to the one body that a model knows."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from ipa_app.errors import UserError
from ipa_app.models.catalog import catalog
from ipa_app.pose.body import JOINT_NAMES, MIRRORED
from ipa_app.pose.fitting import Body, fit_pose, read_body
from ipa_app.pose.keypoints import Details, Keypoint
from ipa_app.pose.presets import preset_sheets
from ipa_app.pose.sheet import PoseSheet
from ipa_app.pose.skeleton import Person, Skeleton
from tests.drawn_skeletons import SIZE, STANDING
from toybox import world

LIMBS = ((2, 3), (3, 4), (5, 6), (6, 7), (8, 9), (9, 10), (11, 12), (12, 13))


@pytest.fixture(scope="module")
def body() -> Body:
    """Toybox's."""
    file = catalog()["toybox"].body_poses
    assert file
    return read_body(file)


def person(*, without: tuple[str, ...] = (), shift: float = 0.0, scale: float = 1.0) -> Person:
    width, height = SIZE
    places = [(x / width, y / height) for x, y in (point or (0, 0) for point in STANDING)]
    moved = [(0.5 + (x - 0.5) * scale + shift, 0.5 + (y - 0.5) * scale) for x, y in places]
    return tuple(None if name in without else Keypoint(x, y) for name, (x, y) in zip(JOINT_NAMES, moved, strict=True))


def sheet_of(*people: Person, size: tuple[int, int] = SIZE) -> PoseSheet:
    return PoseSheet(Skeleton(people), *size)


def places(sheet: PoseSheet) -> np.ndarray:
    """The first figure's joints in pixels."""
    return np.array(sheet.skeleton.people[0]) * (sheet.width, sheet.height)


def ways(sheet: PoseSheet) -> np.ndarray:
    points = places(sheet)
    return np.array([points[end] - points[start] for start, end in LIMBS])


def said(sheet: PoseSheet) -> list[str]:
    return [note.key for note in sheet.notes]


@pytest.mark.parametrize("name", preset_sheets())
def test_a_pose_of_the_body_stays_as_it_is(body: Body, name: str) -> None:
    sheet = preset_sheets()[name]
    assert fit_pose(sheet, body) is sheet


def test_every_pose_that_the_model_has_learned_stays_as_it_is_with_any_head(body: Body) -> None:
    rng = random.Random(1)
    for _ in range(400):
        points = tuple(Keypoint(x, y) for x, y in world.keypoints(world.sample_view(rng)))
        sheet = sheet_of(points, size=(256, 256))
        assert fit_pose(sheet, body) is sheet


def test_limbs_keep_their_directions_and_take_the_lengths_of_the_body(body: Body) -> None:
    sheet = sheet_of(person())
    fitted = fit_pose(sheet, body)
    ours, theirs = (np.linalg.norm(ways(each), axis=1, keepdims=True) for each in (fitted, sheet))
    assert np.allclose(ways(fitted) / ours, ways(sheet) / theirs, atol=1e-6)
    standing = np.linalg.norm(ways(preset_sheets()["standing"]), axis=1)
    # Both hang down, and the canvases' shorter sides are equal.
    assert np.allclose(ours[:, 0], standing, rtol=0.1)
    assert said(fitted) == ["pose.fitted"]
    assert (fitted.width, fitted.height) == SIZE
    assert fit_pose(fitted, body) is fitted


def test_the_head_is_as_large_as_the_bodys(body: Body) -> None:
    fitted = places(fit_pose(sheet_of(person()), body))
    wanted = places(preset_sheets()["standing"])
    right_ear, left_ear = JOINT_NAMES.index("right ear"), JOINT_NAMES.index("left ear")
    assert np.allclose(fitted[left_ear] - fitted[right_ear], wanted[left_ear] - wanted[right_ear], atol=2)


def test_what_is_not_seen_hangs_as_at_rest(body: Body) -> None:
    without = ("right knee", "right ankle", "left ankle", "nose", "right eye", "left ear")
    fitted = fit_pose(sheet_of(person(without=without)), body)
    assert None not in fitted.skeleton.people[0]
    standing = ways(preset_sheets()["standing"])
    assert np.allclose(ways(fitted)[4:6], standing[4:6], atol=6), "the trunk leans a little"


@pytest.mark.parametrize("without", [JOINT_NAMES[2:], JOINT_NAMES[:8] + JOINT_NAMES[14:], ("neck",), JOINT_NAMES[:2]])
def test_a_figure_of_which_little_is_seen_becomes_whole(body: Body, without: tuple[str, ...]) -> None:
    fitted = fit_pose(sheet_of(person(without=tuple(without))), body)
    assert None not in fitted.skeleton.people[0]
    assert np.isfinite(places(fitted)).all()


@pytest.mark.parametrize("size", [(512, 512), (256, 1024), (1024, 256), (640, 512)])
def test_it_lies_on_the_canvas_where_the_figure_was(body: Body, size: tuple[int, int]) -> None:
    for shift in (-0.3, 0.0, 0.3):
        fitted = fit_pose(sheet_of(person(shift=shift, scale=0.4), size=size), body)
        assert all(point and point.is_inside for point in fitted.skeleton.people[0])
        middle = places(fitted)[:, 0].mean() / size[0]
        assert middle == pytest.approx(0.5, abs=0.02) or np.sign(middle - 0.5) == np.sign(shift)


def test_of_several_figures_the_largest_is_kept_without_hands_and_face(body: Body) -> None:
    details = (Details(), Details(face=(Keypoint(0.5, 0.1),) * 70), Details())
    people = (person(scale=0.3, shift=-0.3), person(scale=0.7, shift=0.2), person(scale=0.4))
    fitted = fit_pose(PoseSheet(Skeleton(people, details), *SIZE), body)
    assert len(fitted.skeleton.people) == 1 and not fitted.skeleton.details
    assert places(fitted)[1, 0] > SIZE[0] / 2
    assert said(fitted) == ["pose.fitted", "pose.one_of_many"]
    assert fitted.notes[1].values["count"] == 3


@pytest.mark.parametrize("content", [None, "{", "[]", sheet_of(person(without=("nose",))).to_json(), "\xff"])
def test_a_file_that_holds_no_whole_poses_is_named_and_the_pose_not_blamed(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "body_poses.json"
    if content is not None:
        file.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"^The model's file of poses \(.+/body_poses\.json\) is damaged, or "):
        read_body(file)


def test_somebody_seen_from_behind_is_drawn_from_the_front(body: Body) -> None:
    behind = tuple(person()[other] for other in MIRRORED)
    fitted = places(fit_pose(sheet_of(behind), body))
    assert np.allclose(fitted, places(fit_pose(sheet_of(person()), body)))
