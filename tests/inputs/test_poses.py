"""Every row of "Poses" in docs/inputs.md: the outcome of each kind of pose, and the message."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image, ImageDraw

from ipa_app.errors import UserError
from ipa_app.pose.body import JOINT_NAMES
from ipa_app.pose.detect import find_pose, pose_image
from ipa_app.pose.detector import skeleton_from_people
from ipa_app.pose.draw import draw_sheet, fit_skeleton_picture
from ipa_app.pose.keypoints import Keypoint
from ipa_app.pose.point_orders import ORDERS
from ipa_app.pose.sheet import LONGEST_JSON, PoseSheet
from ipa_app.pose.skeleton import Skeleton
from ipa_app.ui.tabs.pose import read_keypoints, read_keypoints_file
from tests.drawn_skeletons import OPENPOSE_18, OPENPOSE_25, SIZE, STANDING, Spots, drawn, jpeg, moved, without
from tests.inputs.tables import rows
from tests.seen import paragraphs, text_of

ROWS = rows("Poses")
BLACK, GREY, WHITE = (0, 0, 0), (128, 128, 128), (255, 255, 255)
OUTPUT = (256, 256)
ARM = drawn(without(STANDING, 0, *range(5, 18)))
HAND = [(300.0 + i, 340.0 + 2 * i) for i in range(21)]

Case = Callable[[], str | None]
"""Makes an input, hands it to the real code, checks what became of it, and returns what was said."""


# ---------------------------------------------------------------- pictures


def nobody(_: Image.Image) -> Skeleton:
    return skeleton_from_people([])


def sheet_of(spots: Spots = STANDING) -> PoseSheet:
    person = tuple(spot and Keypoint(spot[0] / SIZE[0], spot[1] / SIZE[1]) for spot in spots)
    return PoseSheet(Skeleton((person,)), *SIZE)


def said(notes: tuple[str, ...]) -> str | None:
    assert len(notes) <= 1
    return next(iter(notes), None)


def as_it_is(*pictures: Image.Image) -> str | None:
    for picture in pictures:
        made = pose_image(picture, OUTPUT, find=nobody)
        assert made.image.tobytes() == fit_skeleton_picture(picture, OUTPUT).tobytes()
        assert made.notes == ()
    return None


def anew(*pictures: Image.Image, spots: Spots = STANDING, by: tuple[float, float] = (0, 0)) -> str | None:
    """Check that each picture's joints are found where `spots` are, shifted `by`, and redrawn in the app's style."""
    for picture in pictures:
        sheet = find_pose(picture, find=nobody)
        person = sheet.skeleton.people[0]
        for point, spot in zip(person, spots, strict=True):
            assert (point is None) == (spot is None)
            if point is not None and spot is not None:
                place = (point.x * picture.width, point.y * picture.height)
                assert math.dist(place, (spot[0] + by[0], spot[1] + by[1])) < 8
        made = pose_image(picture, OUTPUT, find=nobody)
        assert made.image.tobytes() == draw_sheet(sheet, OUTPUT).tobytes()
        assert made.notes == sheet.notes == ()
    return None


def screenshot() -> Image.Image:
    shot = Image.new("RGB", (640, 940), (240, 240, 240))
    ImageDraw.Draw(shot).ellipse((10, 10, 24, 24), fill=(237, 106, 94))
    ImageDraw.Draw(shot).rectangle((20, 890, 160, 920), fill=(60, 110, 220))
    shot.paste(drawn(STANDING, ground=WHITE), (60, 90))
    return shot


def large() -> Image.Image:
    return drawn(moved(STANDING, scale=2), size=(1024, 1536), half_width=2, radius=3)


def hairlines_and_thin() -> str | None:
    anew(drawn(STANDING, hairlines=True, radius=2))
    return anew(large(), spots=moved(STANDING, scale=2))


def swapped() -> Image.Image:
    return Image.fromarray(np.asarray(drawn(STANDING))[:, :, ::-1].copy())


def with_fingers(picture: Image.Image) -> Image.Image:
    shown = picture.copy()
    for wrist in (STANDING[4], STANDING[7]):
        for finger in range(-3, 4):
            assert wrist is not None
            ImageDraw.Draw(shown).line((*wrist, wrist[0] + 9 * finger, wrist[1] + 60), fill=(0, 0, 255), width=3)
    return shown


def fingers_on_grey() -> str | None:
    made = pose_image(with_fingers(drawn(STANDING, ground=GREY)), SIZE, find=nobody)
    pixels = np.asarray(made.image)
    assert pixels[396, 170, 2] > 200 and pixels[396, 345, 2] > 200  # the middle fingers
    assert pixels[10, 10].max() == 0 and pixels[420, 218].max() > 100
    return said(made.notes)


def tiny() -> str | None:
    canvas = Image.new("RGB", (2048, 2048))
    canvas.paste(drawn(STANDING).resize((181, 271), Image.Resampling.LANCZOS), (900, 900))
    far = Skeleton((tuple(point and Keypoint(point.x / 9, point.y / 9) for point in sheet_of().skeleton.people[0]),))
    made = [
        pose_image(canvas, OUTPUT, find=nobody),
        pose_image(Image.new("RGB", SIZE, WHITE), OUTPUT, find=lambda _: far),
    ]
    for each in made:
        box = each.image.getbbox()
        assert box is not None and 0.65 < (box[3] - box[1]) / OUTPUT[1] < 0.8
    assert made[0].notes == made[1].notes
    return said(made[0].notes)


def edited(picture: Image.Image) -> str | None:
    try:
        return said(find_pose(picture, find=nobody).notes)
    except UserError as error:
        return str(error)


def other_pictures() -> str | None:
    rng, answers = np.random.default_rng(0), set()
    discs, stripes = Image.new("RGB", (512, 512)), Image.new("RGB", (512, 512), WHITE)
    for i in range(40):
        x, y, radius = *rng.integers(20, 490, 2), rng.integers(5, 20)
        colour = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)][i % 6]
        ImageDraw.Draw(discs).ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
        ImageDraw.Draw(stripes).line([0, 13 * i, 512, 13 * i], fill=colour, width=6)
    photo = Image.fromarray(rng.integers(0, 256, (96, 64, 3), dtype=np.uint8)).resize(
        (640, 960), Image.Resampling.BICUBIC
    )
    for picture in (discs, stripes, photo):
        with pytest.raises(UserError) as refused:
            pose_image(picture, OUTPUT, find=nobody)
        answers.add(str(refused.value))
    (answer,) = answers
    return answer


def black() -> str | None:
    with pytest.raises(UserError) as refused:
        pose_image(Image.new("RGB", (64, 64), (4, 4, 4)), OUTPUT, find=nobody)
    return str(refused.value)


# ---------------------------------------------------------------- keypoints


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
            json.dumps(file({"keypoints": [str(v) for v in flat(STANDING)[:1]] + flat(STANDING)[1:]})),
        )
        is None
    )
    for encoding in ("utf-8-sig", "utf-16"):
        (folder / "pose.json").write_text(text, encoding=encoding)
        pose, html, _ = read_keypoints_file({"path": str(folder / "pose.json")})
        assert PoseSheet.from_json(pose) == sheet_of() and html == ""
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
    "a drawn skeleton on black": partial(as_it_is, drawn(STANDING), drawn(STANDING, half_width=9, radius=9)),
    "a drawn skeleton on white, or on grey": partial(anew, drawn(STANDING, ground=WHITE), drawn(STANDING, ground=GREY)),
    "a skeleton whose background shines through": partial(anew, drawn(STANDING, ground=GREY, opacity=0.4)),
    "a skeleton after JPEG, on white": partial(anew, jpeg(drawn(STANDING, ground=WHITE), 60)),
    "a skeleton in a screenshot, with its border": partial(anew, screenshot(), by=(60, 90)),
    "a skeleton of hairlines, or a thin one on a large canvas": hairlines_and_thin,
    "a skeleton in OpenPose's own colours (18 or 25 points)": partial(
        anew, drawn(STANDING, style=OPENPOSE_18), drawn(STANDING, style=OPENPOSE_25)
    ),
    "a skeleton with red and blue swapped": lambda: anew(swapped()),
    "a mirrored skeleton, or only part of one": partial(
        as_it_is, drawn(STANDING).transpose(Image.Transpose.FLIP_LEFT_RIGHT), drawn(without(STANDING, *range(8, 14)))
    ),
    "several skeletons": partial(as_it_is, drawn(STANDING, moved(STANDING, by=(300, 0)), size=(900, 768))),
    "fingers and faces, on black": partial(as_it_is, with_fingers(drawn(STANDING))),
    "fingers and faces, on grey": fingers_on_grey,
    "a figure smaller than a quarter of its canvas, drawn or in a photo": tiny,
    "lines on black that are not a whole figure, such as an arm": partial(as_it_is, ARM),
    "the same, to be edited": partial(edited, ARM),
    "fingers and faces in a drawing, to be edited": lambda: edited(with_fingers(drawn(STANDING))),
    "discs, stripes, charts, photos, toys": other_pictures,
    "a black picture": black,
    "keypoints in pixels": partial(read, file({"pose_keypoints_2d": flat(STANDING)})),
    "keypoints from 0 to 1, or from -1 to 1": partial(
        every,
        file({"pose_keypoints_2d": flat([(x / 512, y / 768) for x, y in filter(None, STANDING)])}),
        file({"pose_keypoints_2d": flat([(x / 256 - 1, y / 384 - 1) for x, y in filter(None, STANDING)])}),
    ),
    "OpenPose's 25 points, COCO's 17, Halpe's 26, MPII's 16, MPI's 15, MediaPipe's 33": other_orders,
    "whole bodies of 133 or 136 points": whole_bodies,
    "flat lists, lists of lists, objects, columns, joints by name": forms,
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
def test_a_pose_is_taken_or_refused_as_the_table_says(given: str) -> None:
    assert CASES[given]() == ROWS[given].sentence


def test_texts_of_every_kind_are_taken(tmp_path: Path) -> None:
    assert texts(tmp_path) == ROWS[ENCODED].sentence
