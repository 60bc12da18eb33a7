"""Joints are read from skeletons of any program on any background; other pictures are refused."""

from __future__ import annotations

import colorsys
import math
import random

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from ipa_app.pose.presets import presets
from ipa_app.pose.skeleton import Skeleton
from ipa_app.pose.skeleton_reader import read_drawing
from tests.drawn_skeletons import SIZE, STANDING, STUBBY, STYLES, Spots, drawn, jpeg, moved, without

BLACK, GREY, WHITE = (0, 0, 0), (128, 128, 128), (255, 255, 255)
HUES = [tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue / 18, 1, 1)) for hue in range(18)]
PRESETS = {
    name: [(point.x * 512, point.y * 512) for point in skeleton.people[0] if point is not None]
    for name, skeleton in presets().items()
}


def read(picture: Image.Image) -> Skeleton:
    drawing = read_drawing(picture)
    assert drawing is not None
    return drawing.skeleton


def misses(skeleton: Skeleton, *people: Spots, size: tuple[int, int]) -> list[tuple[int, object, object]]:
    """Return the joints that are further from where they were drawn than a fiftieth of their person's height."""
    found = [[point and (point.x * size[0], point.y * size[1]) for point in person] for person in skeleton.people]
    assert len(found) == len(people)
    wrong: list[tuple[int, object, object]] = []
    for person in people:
        heights = [spot[1] for spot in person if spot is not None]
        near = 0.02 * (max(heights) - min(heights)) + 0.5
        each = min(found, key=lambda each: len(_wrong(each, person, near)))
        wrong += _wrong(each, person, near)
    return wrong


def _wrong(found: Spots, drawn_at: Spots, near: float) -> list[tuple[int, object, object]]:
    pairs = enumerate(zip(found, drawn_at, strict=True))
    return [
        (joint, one, other)
        for joint, (one, other) in pairs
        if (one is None) != (other is None) or (one is not None and other is not None and math.dist(one, other) > near)
    ]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("ground", [BLACK, GREY, WHITE], ids=["black", "grey", "white"])
def test_every_joint_is_read_in_every_programs_colours_on_every_ground(
    ground: tuple[int, int, int], style: str
) -> None:
    picture = drawn(STANDING, style=STYLES[style], ground=ground)
    assert misses(read(picture), STANDING, size=SIZE) == []
    swapped = Image.fromarray(np.asarray(picture)[:, :, ::-1].copy())
    assert misses(read(swapped), STANDING, size=SIZE) == []


def test_only_the_colours_of_controlnets_are_ours() -> None:
    drawings = {name: read_drawing(drawn(STANDING, style=style)) for name, style in STYLES.items()}
    assert [name for name, drawing in drawings.items() if drawing and drawing.is_in_our_colours] == ["ControlNet"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_pose_is_read(name: str) -> None:
    picture = drawn(PRESETS[name], size=(512, 512), ground=WHITE)
    assert misses(read(picture), PRESETS[name], size=(512, 512)) == []


@pytest.mark.parametrize("ground", [BLACK, WHITE], ids=["black", "white"])
def test_limbs_that_are_hardly_longer_than_dots_are_read(ground: tuple[int, int, int]) -> None:
    people = [moved(STUBBY, by=(225 * number, 0)) for number in range(2)]
    picture = drawn(*people, size=(512, 512), ground=ground)
    assert misses(read(picture), *people, size=(512, 512)) == []


SPOILED = {
    "half there, on grey": drawn(STANDING, ground=GREY, opacity=0.5),
    "a third there, on white": drawn(STANDING, ground=WHITE, opacity=0.35),
    "hairlines": drawn(STANDING, hairlines=True, radius=2),
    "hairlines on white": drawn(STANDING, hairlines=True, radius=2, ground=WHITE),
    "hairlines between large dots, on white": drawn(STANDING, hairlines=True, radius=5, ground=WHITE),
    "thick": drawn(STANDING, half_width=9, radius=9),
    "JPEG": jpeg(drawn(STANDING), 60),
    "JPEG on white": jpeg(drawn(STANDING, ground=WHITE), 60),
    "blurred": drawn(STANDING).filter(ImageFilter.GaussianBlur(1.5)),
    "without dots": drawn(STANDING, radius=0),
}


@pytest.mark.parametrize("how", SPOILED)
def test_every_joint_is_read_however_it_is_drawn(how: str) -> None:
    assert misses(read(SPOILED[how]), STANDING, size=SIZE) == []


@pytest.mark.parametrize("factor", [0.3, 0.5, 3.0])
def test_every_joint_is_read_at_every_size(factor: float) -> None:
    size = (round(512 * factor), round(768 * factor))
    picture = drawn(STANDING, ground=GREY).resize(size, Image.Resampling.LANCZOS)
    assert misses(read(picture), moved(STANDING, scale=factor), size=size) == []


@pytest.mark.parametrize("radius", [1, 2, 3])
@pytest.mark.parametrize("scale", [0.3, 0.5])
def test_every_joint_is_read_of_small_figures_of_hairlines(scale: float, radius: int) -> None:
    person = moved(STANDING, by=(20, 20), scale=scale)
    picture = drawn(person, hairlines=True, radius=radius, ground=WHITE)
    assert misses(read(picture), person, size=SIZE) == []


def test_a_small_skeleton_on_a_large_canvas_is_read_where_it_is() -> None:
    canvas = Image.new("RGB", (2048, 2048))
    canvas.paste(drawn(STANDING).resize((181, 271), Image.Resampling.LANCZOS), (900, 1100))
    assert misses(read(canvas), moved(STANDING, by=(900, 1100), scale=181 / 512), size=(2048, 2048)) == []


def test_the_border_of_a_screenshot_does_not_matter() -> None:
    shot = Image.new("RGB", (640, 940), (240, 240, 240))
    for left, colour in ((10, (237, 106, 94)), (30, (245, 191, 79)), (50, (98, 197, 84))):
        ImageDraw.Draw(shot).ellipse((left, 10, left + 14, 24), fill=colour)
    ImageDraw.Draw(shot).rectangle((20, 890, 160, 920), fill=(60, 110, 220))
    shot.paste(drawn(STANDING, ground=WHITE), (60, 90))
    assert misses(read(jpeg(shot, 85)), moved(STANDING, by=(60, 90)), size=shot.size) == []


def test_left_and_right_are_told_by_colour_in_a_mirrored_picture() -> None:
    picture = drawn(STANDING).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert misses(read(picture), [spot and (511 - spot[0], spot[1]) for spot in STANDING], size=SIZE) == []


@pytest.mark.parametrize(
    "missing",
    [(9, 10, 12, 13), (14, 15, 16, 17), (1,), (3, 12), (1, 5, 9), (0, 2, 3, 4, 5, 6, 7, 14, 15, 16, 17)],
    ids=["half a body", "no face", "no neck", "an elbow and a knee", "three", "legs"],
)
def test_who_is_not_drawn_whole_is_read_as_drawn(missing: tuple[int, ...]) -> None:
    person = without(STANDING, *missing)
    bones = [(1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13)]
    bones += [(1, 0), (0, 14), (14, 16), (0, 15), (15, 17)]
    held = {joint for bone in bones if not set(bone) & set(missing) for joint in bone}
    # A dot without a bone is ignored.
    assert misses(read(drawn(person, ground=GREY)), without(person, *(set(range(18)) - held)), size=SIZE) == []


@pytest.mark.parametrize(
    ("box", "joint", "edge"),
    [
        ((172, 20, 512, 768), 4, (0.0, None)),
        ((0, 20, 343, 768), 7, (1.0, None)),
        ((0, 175, 512, 768), 1, (None, 0.0)),
        ((0, 20, 512, 637), 10, (None, 1.0)),
    ],
    ids=["left", "right", "top", "bottom"],
)
def test_a_joint_that_the_pictures_edge_cuts_off_lies_at_the_edge(
    box: tuple[int, int, int, int], joint: int, edge: tuple[float | None, float | None]
) -> None:
    person = read(drawn(STANDING).crop(box)).people[0]
    point, spot = person[joint], STANDING[joint]
    assert point is not None and spot is not None
    size, corner = (box[2] - box[0], box[3] - box[1]), box[:2]
    for value, side, start, drawn_at, limit in zip(point, size, corner, spot, edge, strict=True):
        if limit is not None:
            assert value == pytest.approx(limit, abs=2e-3)
        assert value * side + start == pytest.approx(drawn_at, abs=8)


@pytest.mark.parametrize("ground", [BLACK, WHITE], ids=["black", "white"])
def test_everybody_is_read(ground: tuple[int, int, int]) -> None:
    size = (1000, 560)
    people = [moved(PRESETS[name], by=(270 * i, 20 * i)) for i, name in enumerate(("standing", "waving", "arms up"))]
    assert misses(read(drawn(*people, size=size, ground=ground)), *people, size=size) == []


def test_fingers_and_a_face_beside_the_body_are_no_bones_of_it() -> None:
    picture = drawn(STANDING, ground=GREY)
    draw, rng = ImageDraw.Draw(picture), random.Random(0)
    for wrist in (STANDING[4], STANDING[7]):
        assert wrist is not None
        for bone in range(20):
            start = (wrist[0] + 6 * (bone % 4) * math.cos(bone), wrist[1] + 12 * (bone % 4))
            end = (start[0] + 6 * math.cos(bone), start[1] + 12)
            red, green, blue = colorsys.hsv_to_rgb(bone / 20, 1, 1)
            draw.line((*start, *end), fill=(round(255 * red), round(255 * green), round(255 * blue)), width=2)
            draw.ellipse((end[0] - 4, end[1] - 4, end[0] + 4, end[1] + 4), fill=(0, 0, 255))
    for _ in range(68):
        x, y = rng.randint(215, 297), rng.randint(75, 140)
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=WHITE)
    # Joints under the dots may be lost.
    assert {joint for joint, _, _ in misses(read(picture), STANDING, size=SIZE)} <= {0, 4, 7, 14, 15, 16, 17}


def lines(rng: random.Random, *, ground: tuple[int, int, int], width: int) -> Image.Image:
    picture = Image.new("RGB", (512, 512), ground)
    for _ in range(40):
        ImageDraw.Draw(picture).line([rng.randint(0, 511) for _ in range(4)], fill=rng.choice(HUES), width=width)
    return picture


def discs(rng: random.Random) -> Image.Image:
    picture = Image.new("RGB", (512, 512))
    for _ in range(40):
        x, y, radius = rng.randint(20, 490), rng.randint(20, 490), rng.randint(4, 20)
        ImageDraw.Draw(picture).ellipse((x - radius, y - radius, x + radius, y + radius), fill=rng.choice(HUES))
    return picture


def star(*, width: int) -> Image.Image:
    picture = Image.new("RGB", (512, 512), WHITE)
    for hue, colour in enumerate(HUES):
        angle = hue * math.pi / 9
        end = (256 + 200 * math.cos(angle), 256 + 200 * math.sin(angle))
        ImageDraw.Draw(picture).line((256, 256, *end), fill=colour, width=width)
    return picture


def chart(rng: random.Random) -> Image.Image:
    picture = Image.new("RGB", (512, 512), WHITE)
    for line in range(8):
        points = [(x, 256 + 100 * math.sin(x / (30 + 10 * line)) + rng.gauss(0, 5)) for x in range(20, 490, 20)]
        ImageDraw.Draw(picture).line(points, fill=HUES[rng.randrange(18)], width=3)
    return picture


def words(rng: random.Random) -> Image.Image:
    picture = Image.new("RGB", (512, 512))
    for _ in range(60):
        text = "".join(rng.choice("abcdefgh") for _ in range(12))
        ImageDraw.Draw(picture).text((rng.randint(0, 440), rng.randint(0, 500)), text, fill=rng.choice(HUES))
    return picture


def bands() -> Image.Image:
    hues = np.tile(np.arange(512) // 29 % 18, (512, 1))
    return Image.fromarray(np.array(HUES, dtype=np.uint8)[hues])


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8))


OTHERS = {
    "discs": discs(random.Random(1)),
    "lines": lines(random.Random(2), ground=BLACK, width=8),
    "thin lines": lines(random.Random(3), ground=WHITE, width=2),
    "a star": star(width=6),
    "a chart": chart(random.Random(4)),
    "words": words(random.Random(5)),
    "bands": bands(),
    "noise": noise(),
    "nothing": Image.new("RGB", (64, 64), WHITE),
    "one line": drawn(without(STANDING, *range(2, 18), 0)),
    "one arm": drawn(without(STANDING, 0, 1, *range(5, 18))),
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_pictures_are_not_read(what: str) -> None:
    assert read_drawing(OTHERS[what]) is None
