"""The people in each picture and their canvas are found in files of every structure."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ipa_app.pose.written_people import frames_in
from tests.drawn_skeletons import STANDING, as_openpose

FLAT = as_openpose(STANDING)[0]
PAIRS = [list(spot or ()) for spot in STANDING]
PERSON = {"pose_keypoints_2d": FLAT}
CANVAS = {"canvas_width": 512, "canvas_height": 768}


def people_of(data: Any) -> list[int]:
    """Return the number of people in each picture."""
    return [len(frame.people) for frame in frames_in(json.loads(json.dumps(data)))]


SHAPES: dict[str, tuple[Any, list[int]]] = {
    "OpenPose": ({"version": 1.3, "people": [PERSON, PERSON]}, [2]),
    "OpenPose, nobody": ({"version": 1.3, "people": []}, [0]),
    "ComfyUI": ([{"people": [PERSON], **CANVAS}], [1]),
    "ComfyUI, frames": (
        [{"people": [PERSON], **CANVAS}, {"people": [], **CANVAS}, {"people": [PERSON] * 2}],
        [1, 0, 2],
    ),
    "people by number": ({"people": {"0": PERSON, "1": PERSON}}, [2]),
    "one is null": ({"people": [PERSON, None]}, [2]),
    "one has no points": ({"people": [PERSON, {"pose_keypoints_2d": None}]}, [2]),
    "one person": (PERSON, [1]),
    "one list": (FLAT, [1]),
    "an old editor": ({"width": 512, "height": 768, "keypoints": [PAIRS, PAIRS]}, [2]),
    "an old editor, one list": ({"width": 512, "height": 768, "keypoints": PAIRS}, [1]),
    "an old editor, one list of two": ({"width": 512, "height": 768, "keypoints": PAIRS * 2}, [2]),
    "COCO": (
        {
            "images": [{"id": 7, "width": 512, "height": 768}, {"id": 9, "width": 64, "height": 64}],
            "annotations": [
                {"image_id": 9, "keypoints": FLAT[:51], "bbox": [1, 2, 3, 4]},
                {"image_id": 7, "keypoints": FLAT[:51]},
                {"image_id": 9, "keypoints": FLAT[:51]},
                {"image_id": 9, "bbox": [1, 2, 3, 4]},
            ],
            "categories": [{"name": "person", "keypoints": ["nose", "left_eye"]}],
        },
        [2, 1],
    ),
    "COCO, nobody": ({"images": [{"id": 7, "width": 512, "height": 768}], "annotations": []}, [0]),
    "COCO, boxes alone": ({"images": {}, "annotations": [{"image_id": 9, "bbox": [1, 2, 3, 4]}, None]}, [0]),
    "COCO, bare lists": ({"annotations": [FLAT[:51], FLAT[:51]]}, [2]),
    "COCO results": ([{"image_id": "a", "keypoints": FLAT[:51]}, {"image_id": "b", "keypoints": FLAT[:51]}], [1, 1]),
    "MMPose": ([[{"keypoints": PAIRS[:17], "keypoint_scores": [0.9] * 17}]], [1]),
    "MMPose, frames": (
        {
            "meta_info": {"dataset_name": "coco"},
            "instance_info": [{"frame_id": 1, "instances": [{"keypoints": PAIRS[:17]}]}],
        },
        [1],
    ),
    "Ultralytics": ([{"name": "person", "box": {"x1": 1}, "keypoints": {"x": [1.0] * 17, "y": [2.0] * 17}}], [1]),
    "MediaPipe": ({"landmarks": [[{"x": 0.5, "y": 0.5, "z": 0.0, "visibility": 1.0}] * 33]}, [1]),
    "MediaPipe, in a browser": ({"poseLandmarks": [{"x": 0.5, "y": 0.5}] * 33}, [1]),
    "PoseNet": ({"score": 1, "keypoints": [{"part": "nose", "score": 1, "position": {"x": 1, "y": 2}}]}, [1]),
    "joints by name": ({"nose": [1, 2], "left_eye": [3, 4], "right_eye": [5, 6]}, [1]),
    "AlphaPose": ({"a.jpg": {"version": 0.1, "bodies": [{"joints": FLAT[:51]}]}, "b.jpg": {"bodies": []}}, [1, 0]),
    "DWPose in Python": (
        {"bodies": {"candidate": PAIRS * 2, "subset": [[0.0] * 18] * 2}, "hands": [], "faces": []},
        [2],
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_people_are_found_in_every_shape(shape: str) -> None:
    data, counts = SHAPES[shape]
    assert people_of(data) == counts


@pytest.mark.parametrize(
    "data",
    [
        None,
        1,
        "text",
        [],
        {},
        [1, 2, 3],
        {"a": {"b": [{}]}},
        {"version": "ap10k", "animals": [FLAT]},
        [[[[[[[[[[PERSON]]]]]]]]]],
    ],
)
def test_where_there_are_no_people_there_are_no_frames(data: Any) -> None:
    assert people_of(data) == []


@pytest.mark.parametrize(
    "around",
    [
        CANVAS,
        {"canvas_width": "512", "canvas_height": "768"},
        {"width": 512, "height": 768},
        {"image_width": 512.0, "image_height": 768.0},
        {"canvas_width": 0, "canvas_height": 0, "width": 512, "height": 768},
        {"canvas": {"width": 512, "height": 768}},
        {"size": {"width": 512, "height": 768}},
    ],
)
def test_the_canvas_is_found_by_every_name(around: dict[str, Any]) -> None:
    assert [frame.canvas for frame in frames_in({"people": [PERSON], **around})] == [(512, 768)]
    # Also around a list of pictures, a bare list of people, and a single person.
    for inner in ({"frames": [{"people": [PERSON]}]}, {"result": [PERSON, PERSON]}, {"result": [[FLAT]]}, PERSON):
        assert [frame.canvas for frame in frames_in({**inner, **around})] == [(512, 768)]
    # For each of its pictures.
    results = [{"image_id": name, "keypoints": FLAT[:51]} for name in ("a", "b")]
    assert [frame.canvas for frame in frames_in({"result": results, **around})] == [(512, 768)] * 2


@pytest.mark.parametrize(
    "around", [{}, {"canvas_width": 512}, {"canvas_width": 0, "canvas_height": -4}, {"width": None, "height": "high"}]
)
def test_a_canvas_that_is_not_said_is_none(around: dict[str, Any]) -> None:
    assert [frame.canvas for frame in frames_in({"people": [PERSON], **around})] == [None]


def test_every_picture_of_a_file_of_annotations_has_its_own_canvas() -> None:
    data, _ = SHAPES["COCO"]
    assert [frame.canvas for frame in frames_in(data)] == [(64, 64), (512, 768)]
    # For a picture that is not listed, the file itself may have the size.
    others = {**CANVAS, "images": [None, {"id": 9, "width": 64, "height": 64}]}
    assert [frame.canvas for frame in frames_in({**data, **others})] == [(64, 64), (512, 768)]
    assert [frame.canvas for frame in frames_in({**data, "images": None})] == [None, None]
