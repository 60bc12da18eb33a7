"""A drawn skeleton is used as it is if that can be followed, otherwise redrawn from its joints."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ipa_app.messages import Message
from ipa_app.pose.body import JOINT_NAMES
from ipa_app.pose.draw import draw_sheet, draw_skeleton, fit_skeleton_picture
from ipa_app.pose.drawn import DrawnPose, drawn_pose
from ipa_app.pose.keypoints import Keypoint
from ipa_app.pose.presets import preset_pictures, presets
from ipa_app.pose.sheet import PoseSheet
from ipa_app.pose.skeleton import Skeleton
from tests.drawn_skeletons import OPENPOSE_25, SIZE, STANDING, Spots, drawn, jpeg, moved, without

WHITE, GREY = (255, 255, 255), (128, 128, 128)
OUTPUT = (256, 256)


def understood(picture: Image.Image) -> DrawnPose:
    pose = drawn_pose(picture)
    assert pose is not None
    return pose


def sheet_of(spots: Spots = STANDING, *, size: tuple[int, int] = SIZE) -> PoseSheet:
    person = tuple(None if spot is None else Keypoint(spot[0] / size[0], spot[1] / size[1]) for spot in spots)
    return PoseSheet(Skeleton((person,)), *size)


def difference(picture: Image.Image, other: Image.Image) -> float:
    """Return the mean difference, 0 to 255, over the pixels where either picture shows anything."""
    pixels, others = (np.asarray(each, dtype=float) for each in (picture, other))
    shown = (pixels.max(axis=2) > 40) | (others.max(axis=2) > 40)
    return float(np.abs(pixels - others)[shown].mean())


def framed(picture: Image.Image, *, width: int) -> Image.Image:
    """Return the picture with a white frame."""
    shown = Image.new("RGB", picture.size, WHITE)
    inside = (width, width, picture.width - width, picture.height - width)
    shown.paste(picture.crop(inside), inside[:2])
    return shown


AS_IT_IS = {
    "as controlnet-aux draws": drawn(STANDING),
    "as the app draws": draw_sheet(sheet_of(), SIZE),
    "in a white line": framed(drawn(STANDING), width=2),
    "tiny": draw_sheet(sheet_of(), (96, 40)),
    "bright and thick": drawn(STANDING, half_width=9, radius=9),
    "JPEG": jpeg(drawn(STANDING), 70),
    "several": drawn(STANDING, moved(STANDING, by=(300, 0)), size=(900, 768)),
    "half": drawn(without(STANDING, 8, 9, 10, 11, 12, 13)),
    # The joints of an arm alone cannot be read.
    "an arm": drawn(without(STANDING, 0, *range(5, 18))),
    # Red, orange and two yellows: the minimum of four hues.
    "an upper arm": drawn(without(STANDING, 0, *range(4, 18))),
}


@pytest.mark.parametrize("what", AS_IT_IS)
def test_what_can_be_followed_is_used_as_it_is(what: str) -> None:
    picture = AS_IT_IS[what]
    pose = understood(picture)
    assert pose.for_output(OUTPUT).tobytes() == fit_skeleton_picture(picture, OUTPUT).tobytes()
    assert pose.notes == ()


def test_the_presets_pictures_are_used_as_they_are() -> None:
    for name, path in preset_pictures().items():
        pose = understood(Image.open(path).convert("RGB"))
        assert pose.for_output((128, 128)).tobytes() == draw_skeleton(presets()[name], (128, 128)).tobytes()


ANEW = {
    "on white": drawn(STANDING, ground=WHITE),
    "on grey, half there": drawn(STANDING, ground=GREY, opacity=0.5),
    "on black in a white frame": framed(drawn(STANDING), width=20),
    "on white, JPEG": jpeg(drawn(STANDING, ground=WHITE), 70),
    "hairlines": drawn(STANDING, hairlines=True, radius=2),
    "in OpenPose's own colours": drawn(STANDING, style=OPENPOSE_25),
    "red and blue swapped": Image.fromarray(np.asarray(drawn(STANDING))[:, :, ::-1].copy()),
    "thin on a large canvas": drawn(moved(STANDING, scale=2), size=(1024, 1536), half_width=2, radius=3),
}


@pytest.mark.parametrize("what", ANEW)
def test_what_cannot_is_drawn_anew_where_it_is(what: str) -> None:
    pose = understood(ANEW[what])
    made = pose.for_output(OUTPUT)
    there, beside = (draw_sheet(sheet_of(moved(STANDING, by=(right, 0))), OUTPUT) for right in (0, 12))
    assert difference(made, there) < 0.5 * difference(made, beside)
    assert pose.for_output(OUTPUT).getpixel((3, 3)) == (0, 0, 0)
    assert pose.notes == ()


def test_a_tiny_figure_is_brought_closer_and_that_is_said() -> None:
    canvas = Image.new("RGB", (2048, 2048))
    canvas.paste(drawn(STANDING).resize((181, 271), Image.Resampling.LANCZOS), (900, 900))
    pose = understood(canvas)
    assert pose.notes == ("The figure was too small on its canvas to be followed, so it was enlarged.",)
    shown = np.asarray(pose.for_output(OUTPUT)).max(axis=2) > 100
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    assert 0.65 < np.ptp(rows) / 256 < 0.8
    assert abs((columns[0] + columns[-1]) / 2 - 128) < 5
    # The person is posed like the large one.
    large = sheet_of().skeleton.people[0]
    assert pose.sheet is not None
    small = pose.sheet.skeleton.people[0]
    shapes = []
    for person, (width, height) in ((large, SIZE), (small, (2048, 2048))):
        places = np.array([(point.x * width, point.y * height) for point in person if point is not None])
        assert len(places) == 18
        shapes.append((places - places.mean(axis=0)) / np.ptp(places[:, 1]))
    assert np.abs(shapes[0] - shapes[1]).max() < 0.02


@pytest.mark.parametrize(("length", "is_left_out"), [(0, False), (60, False), (250, True), (350, True)])
def test_lines_that_are_nobodys_are_said_to_be_left_out(length: int, is_left_out: bool) -> None:
    """If they are more than a tenth of all lines."""
    picture = drawn(STANDING, ground=WHITE)
    if length:
        ImageDraw.Draw(picture).line((20, 740, 20 + length, 740), fill=(153, 0, 0), width=8)
    pose = understood(picture)
    said = ("Some lines of this drawing could not be read, and are left out.",)
    assert pose.notes == (said if is_left_out else ())
    assert pose.sheet is not None and pose.sheet.notes == pose.notes
    assert (np.asarray(pose.for_output(SIZE))[700:] == 0).all()


def with_hands(picture: Image.Image) -> Image.Image:
    """Draw fingers at both wrists like controlnet-aux, and a ring of white points around the head."""
    shown = picture.copy()
    draw = ImageDraw.Draw(shown)
    for wrist, way in ((STANDING[4], -1), (STANDING[7], 1)):
        assert wrist is not None
        for finger in range(5):
            angle = math.pi / 2 + way * (finger - 2) * 0.3
            for bone in range(4):
                spots = [
                    (wrist[0] + 14 * far * math.cos(angle), wrist[1] + 14 * far * math.sin(angle))
                    for far in (bone, bone + 1)
                ]
                colour = colorsys.hsv_to_rgb((4 * finger + bone) / 20, 1, 1)
                draw.line([*spots[0], *spots[1]], fill=tuple(round(255 * part) for part in colour), width=2)
                draw.ellipse([spots[1][0] - 3, spots[1][1] - 3, spots[1][0] + 3, spots[1][1] + 3], fill=(0, 0, 255))
    for point in range(24):
        x, y = 256 + 50 * math.cos(point * math.pi / 12), 105 + 50 * math.sin(point * math.pi / 12)
        draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=WHITE)
    return shown


def test_fingers_and_a_face_stay_when_the_body_is_drawn_anew() -> None:
    pose = understood(Image.blend(Image.new("RGB", SIZE, GREY), with_hands(drawn(STANDING, ground=GREY)), 0.6))
    made = np.asarray(pose.for_output(SIZE), dtype=int)
    # A fingertip, away from the bones of the body, and points beside the head.
    assert made[396, 170, 2] > 150 and made[396, 345, 2] > 150
    assert (made[100:112, 304:310].min(axis=2) > 150).any()
    # There is nothing beside them.
    assert (made[:20] == 0).all() and (made[:, :100] == 0).all() and (made[700:] == 0).all()
    body = draw_sheet(sheet_of(), SIZE)
    assert difference(Image.fromarray(made[400:, :].astype(np.uint8)), body.crop((0, 400, *SIZE))) < 60


@pytest.mark.parametrize("radius", [2, 8, 11])
@pytest.mark.parametrize("ground", [GREY, WHITE])
def test_the_bodys_own_lines_and_dots_are_no_fingers_and_faces(radius: int, ground: tuple[int, int, int]) -> None:
    assert understood(drawn(STANDING, ground=ground, radius=radius)).details is None


@pytest.mark.parametrize(
    ("joint", "before", "far", "is_kept"),
    [
        ("wrist", "elbow", 0.6, True),
        ("wrist", "elbow", 1.3, False),
        ("wrist", "elbow", 1.7, False),
        ("nose", "neck", 1.0, True),
        ("nose", "neck", 1.5, False),
    ],
)
@pytest.mark.parametrize("side", [-1, 1])
def test_hands_and_faces_are_looked_for_about_wrists_and_noses_alone(
    joint: str, before: str, far: float, is_kept: bool, side: int
) -> None:
    """Up to 0.9 forearms from a wrist, and up to 1.2 nose-neck distances from a nose."""
    names = [
        name if name in ("nose", "neck") else f"{'right' if side < 0 else 'left'} {name}" for name in (joint, before)
    ]
    at, origin = (STANDING[JOINT_NAMES.index(name)] or (0, 0) for name in names)
    # Beside the drawn body.
    down = 0.5 if joint == "wrist" else -0.5
    away = far * math.dist(at, origin)
    x, y = at[0] + side * away * math.cos(math.asin(down)), at[1] + away * down
    picture = drawn(STANDING, ground=WHITE)
    ImageDraw.Draw(picture).ellipse((x - 14, y - 14, x + 14, y + 14), fill=(0, 0, 255))
    pose = understood(picture)
    assert (pose.details is not None) == is_kept
    made = pose.for_output(SIZE).getpixel((round(x), round(y)))
    assert made == ((0, 0, 255) if is_kept else (0, 0, 0))


def test_fingers_of_a_tiny_figure_come_closer_with_it() -> None:
    hands = with_hands(drawn(STANDING)).resize((384, 576), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (3000, 3000))
    canvas.paste(hands, (300, 2100))
    pose = understood(canvas)
    assert pose.sheet is not None and pose.details is not None and pose.notes
    bodies = np.asarray(draw_sheet(pose.sheet, (512, 512)), dtype=int)
    added = (np.asarray(pose.for_output((512, 512)), dtype=int) - bodies).max(axis=2) > 60
    rows, columns = np.nonzero(added)
    # All of it is around the wrists and the nose.
    person = pose.sheet.skeleton.people[0]
    spots = [point for point in (person[4], person[7], person[0]) if point is not None]
    near = [np.hypot(columns - 512 * spot.x, rows - 512 * spot.y) < 70 for spot in spots]
    assert len(near) == 3 and all(each.sum() > 20 for each in near)
    assert np.logical_or.reduce(near).mean() > 0.95


def test_what_a_model_changes_of_it_is_drawn_anew_and_what_it_leaves_stays() -> None:
    pose = understood(draw_sheet(sheet_of(), SIZE))
    assert pose.fitted(lambda sheet: sheet) is pose
    moved = replace(sheet_of(), notes=(Message("pose.fitted"),))
    changed = pose.fitted(lambda _: moved)
    assert changed.picture is pose.picture
    assert changed.sheet is moved and not changed.is_usable and changed.notes == moved.notes
    unread = DrawnPose(pose.picture)
    assert unread.fitted(lambda _: moved) is unread


def discs() -> Image.Image:
    rng, picture = np.random.default_rng(0), Image.new("RGB", (512, 512))
    for number in range(40):
        x, y, radius = *rng.integers(20, 490, 2), rng.integers(5, 20)
        red, green, blue = colorsys.hsv_to_rgb(number / 40, 1, 1)
        colour = (round(255 * red), round(255 * green), round(255 * blue))
        ImageDraw.Draw(picture).ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    return picture


def night() -> Image.Image:
    picture = Image.new("RGB", (128, 128), (5, 8, 30))
    picture.paste((250, 250, 210), (60, 10, 80, 30))
    return picture


def logo() -> Image.Image:
    picture = Image.new("RGB", (128, 128))
    picture.paste((255, 0, 0), (50, 50, 70, 70))
    return picture


def three_hues() -> Image.Image:
    """Return a picture of a forearm, whose lines are orange and two yellows."""
    return drawn(without(STANDING, 0, 1, *range(5, 18)))


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8))


@pytest.mark.parametrize("make", [discs, night, logo, three_hues, noise])
def test_other_pictures_are_no_skeletons(make: Callable[[], Image.Image]) -> None:
    assert drawn_pose(make()) is None


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 30, 30)])
def test_plain_colours_are_no_skeletons(colour: tuple[int, int, int]) -> None:
    assert drawn_pose(Image.new("RGB", (64, 64), colour)) is None
