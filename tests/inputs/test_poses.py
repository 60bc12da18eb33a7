"""Every row of "Poses" in docs/inputs.md: the outcome of each kind of picture, and the message."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ipa_app.errors import UserError
from ipa_app.pose.detect import find_pose, pose_image
from ipa_app.pose.detector import skeleton_from_people
from ipa_app.pose.draw import draw_sheet, fit_skeleton_picture
from ipa_app.pose.keypoints import Keypoint
from ipa_app.pose.sheet import PoseSheet
from ipa_app.pose.skeleton import Skeleton
from tests.drawn_skeletons import OPENPOSE_18, OPENPOSE_25, SIZE, STANDING, STUBBY, Spots, drawn, jpeg, moved, without
from tests.inputs.tables import rows, said

ROWS = rows("Poses")
BLACK, GREY, WHITE = (0, 0, 0), (128, 128, 128), (255, 255, 255)
OUTPUT = (256, 256)
ARM = drawn(without(STANDING, 0, *range(5, 18)))

Case = Callable[[], str | None]
"""Makes an input, hands it to the real code, checks what became of it, and returns what was said."""


def nobody(_: Image.Image) -> Skeleton:
    return skeleton_from_people([])


def sheet_of(spots: Spots = STANDING) -> PoseSheet:
    person = tuple(spot and Keypoint(spot[0] / SIZE[0], spot[1] / SIZE[1]) for spot in spots)
    return PoseSheet(Skeleton((person,)), *SIZE)


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


def unfitted() -> str | None:
    made = pose_image(ARM, OUTPUT, find=nobody, fit=lambda sheet: sheet)
    assert made.image.tobytes() == fit_skeleton_picture(ARM, OUTPUT).tobytes()
    return said(made.notes)


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
    "figures with limbs hardly longer than the joints' dots": partial(anew, drawn(STUBBY, ground=WHITE), spots=STUBBY),
    "fingers and faces, on black": partial(as_it_is, with_fingers(drawn(STANDING))),
    "fingers and faces, on grey": fingers_on_grey,
    "a figure smaller than a quarter of its canvas, drawn or in a photo": tiny,
    "lines on black that are not a whole figure, such as an arm": partial(as_it_is, ARM),
    "the same, for a model that draws one body": unfitted,
    "the same, to be edited": partial(edited, ARM),
    "fingers and faces in a drawing, to be edited": lambda: edited(with_fingers(drawn(STANDING))),
    "discs, stripes, charts, photos, toys": other_pictures,
    "a black picture": black,
}


def test_every_row_is_tried() -> None:
    assert set(CASES) == set(ROWS)


@pytest.mark.parametrize("given", CASES)
def test_a_pose_is_taken_or_refused_as_the_table_says(given: str) -> None:
    assert CASES[given]() == ROWS[given].sentence
