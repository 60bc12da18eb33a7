"""Arbitrary skeletons are fitted to the one body that a model knows."""

from __future__ import annotations

import random
from dataclasses import replace
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
    """Toybox's body."""
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
    """Return the first figure's joints in pixels."""
    return np.array(sheet.skeleton.people[0]) * (sheet.width, sheet.height)


def ways(sheet: PoseSheet) -> np.ndarray:
    points = places(sheet)
    return np.array([points[end] - points[start] for start, end in LIMBS])


def said(sheet: PoseSheet) -> list[str]:
    return [note.key for note in sheet.notes]


def test_a_body_is_measured_from_its_poses_and_their_mirror_images() -> None:
    """In trunk lengths, on a canvas that is twice as wide as high."""
    rng = np.random.default_rng(0)
    drawn = rng.random((3, 18, 2))
    people = tuple(tuple(Keypoint(float(x), float(y)) for x, y in each) for each in drawn)
    measured = Body.of_poses(sheet_of(*people, size=(200, 100)))
    expected: list[np.ndarray] = []
    for mirror in ((1, 1), (-1, 1)):
        order = LIMBS if mirror == (1, 1) else LIMBS[2:4] + LIMBS[:2] + LIMBS[6:] + LIMBS[4:6]
        for points in drawn * (2, 1):
            trunk = np.linalg.norm((points[8] + points[11]) / 2 - points[1])
            expected.append(np.array([(points[end] - points[start]) * mirror for start, end in order]) / trunk)
    assert np.allclose(measured.limbs, expected)
    assert np.allclose(measured.rest, drawn[0] * (2, 1))


def test_a_pose_that_is_not_whole_measures_nothing() -> None:
    with pytest.raises(ValueError, match=r"^a pose is not whole$"):
        Body.of_poses(sheet_of(person(), person(without=("left knee",))))


@pytest.mark.parametrize(
    ("scale", "is_of"), [(0.74, False), (0.76, True), (1.0, True), (1.24, True), (1.26, False), (2.1, False)]
)
def test_a_body_is_known_again_in_about_its_size(body: Body, scale: float, is_of: bool) -> None:
    assert body.is_of(body.rest * scale) == is_of


@pytest.mark.parametrize("number", range(len(LIMBS)))
def test_a_body_is_known_by_the_length_of_every_limb(body: Body, number: int) -> None:
    start, end = LIMBS[number]
    below = [other for first, other in LIMBS if first == end]
    learned = np.linalg.norm(body.limbs[:, number], axis=1) * body.trunk_length
    for length, is_of in (
        (learned.max() * 1.24, True),
        (learned.max() * 1.3, False),
        (learned.min() * 0.76, True),
        (learned.min() * 0.7, False),
    ):
        places = body.rest.copy()
        way = places[end] - places[start]
        places[[end, *below]] += way * (length / np.linalg.norm(way) - 1)
        assert body.is_of(places) == is_of


@pytest.mark.parametrize("joint", ["right hip", "left shoulder", "nose"])
def test_a_body_is_known_by_its_trunk_and_nose(body: Body, joint: str) -> None:
    """Each may be 0.15 trunk lengths from its place, which follows the lean and length of the trunk."""
    number = JOINT_NAMES.index(joint)
    limb = [end for start, end in LIMBS if start == number]
    limb += [end for start, end in LIMBS if start in limb]
    for way in ((1, 0), (-1, 0)):
        for far, is_of in ((0.1, True), (0.35, False)):
            places = body.rest.copy()
            places[[number, *limb]] += np.array(way) * far * body.trunk_length
            assert body.is_of(places) == is_of
    gone = body.rest.copy()
    gone[number] = np.nan
    assert not body.is_of(gone)


def test_a_bone_is_as_long_as_in_the_learned_poses_whose_directions_are_near() -> None:
    """Each learned pose has the weight exp(-(angle / 20 degrees)^2)."""
    stretched = [list(person()) for _ in range(2)]
    for pose, angle, length in zip(stretched, (20.0, 80.0), (0.1, 0.2), strict=True):
        for shoulder, elbow, side in ((2, 3, -1), (5, 6, 1)):
            x, y = pose[shoulder] or (0, 0)
            away = np.radians(angle)
            pose[elbow] = Keypoint(float(x + side * length * np.sin(away)), float(y + length * np.cos(away)))
    body = Body.of_poses(sheet_of(*(tuple(pose) for pose in stretched), size=(512, 512)))
    for angle in (20.0, 45.0, 50.0, 170.0):
        asked = body.rest.copy()
        away = np.radians(angle)
        asked[6] = asked[5] + 0.3 * np.array((np.sin(away), np.cos(away)))
        fitted = body.fitted(asked)
        weights = [np.exp(-(((angle - learned) / 20) ** 2)) for learned in (20.0, 80.0)]
        expected = (0.1 * weights[0] + 0.2 * weights[1]) / sum(weights)
        assert np.allclose(fitted[6] - fitted[5], expected * np.array((np.sin(away), np.cos(away))))


@pytest.mark.parametrize("number", range(len(LIMBS)))
@pytest.mark.parametrize("way", [1, -1])
def test_a_bone_has_a_length_in_every_learned_direction_and_its_opposite(body: Body, number: int, way: int) -> None:
    """However the cosine of the angle is rounded."""
    start, end = LIMBS[number]
    learned = np.linalg.norm(body.limbs[:, number], axis=1) * body.trunk_length
    for bone in body.limbs[:, number]:
        for length in (0.1, 0.3, 1.0):
            asked = body.rest.copy()
            asked[end] = asked[start] + way * length * bone
            fitted = body.fitted(asked)[[start, end]]
            assert learned.min() - 1e-9 <= np.linalg.norm(fitted[1] - fitted[0]) <= learned.max() + 1e-9


@pytest.mark.parametrize("angle", [-30.0, -10.0, 10.0, 30.0])
def test_the_trunk_leans_as_far_as_the_figures(body: Body, angle: float) -> None:
    turn = np.radians(angle)
    turned = np.array(((np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))))
    leaning = (body.rest - body.rest[1]) @ turned.T
    fitted = body.fitted(leaning)
    assert np.allclose(fitted[[2, 5, 8, 11]], leaning[[2, 5, 8, 11]])


@pytest.mark.parametrize(("angle", "tilt"), [(-40.0, -15.0), (-8.0, -8.0), (0.0, 0.0), (8.0, 8.0), (40.0, 15.0)])
@pytest.mark.parametrize("seen", ["eye", "ear"])
def test_the_head_is_tilted_as_far_as_it_can_be(body: Body, angle: float, tilt: float, seen: str) -> None:
    """The tilt follows the eyes, or else the ears."""
    heads = [JOINT_NAMES.index(f"{side} {seen}") for side in ("right", "left")]
    other = [JOINT_NAMES.index(f"{side} {'ear' if seen == 'eye' else 'eye'}") for side in ("right", "left")]
    asked = body.rest.copy()
    away = np.radians(angle)
    asked[heads[1]] = asked[heads[0]] + 0.05 * np.array((np.cos(away), np.sin(away)))
    asked[other] = np.nan
    fitted, rest = (each[heads[1]] - each[heads[0]] for each in (body.fitted(asked), body.rest))
    turned = np.degrees(np.arctan2(fitted[1], fitted[0]) - np.arctan2(rest[1], rest[0]))
    assert turned == pytest.approx(tilt)


def test_a_head_that_is_not_seen_is_upright(body: Body) -> None:
    asked = body.rest.copy()
    asked[14:] = np.nan
    assert np.allclose(body.fitted(asked)[14:] - body.fitted(asked)[1], body.rest[14:] - body.rest[1])


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
    # The arms hang down in both, and the canvases' shorter sides are equal.
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


@pytest.mark.parametrize("size", [(512, 512), (512, 768)])
def test_it_stands_under_the_figure_on_the_bodys_ground(body: Body, size: tuple[int, int]) -> None:
    sheet = sheet_of(person(shift=0.1, scale=0.5), size=size)
    fitted = places(fit_pose(sheet, body))
    middles = [(each[:, 0].min() + each[:, 0].max()) / 2 for each in (places(sheet), fitted)]
    assert middles[1] == pytest.approx(middles[0], abs=0.5)
    assert fitted[:, 1].max() / size[1] == pytest.approx(body.rest[:, 1].max(), abs=1e-3)


@pytest.mark.parametrize(
    ("shift", "ground", "axis", "edge"),
    [(-0.4, 0.0, 0, "low"), (0.4, 0.0, 0, "high"), (0.0, -0.5, 1, "low"), (0.0, 0.1, 1, "high")],
)
def test_it_keeps_its_margin_from_the_edges(body: Body, shift: float, ground: float, axis: int, edge: str) -> None:
    """Three tenths of the trunk length, for what is drawn beyond the joints."""
    moved = Body(rest=body.rest + (0, ground), limbs=body.limbs)
    fitted = places(fit_pose(sheet_of(person(shift=shift, scale=0.4), size=(512, 512)), moved))[:, axis] / 512
    beyond = {"low": fitted.min(), "high": 1 - fitted.max()}
    assert beyond[edge] == pytest.approx(0.3 * body.trunk_length)


def test_what_is_larger_than_the_canvas_lies_in_its_middle_and_is_cut_off(body: Body) -> None:
    large = Body(rest=body.rest * 4, limbs=body.limbs)
    sheet = sheet_of(person(shift=0.2, scale=0.4), size=(512, 512))
    whole = large.fitted(places(sheet) / 512)
    whole += 0.5 - (whole.min(axis=0) + whole.max(axis=0)) / 2
    assert (whole.min(axis=0) < 0).all() and (whole.max(axis=0) > 1).all()
    assert np.allclose(places(fit_pose(sheet, large)) / 512, np.clip(whole, 0, 1))


def test_of_two_figures_the_one_of_the_body_stays_where_it_is(body: Body) -> None:
    standing = preset_sheets()["standing"]
    small = tuple(point and Keypoint(point.x / 3, point.y / 3) for point in standing.skeleton.people[0])
    fitted = fit_pose(replace(standing, skeleton=Skeleton((small, *standing.skeleton.people))), body)
    assert np.allclose(places(fitted), places(standing))
    assert said(fitted) == ["pose.fitted", "pose.one_of_many"]


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
    with pytest.raises(UserError, match=r"^The model's pose file \(.+/body_poses\.json\) is damaged, or "):
        read_body(file)


def test_somebody_seen_from_behind_is_drawn_from_the_front(body: Body) -> None:
    behind = tuple(person()[other] for other in MIRRORED)
    fitted = places(fit_pose(sheet_of(behind), body))
    assert np.allclose(fitted, places(fit_pose(sheet_of(person()), body)))
