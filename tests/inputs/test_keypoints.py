"""Every row of "Keypoint files" in docs/inputs.md: the outcome of each kind of file, and the message."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from ipa_app.pose.body import JOINT_NAMES
from ipa_app.pose.point_orders import ORDERS
from ipa_app.pose.sheet import LONGEST_JSON, PoseSheet
from ipa_app.ui.tabs.pose import read_keypoints, read_keypoints_file
from tests.drawn_skeletons import SIZE, STANDING, Spots
from tests.inputs.tables import rows, said
from tests.seen import paragraphs, text_of

ROWS = rows("Keypoint files")
HAND = [(300.0 + i, 340.0 + 2 * i) for i in range(21)]

Case = Callable[[], str | None]
"""Makes an input, hands it to the real code, checks what became of it, and returns what was said."""


def flat(spots: Spots, confidence: float | None = 0.9) -> list[Any]:
    more = [] if confidence is None else [confidence]
    return [value for spot in spots for value in ((*spot, *more) if spot else (0.0, 0.0, 0.0))]


def changed(*values: Any) -> list[Any]:
    """Return STANDING with another right ankle, as a flat list."""
    listed = flat(STANDING)
    listed[30:33] = values
    return listed


def ordered(count: int) -> list[tuple[float, float]]:
    by_name = dict(zip(JOINT_NAMES, STANDING, strict=True))
    listed = [by_name.get(name or "neck") or (0.0, 0.0) for name in ORDERS[count].body]
    return listed + [(300.0, 300.0)] * (count - len(listed))


def file(*people: Any, **changes: Any) -> dict[str, Any]:
    return {"people": list(people), "canvas_width": SIZE[0], "canvas_height": SIZE[1], **changes}


def read(data: Any, *, missing: tuple[int, ...] = (), **canvas: Any) -> str | None:
    """Read a file as the page does, and check that the editor gets STANDING without the missing joints."""
    pose, html, _ = read_keypoints(data if isinstance(data, str) else json.dumps(data), **canvas)
    sheet = PoseSheet.from_json(pose)
    assert (sheet.width, sheet.height) == SIZE
    for joint, (point, spot) in enumerate(zip(sheet.skeleton.people[0], STANDING, strict=True)):
        assert (point is None) == (joint in missing)
        if point is not None and spot is not None:
            near = 6 if joint == 1 else 0.02  # the neck may be the middle of the shoulders
            assert math.dist((point.x * SIZE[0], point.y * SIZE[1]), spot) <= near
    return unwrapped(html)


def unwrapped(html: str) -> str | None:
    return said(tuple(paragraphs(html)))


def refused(data: Any) -> str | None:
    text = data if isinstance(data, str) else json.dumps(data)
    with pytest.raises(gr.Error) as error:
        read_keypoints(text)
    return text_of(error.value.message)


def every(*files: Any, missing: tuple[int, ...] = ()) -> str | None:
    answers = {read(each, missing=missing) for each in files}
    (answer,) = answers
    return answer


def fractions_beyond() -> Spots:
    inside = [(x / SIZE[0], y / SIZE[1]) for x, y in filter(None, STANDING)]
    return [{4: (-0.03, 0.2), 7: (0.6, -0.02), 10: (0.4, 2.3)}.get(joint, spot) for joint, spot in enumerate(inside)]


def signed_hand() -> str | None:
    body, hand = ([(x / 256 - 1, y / 384 - 1) for x, y in filter(None, spots)] for spots in (STANDING, HAND))
    data = file({"pose_keypoints_2d": flat(body), "hand_left_keypoints_2d": flat(hand)})
    (details,) = PoseSheet.from_openpose(data).skeleton.details
    assert details.left_hand is not None and details.left_hand[3] == pytest.approx((303 / 512, 346 / 768))
    return read(data)


def other_orders() -> str | None:
    assert every(*(file({"keypoints": flat(ordered(count))}) for count in (25, 17, 26, 33))) is None
    # These have no faces.
    assert read(file({"keypoints": flat(ordered(15))}), missing=(0, 14, 15, 16, 17)) is None
    return read(file({"keypoints": flat(ordered(16))}), missing=(0, 14, 15, 16, 17))


def whole_bodies() -> str | None:
    for count in (133, 136):
        data = file({"keypoints": flat(ordered(count))})
        assert read(data) is None
        details = PoseSheet.from_openpose(data).skeleton.details[0]
        assert details.left_hand and details.right_hand and details.face
    return None


def forms() -> str | None:
    pairs = [list(spot or ()) for spot in STANDING]
    by_name = dict(zip(JOINT_NAMES, pairs, strict=True))
    return every(
        file({"pose_keypoints_2d": flat(STANDING)}),
        file({"pose_keypoints_2d": flat(STANDING, None)}),
        file({"pose_keypoints_2d": pairs}),
        file({"pose_keypoints_2d": [[x, y, -0.3] for x, y in pairs]}),
        file({"pose_keypoints_2d": [{"x": x, "y": y, "score": 1} for x, y in pairs]}),
        file({"keypoints": {"x": [x for x, _ in pairs], "y": [y for _, y in pairs]}}),
        file({"keypoints": by_name}),
        file({name.replace(" ", "_"): place for name, place in by_name.items()}),
        file({"keypoints": [{"name": name, "x": x, "y": y} for name, (x, y) in by_name.items()]}),
        [file({"pose_keypoint_2d": flat(STANDING), "hand_left_keypoints_2d": None, "face_keypoints_2d": None})],
    )


def named_points() -> str | None:
    names = [name.replace(" ", "_") for name in reversed(JOINT_NAMES)]
    person = {"keypoints": flat(list(reversed(STANDING)))}
    by_number = {str(number): name for number, name in enumerate(names)}
    return every(
        {
            "images": [{"id": 1, "width": SIZE[0], "height": SIZE[1]}],
            "annotations": [{"image_id": 1, "category_id": 3, **person}],
            "categories": [{"id": 3, "name": "person", "keypoints": names}],
        },
        {
            "meta_info": {"keypoint_id2name": by_number},
            "instance_info": [{"instances": [person], "width": 512, "height": 768}],
        },
        file({**person, "keypoint_names": names}),
    )


def texts(folder: Path) -> str | None:
    data = file({"pose_keypoints_2d": flat(STANDING)}, canvas_width="512", canvas_height="768")
    text = json.dumps(data)
    assert (
        every(
            "\ufeff" + text,
            json.dumps(text),
            json.dumps(file({"keypoints": list(map(str, flat(STANDING)))})),
            json.dumps(file({"keypoints": [str(v) for v in flat(STANDING)[:1]] + flat(STANDING)[1:]})),
        )
        is None
    )
    for encoding in ("utf-8-sig", "utf-16"):
        (folder / "pose.json").write_text(text, encoding=encoding)
        pose, html, _ = read_keypoints_file({"path": str(folder / "pose.json")})
        assert PoseSheet.from_json(pose) == PoseSheet.from_openpose(data) and html == ""
    return None


def not_seen() -> str | None:
    signs: list[list[Any]] = [[9, 9, 0], [None, None, None], [math.nan, 3, 1], [-1, -1, 1], [-1, -1, 0], [0, 0, 0]]
    pairs = [list(spot) if spot and joint != 10 else [0, 0] for joint, spot in enumerate(STANDING)]
    return every(
        *(file({"pose_keypoints_2d": changed(*sign)}) for sign in signs), file({"keypoints": pairs}), missing=(10,)
    )


def asked() -> str | None:
    text = json.dumps({"people": [{"pose_keypoints_2d": flat(ordered(25))}]})
    pose, question, kept = read_keypoints(text)
    assert pose == gr.skip() and kept == text
    assert read(text, width=SIZE[0], height=SIZE[1]) is None
    return unwrapped(question)


def beside(bad: Any) -> str | None:
    return read(file({"pose_keypoints_2d": flat(STANDING)}, bad))


def guesses() -> str | None:
    pairs = [list(place) for place in ordered(17)]
    coco = {"keypoints": pairs, "keypoint_scores": [0.1 if i == 16 else 0.9 for i in range(17)]}
    landmarks = [{"x": x, "y": y, "visibility": 0.4 if i == 28 else 0.9} for i, (x, y) in enumerate(ordered(33))]
    answer = read({"instances": [coco], "width": 512, "height": 768}, missing=(10,))
    assert read({"landmarks": [landmarks], "width": 512, "height": 768}, missing=(10,)) == answer
    return answer


def bad_parts() -> str | None:
    person = {"pose_keypoints_2d": flat(STANDING)}
    mesh = read(file({**person, "face_keypoints_2d": [9.0] * 3 * 468}))
    assert mesh == "The face of person 1 cannot be read, and was left out."
    return read(file({**person, "hand_left_keypoints_2d": [1.0] * 60}))


def annotation_file() -> str | None:
    people = [{"image_id": image, "keypoints": flat(ordered(17), 2)} for image in (3, 4)]
    data = {
        "images": [{"id": 4, "width": 9, "height": 9}, {"id": 3, "width": 512, "height": 768}],
        "annotations": people,
    }
    assert read(data) == "This file has 2 frames; only frame 1 was used."
    return read({**data, "annotations": people[:1]})


CASES: dict[str, Case] = {
    "keypoints in pixels": partial(read, file({"pose_keypoints_2d": flat(STANDING)})),
    "keypoints from 0 to 1, or from -1 to 1": partial(
        every,
        file({"pose_keypoints_2d": flat([(x / 512, y / 768) for x, y in filter(None, STANDING)])}),
        file({"pose_keypoints_2d": flat([(x / 256 - 1, y / 384 - 1) for x, y in filter(None, STANDING)])}),
    ),
    "keypoints from 0 to 1, a few of them beyond the edges, or far beyond": partial(
        read, file({"pose_keypoints_2d": flat(fractions_beyond())}), missing=(4, 7, 10)
    ),
    "a hand from -1 to 1, to the right of the middle": signed_hand,
    "OpenPose's 25 points, COCO's 17, Halpe's 26, MPII's 16, MPI's 15, MediaPipe's 33": other_orders,
    "whole bodies of 133 or 136 points": whole_bodies,
    "flat lists, lists of lists, objects, columns, joints by name, with or without a depth": forms,
    "older editors' files, with `width`, `height` and `keypoints`": partial(
        every,
        {"width": 512, "height": 768, "keypoints": [[list(spot or ()) for spot in STANDING]]},
        {"width": 512, "height": 768, "keypoints": [list(spot or ()) for spot in STANDING]},
    ),
    "annotation files, with `images` and `annotations`": annotation_file,
    "a file that names its points: `categories` of annotation files, MMPose's `meta_info`, `keypoint_names`": (
        named_points
    ),
    'an animal whose points have names, such as "tail" or "paw"': partial(
        beside, {"keypoint_names": ["nose", "neck", "left_eye", "right_eye", "root_of_tail"], "keypoints": [9.0] * 15}
    ),
    "points that were not seen: confidence 0, null, NaN, -1, or 0 and 0": not_seen,
    "no confidence": partial(read, file({"pose_keypoints_2d": flat(STANDING, None)})),
    "a file that does not say how large its picture is": asked,
    "a person that is empty or null": partial(beside, {"pose_keypoints_2d": None}),
    "a person with one point": partial(beside, {"pose_keypoints_2d": [9.0, 9.0, 1.0] + [0.0] * 51}),
    "a person all of whose points are guesses": partial(beside, {"keypoints": [90.0, 95.0, 0.1] * 17}),
    "a person outside the picture": partial(beside, {"pose_keypoints_2d": [900.0, 9.0, 1.0] * 18}),
    "a person whose list has an unknown length": partial(beside, {"pose_keypoints_2d": [90.0, 99.0, 1.0] * 20}),
    "a foot below the frame": partial(read, file({"pose_keypoints_2d": changed(210, 790, 0.9)}), missing=(10,)),
    "an unreadable point": partial(read, file({"pose_keypoints_2d": changed("left", [], 0.9)}), missing=(10,)),
    "a guess: confidence below 0.3, or 0.5 for MediaPipe": guesses,
    "a hand with another number of points, or a mesh as a face": bad_parts,
    "a finger outside the picture": partial(
        read, file({"pose_keypoints_2d": flat(STANDING), "hand_left_keypoints_2d": flat([(600, 9), *HAND[1:]])})
    ),
    "several frames": partial(read, [file({"pose_keypoints_2d": flat(STANDING)}), file(None)]),
    "more than 32 people": partial(read, file(*[{"pose_keypoints_2d": flat(STANDING)}] * 40)),
    "nobody usable": partial(refused, file({"pose_keypoints_2d": None}, None)),
    "nobody": partial(refused, file()),
    "JSON of something else, including animals' points": partial(
        refused, {"version": "ap10k", "animals": [flat(STANDING)]}
    ),
    "text that is not JSON, or is nested without end": partial(refused, "[" * 100_000),
    "more than 10,000,000 characters": partial(refused, " " * (LONGEST_JSON + 1)),
    "a canvas of less than 16 or more than 32,768 pixels a side": partial(
        refused, file({"pose_keypoints_2d": [5.0, 6.0, 0.9] * 18}, canvas_width=8, canvas_height=8)
    ),
    "a canvas more than eight times as long as wide": partial(
        refused, file({"pose_keypoints_2d": [10.0, 20.0, 0.9] * 18}, canvas_width=900, canvas_height=100)
    ),
}

ENCODED = "numbers as text, a byte order mark, UTF-16, JSON within JSON"


def test_every_row_is_tried() -> None:
    assert {*CASES, ENCODED} == set(ROWS)


@pytest.mark.parametrize("given", CASES)
def test_keypoints_are_taken_or_refused_as_the_table_says(given: str) -> None:
    assert CASES[given]() == ROWS[given].sentence


def test_texts_of_every_kind_are_taken(tmp_path: Path) -> None:
    assert texts(tmp_path) == ROWS[ENCODED].sentence
