"""Files of keypoints that somebody has spoilt, as text and as bytes; and drawings that show no pose or half of one."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from PIL import Image

from ipa_app.pose.detect import pose_image
from ipa_app.pose.detector import skeleton_from_people
from ipa_app.pose.draw import draw_sheet
from ipa_app.pose.sheet import PoseSheet
from tests.drawn_skeletons import STANDING, drawn, without
from tests.fuzz.hostile import altered, anything, examples, holds, spoilt, texts
from tests.pose.test_keypoint_files import FACE, HAND, file, flat, ordered, person

FILES: list[Any] = [
    file(person()),
    file(person(hand_left_keypoints_2d=flat(HAND), face_keypoints_2d=flat(FACE)), person()),
    [file(person()), file()],
    {"people": {"a": person()}, "canvas_width": 512, "canvas_height": 768},
    {"width": 512, "height": 768, "keypoints": [list(spot) for spot in ordered(18)]},
    {
        "images": [{"id": 1, "width": 512, "height": 768}],
        "annotations": [{"image_id": 1, "keypoints": flat(ordered(17)), "bbox": [0, 0, 1, 1]}],
    },
    {"instance_info": [{"instances": [{"keypoints": ordered(17), "keypoint_scores": [0.9] * 17}]}]},
    {"poseLandmarks": [{"x": 0.5, "y": 0.5, "z": 0, "visibility": 1}] * 33, "width": 512, "height": 512},
    {"bodies": {"candidate": [[0.5, 0.5]] * 18, "subset": [[*range(18)]]}, "canvas_width": 9, "canvas_height": 9},
    {"keypoints": [{"name": "nose", "x": 10, "y": 20}, {"name": "neck", "x": 12, "y": 40}], "width": 99, "height": 99},
    json.dumps(file(person())),
    PoseSheet.from_json(json.dumps(file(person()))).to_json(),
]
WRITTEN = [json.dumps(each).encode(encoding) for each in FILES for encoding in ("utf-8", "utf-16")]


def read(text: str) -> None:
    """Read keypoints as the pose tab does, and draw them."""
    sheet = PoseSheet.from_json(text, canvas=(512, 768))
    draw_sheet(sheet, (64, 96))
    assert PoseSheet.from_json(sheet.to_json()).skeleton.people


@examples(120)
def test_keypoints_with_other_things_in_them(count: int) -> None:
    holds(lambda data: read(json.dumps(data)), st.one_of(altered(FILES), anything(30)), count=count)


@examples(60)
def test_keypoints_as_text(count: int) -> None:
    holds(read, st.one_of(texts(200), spoilt(WRITTEN).map(lambda data: data.decode("utf-8", "replace"))), count=count)


@st.composite
def drawings(draw: st.DrawFn) -> Image.Image:
    """A drawn skeleton, or part of one, with boxes of any colour over it, on a canvas of any shape."""
    picture = drawn(draw(st.sampled_from([STANDING, without(STANDING, *range(8, 18))])), ground=draw(colours()))
    side = st.integers(8, 320)
    picture = picture.resize((draw(side), draw(side)), draw(st.sampled_from([0, 1])))
    for _ in range(draw(st.integers(0, 5))):
        left, top = draw(st.integers(0, picture.width - 1)), draw(st.integers(0, picture.height - 1))
        picture.paste(draw(colours()), (left, top, left + draw(st.integers(1, 90)), top + draw(st.integers(1, 90))))
    return picture


def colours() -> st.SearchStrategy[tuple[int, int, int]]:
    channel = st.integers(0, 255)
    return st.one_of(st.tuples(channel, channel, channel), st.sampled_from([(0, 0, 0), (255, 255, 255), (255, 0, 85)]))


@examples(20)
def test_drawings(count: int) -> None:
    def draw_pose(picture: Image.Image) -> None:
        made = pose_image(picture, (64, 96), find=lambda _: skeleton_from_people([]))
        assert (made.image.mode, made.image.size) == ("RGB", (64, 96))

    holds(draw_pose, drawings(), count=count)
