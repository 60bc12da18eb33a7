"""Keypoint files of any program become skeletons; unusable parts are reported, and do not affect the rest."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from ipa_app.errors import UserError
from ipa_app.pose.body import JOINT_NAMES
from ipa_app.pose.keypoint_files import KeypointFile, UnknownCanvasError, read_keypoints
from ipa_app.pose.point_orders import ORDERS
from ipa_app.pose.skeleton import MOST_PEOPLE
from tests.drawn_skeletons import SIZE, STANDING, Spots, as_openpose, moved

CANVAS = {"canvas_width": SIZE[0], "canvas_height": SIZE[1]}
BY_NAME: dict[str, Any] = dict(zip(JOINT_NAMES, STANDING, strict=True))
HAND = [(300.0 + i, 340.0 + 2 * i) for i in range(21)]
FACE = [(230.0 + i, 80.0 + i) for i in range(70)]


def flat(spots: Spots, confidence: float | None = 0.9) -> list[float]:
    return [
        value for spot in spots for value in ((*(spot or (0.0, 0.0)), *([] if confidence is None else [confidence])))
    ]


def ordered(count: int) -> list[tuple[float, float]]:
    """Return STANDING in another program's order, with points that it lacks at the neck."""
    points = [BY_NAME[name] if name else BY_NAME["neck"] for name in ORDERS[count].body]
    return [spot or (0.0, 0.0) for spot in (points + [(9.0, 9.0)] * (count - len(points)))]


def file(*people: Any, **changes: Any) -> dict[str, Any]:
    return {"people": list(people), **CANVAS, **changes}


def person(spots: Spots = STANDING, **more: Any) -> dict[str, Any]:
    return {"pose_keypoints_2d": flat(spots), **more}


def read(data: Any, canvas: tuple[float, float] | None = None) -> KeypointFile:
    """Read data after a round trip through JSON."""
    return read_keypoints(json.loads(json.dumps(data)), canvas=canvas)


def spots_of(found: KeypointFile, number: int = 0) -> Spots:
    width, height = found.size
    return [
        point and (round(point.x * width, 3), round(point.y * height, 3)) for point in found.skeleton.people[number]
    ]


def stands(found: KeypointFile, *, neck: tuple[float, float] | None = (256, 170)) -> bool:
    """Whether there is a single figure, posed like STANDING."""
    return len(found.skeleton.people) == 1 and spots_of(found) == [STANDING[0], neck, *STANDING[2:]]


FORMS: dict[str, Any] = {
    "flat": flat(STANDING),
    "flat, no confidence": flat(STANDING, None),
    "lists": [list(spot or ()) for spot in STANDING],
    "lists with confidence": [[*(spot or ()), 1] for spot in STANDING],
    "objects": [{"x": (spot or (0, 0))[0], "y": (spot or (0, 0))[1]} for spot in STANDING],
    "objects with names": [{"name": n, "x": (s or (0, 0))[0], "y": (s or (0, 0))[1]} for n, s in BY_NAME.items()],
    "by name": {name.replace(" ", "_"): list(spot or ()) for name, spot in BY_NAME.items()},
    "columns": {axis: [(spot or (0, 0))[i] for spot in STANDING] for i, axis in enumerate(("x", "y"))},
    "strings": [str(value) for value in flat(STANDING)],
    "strings among numbers": [str(value) for value in flat(STANDING)[:3]] + flat(STANDING)[3:],
    "fractions": flat([(x / 512, y / 768) for x, y in (spot or (0, 0) for spot in STANDING)]),
    "from -1 to 1": flat([(x / 256 - 1, y / 384 - 1) for x, y in (spot or (0, 0) for spot in STANDING)]),
    "two and a depth": [[*(spot or ()), -0.3] for spot in STANDING],
    "by name, with a depth": {name: [*(spot or ()), -0.3] for name, spot in BY_NAME.items()},
    "three dimensions": [value for spot in STANDING for value in (*(spot or (0.0, 0.0)), -0.3, 0.9)],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["pose_keypoints_2d", "pose_keypoint_2d", "keypoints"])
def test_the_same_figure_is_read_in_every_form(form: str, name: str) -> None:
    found = read(file({name: FORMS[form]}))
    assert stands(found)
    assert (found.size, found.notes) == (SIZE, ())


@pytest.mark.parametrize("called", ["name", "part"])
def test_points_that_have_names_may_come_in_any_order(called: str) -> None:
    points = [{called: name, "x": spot[0], "y": spot[1]} for name, spot in BY_NAME.items() if spot]
    assert stands(read(file({"keypoints": points[::-1]})))


def named_file(where: str, names: list[str], spots: Spots) -> dict[str, Any]:
    """Return a file with one person whose points have names, listed `where`."""
    somebody: dict[str, Any] = {"image_id": 1, "category_id": 2, "keypoints": flat(spots)}
    if where == "categories":
        others = {"id": 1, "keypoints": JOINT_NAMES}
        images = [{"id": 1, "width": SIZE[0], "height": SIZE[1]}]
        categories = [others, {"id": 2, "keypoints": names}]
        return {"images": images, "annotations": [somebody], "categories": categories}
    if where == "person":
        return file({**somebody, "keypoint_names": names})
    # As MMPose writes it; the numbers may come in any order.
    by_number = {str(number): name for number, name in reversed(list(enumerate(names)))}
    colours = {"keypoint_name2id": {name: number for number, name in by_number.items()}, "keypoint_colors": [[0] * 3]}
    meta = {"keypoint_colors": {"__ndarray__": [[0, 255, 0]] * len(names)}, "keypoint_id2name": by_number, **colours}
    return {"meta_info": meta, "instance_info": [{"frame_id": 0, "instances": [somebody]}], **CANVAS}


NAMED_BY = pytest.mark.parametrize("where", ["categories", "meta_info", "person"])


@NAMED_BY
def test_names_that_a_file_gives_to_its_points_tell_their_order(where: str) -> None:
    ours = [name.replace(" ", "_") for name in JOINT_NAMES]
    found = read(named_file(where, ours[::-1], list(reversed(STANDING))))
    assert stands(found) and found.notes == ()
    coco = [name.replace(" ", "_") for name in ORDERS[17].body if name]
    # Eighteen points, as many as OpenPose has, in another order.
    assert stands(read(named_file(where, [*coco, "neck"], [*ordered(17), STANDING[1]])))
    # More points than any known order has, some of which are of no use.
    assert stands(read(named_file(where, ["root", "toe", *ours], [(9.0, 9.0), (9.0, 9.0), *STANDING])))


@NAMED_BY
def test_an_animal_whose_points_are_named_is_no_person(where: str) -> None:
    dog = ["left_eye", "right_eye", "nose", "neck", "root_of_tail", "left_shoulder", "left_elbow", "left_front_paw"]
    dog += ["right_shoulder", "right_elbow", "right_front_paw", "left_hip", "left_knee", "left_back_paw"]
    dog += ["right_hip", "right_knee", "right_back_paw"]
    with pytest.raises(UserError, match="^Nobody in this file can be used: person 1 has the points of something other"):
        read(named_file(where, dog, STANDING[:17]))


def test_an_animal_with_a_name_at_every_point_is_no_person_either() -> None:
    paws = {"nose": [9, 9], "neck": [9, 19], "left_eye": [19, 9], "front_paw": [90, 90]}
    listed = [{"name": name, "x": x, "y": y} for name, (x, y) in paws.items()]
    for dog in (paws, {"keypoints": listed}):
        found = read(file(person(), dog))
        assert stands(found)
        assert found.notes == ("Person 2 has the points of something other than a person, and was left out.",)


def test_names_that_are_more_or_fewer_than_the_points_are_not_theirs() -> None:
    assert stands(read(file(person(), keypoint_names=["left_eye", "nose"])))
    assert stands(read(file(person(), keypoint_names=[7] * 18)))


@NAMED_BY
@pytest.mark.parametrize("name", ["", "point "])
def test_names_that_are_just_numbers_say_nothing(where: str, name: str) -> None:
    assert stands(read(named_file(where, [f"{name}{number}" for number in range(18)], STANDING)))


@pytest.mark.parametrize("count", sorted(ORDERS))
def test_the_same_figure_is_read_in_every_order(count: int) -> None:
    found = read(file({"keypoints": flat(ordered(count))}))
    missing = set(JOINT_NAMES) - set(ORDERS[count].body)
    has_neck = "neck" not in missing
    # If a program has no neck, it is midway between the shoulders.
    expected = [spot if name not in missing else None for name, spot in BY_NAME.items()]
    expected[1] = (256, 170) if has_neck else (256, 175)
    assert spots_of(found) == expected
    assert found.notes == ()


def test_the_canvas_is_the_files_or_the_one_that_is_given() -> None:
    assert read(file(person(), canvas_width="512", canvas_height="768.0")).size == SIZE
    assert read({"people": [person()]}, canvas=SIZE).size == SIZE
    assert read(file(person()), canvas=(64, 64)).size == SIZE
    for unknown in ({"people": [person()]}, file(person(), canvas_width=0), file(person(), canvas_height=None)):
        with pytest.raises(UnknownCanvasError, match="does not say how large"):
            read(unknown)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (None, "has no points"),
        ({}, "has no points"),
        ("somebody", "has no points"),
        ({"pose_keypoints_2d": None}, "has no points"),
        ({"pose_keypoints_2d": []}, "has no points"),
        ({"pose_keypoints_2d": [0.0] * 54}, "has no points"),
        ({"pose_keypoints_2d": [0.0, 0.0, 1.0] * 18}, "has no points"),
        ({"pose_keypoints_2d": [-1.0, -1.0, 1.0] * 18}, "has no points"),
        ({"pose_keypoints_2d": [math.nan] * 54}, "has no points"),
        ({"pose_keypoints_2d": [50.0, 50.0, 1.0] + [0.0] * 51}, "has only one point"),
        ({"pose_keypoints_2d": [900.0, 50.0, 1.0] * 18}, "lies outside the picture"),
        ({"pose_keypoints_2d": [1.0, 2.0, 1.0] * 20}, "has its points in an unknown order"),
        ({"pose_keypoints_2d": [90.0, 95.0, 1.0] * 12}, "has its points in an unknown order"),
        ({"keypoints": [90.0, 95.0, 0.1] * 17}, "is only guessed in the file"),
        ({"pose_keypoints_2d": [1.0] * 53}, "has its points in an unknown order"),
    ],
)
def test_a_bad_person_is_left_out_and_takes_nobody_along(bad: Any, reason: str) -> None:
    found = read(file(person(), bad))
    assert stands(found)
    assert found.notes == (f"Person 2 {reason}, and was left out.",)
    found = read(file(bad, person(), bad))
    assert stands(found)
    assert found.notes == tuple(f"Person {number} {reason}, and was left out." for number in (1, 3))


def test_where_nobody_can_be_used_it_is_said_why() -> None:
    with pytest.raises(UserError, match="^Nobody in this file can be used: person 1 has only one point.$"):
        read(file({"pose_keypoints_2d": [50.0, 50.0, 1.0] + [0.0] * 51}, None))
    with pytest.raises(UserError, match="no person in it"):
        read(file())
    with pytest.raises(UserError, match="No keypoints were found"):
        read({"header": "3D editor", "data": {"bones": []}})


def changed(*joints: int, to: Any) -> list[Any]:
    """Return STANDING with other values for some joints."""
    values: list[Any] = flat(STANDING)
    for joint in joints:
        values[3 * joint : 3 * joint + 3] = to
    return values


@pytest.mark.parametrize(
    "nothing", [[0, 0, 0], [None, None, None], [-1, -1, 0], [-1, -1, 1], [math.nan, 3, 1], [5, 5, 0]]
)
def test_points_that_were_not_seen_are_no_mistake(nothing: list[Any]) -> None:
    found = read(file({"pose_keypoints_2d": changed(4, 10, to=nothing)}))
    assert [JOINT_NAMES[i] for i, spot in enumerate(spots_of(found)) if spot is None] == ["right wrist", "right ankle"]
    assert found.notes == ()


@pytest.mark.parametrize(
    ("to", "what"),
    [
        ([250, 790, 0.9], "lies outside the picture"),
        ([-30, 20, 0.9], "lies outside the picture"),
        ([1e9, 20, 0.9], "lies outside the picture"),
        (["left", 20, 0.9], "cannot be read"),
        ([[], {}, 0.9], "cannot be read"),
        ([True, 20, 0.9], "cannot be read"),
    ],
)
def test_a_bad_point_is_left_out_and_takes_no_other_along(to: list[Any], what: str) -> None:
    found = read(file(person(), {"pose_keypoints_2d": changed(10, 13, to=to)}))
    assert spots_of(found, 1) == [spot if joint not in (10, 13) else None for joint, spot in enumerate(STANDING)]
    assert found.notes == (f"For person 2, this {what} and was left out: right ankle and left ankle.",)


@pytest.mark.parametrize("bad", ["left", 7, {}, {"x": 1}, [1], [1, 2, 3, 4, 5, 6], [["x"]]])
def test_a_bad_point_in_a_list_of_points_takes_no_other_along(bad: Any) -> None:
    points: list[Any] = [list(spot or ()) for spot in STANDING]
    points[10] = bad
    found = read(file({"pose_keypoints_2d": points}))
    assert [joint for joint, spot in enumerate(spots_of(found)) if spot is None] == [10]
    assert found.notes == ("For person 1, this cannot be read and was left out: right ankle.",)


def test_guesses_are_left_out() -> None:
    scores = [0.9] * 17
    scores[9] = scores[10] = scores[15] = 0.1
    data = {"keypoints": [list(spot) for spot in ordered(17)], "keypoint_scores": scores}
    found = read({"instances": [data], "width": 512, "height": 768})
    assert found.notes == (
        "For person 1, this is only guessed in the file and was left out: right wrist, left wrist and left ankle.",
    )
    assert sum(spot is None for spot in spots_of(found)) == 3
    # OpenPose lists its points at any confidence; COCO annotations write 1 for "hidden" and 2 for "seen".
    assert stands(read(file({"pose_keypoints_2d": flat(STANDING, 0.06)})))
    assert read(file({"keypoints": flat(ordered(17), 1)})).notes == ()


@pytest.mark.parametrize(("seen", "is_kept"), [(1, False), (2, True), (3, True)])
def test_two_points_are_the_fewest_that_are_a_person(seen: int, is_kept: bool) -> None:
    spots = [spot if number < seen else None for number, spot in enumerate(STANDING)]
    found = read(file(person(), person(spots)))
    assert len(found.skeleton.people) == 1 + is_kept
    assert len(found.notes) == 1 - is_kept


def test_guessed_fingers_of_a_whole_body_are_left_out_and_those_of_a_hand_of_its_own_are_not() -> None:
    """MMPose lists guesses among its 133 points; OpenPose lists only hands that it has seen."""
    body = flat([*ordered(17), *[(1.0, 1.0)] * 6, *FACE[:68]])
    whole = read(file({"keypoints": [*body, *flat(HAND, 0.2), *flat(HAND, 0.3)]})).skeleton.details[0]
    assert whole.left_hand is None and whole.right_hand is not None and None not in whole.right_hand
    own = read(file(person(hand_left_keypoints_2d=flat(HAND, 0.2)))).skeleton.details[0]
    assert own.left_hand is not None and None not in own.left_hand


UNUSABLE = file(person([STANDING[0]] + [None] * 17))


@pytest.mark.parametrize("frames", [[UNUSABLE], [file(), UNUSABLE], [UNUSABLE, file()]])
def test_why_nobody_can_be_used_is_said_whichever_frame_they_are_in(frames: list[Any]) -> None:
    with pytest.raises(UserError, match=r"^Nobody in this file can be used: "):
        read(frames)


@pytest.mark.parametrize("around", ["result", "frames"])
def test_the_canvas_may_be_told_outside_of_the_people(around: str) -> None:
    """If two are given, the inner one counts."""
    people = {"people": [person()]}
    assert stands(read({**CANVAS, around: [people]}))
    assert stands(read({"canvas_width": 10, "canvas_height": 10, around: [{**people, **CANVAS}]}))


def test_of_several_pictures_the_first_with_somebody_is_used() -> None:
    frames = [file(), file(None), file(person()), file(person(moved(STANDING, by=(50, 0))))]
    found = read(frames)
    assert stands(found)
    assert found.notes == ("This file has 4 frames; only frame 3 was used.",)


def test_of_very_many_people_the_first_are_used() -> None:
    found = read(file(*[person()] * (MOST_PEOPLE + 3)))
    assert len(found.skeleton.people) == MOST_PEOPLE
    assert found.notes == (f"This file has {MOST_PEOPLE + 3} people; only the first {MOST_PEOPLE} were used.",)


def test_hands_and_faces_come_along() -> None:
    parts = {
        "hand_left_keypoints_2d": flat(HAND),
        "hand_right_keypoints_2d": [[x - 100, y] for x, y in HAND],
        "face_keypoints_2d": flat(FACE),
    }
    details = read(file(person(**parts))).skeleton.details[0]
    assert details.left_hand and details.right_hand and details.face
    assert details.left_hand[3] == pytest.approx((303 / 512, 346 / 768))
    assert details.right_hand[3] == pytest.approx((203 / 512, 346 / 768))
    assert None not in details.face
    whole = read(
        file({"keypoints": flat([*ordered(17), *[(1.0, 1.0)] * 6, *FACE[:68], *HAND, *HAND])})
    ).skeleton.details
    assert whole[0].left_hand == whole[0].right_hand == details.left_hand
    assert whole[0].face == (*details.face[:68], None, None)


@pytest.mark.parametrize("nothing", [None, [], [0.0] * 63, [-1.0, -1.0, 1.0] * 21])
def test_hands_may_be_missing_in_every_way(nothing: Any) -> None:
    found = read(file(person(hand_left_keypoints_2d=nothing)))
    assert found.skeleton.details == () and found.notes == ()


@pytest.mark.parametrize(("written", "seen"), [(70, 70), (71, 70), (68, 68), (12, 12)])
def test_faces_of_other_detectors_are_taken_as_they_come(written: int, seen: int) -> None:
    face = read(file(person(face_keypoints_2d=[10.0, 20.0, 0.7] * written))).skeleton.details[0].face
    assert face is not None
    assert sum(point is not None for point in face) == seen


@pytest.mark.parametrize(
    ("part", "bad", "note"),
    [
        ("hand_left_keypoints_2d", [1.0] * 60, "The left hand of person 1 cannot be read, and was left out."),
        ("hand_right_keypoints_2d", "x" * 63, "The right hand of person 1 cannot be read, and was left out."),
        ("face_keypoints_2d", {"a": 1}, "The face of person 1 cannot be read, and was left out."),
        # MediaPipe's face mesh does not have the 70 points that are drawn.
        ("face_keypoints_2d", [9.0] * 3 * 468, "The face of person 1 cannot be read, and was left out."),
    ],
)
def test_bad_hands_and_faces_are_left_out_and_take_nothing_along(part: str, bad: Any, note: str) -> None:
    found = read(file(person(**{part: bad})))
    assert stands(found)
    assert found.skeleton.details == ()
    assert found.notes == (note,)


def test_a_bad_point_of_a_hand_is_left_out() -> None:
    values: list[Any] = flat(HAND)
    values[0:3], values[6:9] = [600, 20, 1], ["x", 20, 1]
    found = read(file(person(hand_left_keypoints_2d=values)))
    hand = found.skeleton.details[0].left_hand
    assert hand is not None
    assert [number for number, point in enumerate(hand) if point is None] == [0, 2]
    assert found.notes == (
        "Some points of person 1's left hand lie outside the picture and were left out.",
        "Some points of person 1's left hand cannot be read and were left out.",
    )


def test_a_mediapipe_point_that_is_not_visible_is_only_guessed() -> None:
    points = [{"x": x / 512, "y": y / 768, "z": 0.1, "visibility": 0.9} for x, y in ordered(33)]
    points[27]["visibility"] = 0.2
    found = read({"landmarks": [points]}, canvas=SIZE)
    assert found.notes == ("For person 1, this is only guessed in the file and was left out: left ankle.",)
    assert spots_of(found)[10] == STANDING[10]


@pytest.mark.parametrize("far", [(-0.05, -0.01), (2.5, 0.5)])
def test_guesses_do_not_say_what_coordinates_are_in(far: tuple[float, float]) -> None:
    points = [{"x": x / 512, "y": y / 768, "z": 0.1, "visibility": 0.9} for x, y in ordered(33)]
    points[27] |= {"x": far[0], "y": 0.6, "visibility": 0.2}
    points[28] |= {"x": 0.4, "y": far[1], "visibility": 0.2}
    assert spots_of(read({"landmarks": [points]}, canvas=SIZE))[:10] == [STANDING[0], (256, 175), *STANDING[2:10]]


def test_the_openpose_files_of_this_suite_are_what_openpose_writes() -> None:
    assert stands(read(file({"pose_keypoints_2d": as_openpose(STANDING)[0]})))
