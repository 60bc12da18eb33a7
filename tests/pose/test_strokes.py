"""Lines and dots are found by hue alone, on any background."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ipa_app.pose.strokes import ColouredPart, Stroke, coloured_part, dot_width, find_strokes, line_width, without_gaps

RED, GREEN = 0, 6
GROUNDS = [(0, 0, 0), (255, 255, 255), (90, 90, 90)]


def picture(ground: tuple[int, int, int] = (0, 0, 0), *, opacity: float = 1.0) -> Image.Image:
    """Return a picture of 400 x 300 pixels: a red line from (100, 100) to (300, 200), a green dot about (60, 250)."""
    shown = Image.new("RGB", (400, 300), ground)
    ImageDraw.Draw(shown).line((100, 100, 300, 200), fill=(153, 0, 0), width=8)
    ImageDraw.Draw(shown).ellipse((55, 245, 65, 255), fill=(0, 255, 0))
    return Image.blend(Image.new("RGB", shown.size, ground), shown, opacity)


def part_of(image: Image.Image) -> ColouredPart:
    part = coloured_part(image)
    assert part is not None
    return part


def strokes_of(part: ColouredPart) -> list[Stroke]:
    return [stroke for stroke in find_strokes(part) or [] if stroke.area > 20]


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("opacity", [1.0, 0.4])
def test_a_line_has_its_ends_and_a_dot_its_middle(ground: tuple[int, int, int], opacity: float) -> None:
    part = part_of(picture(ground, opacity=opacity))
    line, dot = sorted(strokes_of(part), key=lambda stroke: stroke.hue)
    assert (line.hue, dot.hue) == (RED, GREEN)
    ends = sorted(part.in_picture(line.ends).tolist())
    assert np.abs(np.array(ends) - [[100, 100], [300, 200]]).max() < 6
    assert np.abs(part.in_picture(dot.mean) - [60.5, 250.5]).max() < 1
    assert line.width / part.unit == pytest.approx(8, abs=1.5)
    assert line.length > 10 * line.width and dot.length < 1.5 * dot.width


def test_widths_are_those_of_most_lines_and_dots() -> None:
    shown = Image.new("RGB", (400, 400))
    for i, width in enumerate((6, 6, 6, 2)):
        ImageDraw.Draw(shown).line((20, 40 + 50 * i, 380, 60 + 50 * i), fill=(255, 0, 0), width=width)
    for i in range(5):
        ImageDraw.Draw(shown).ellipse((40 + 60 * i, 300, 52 + 60 * i, 312), fill=(0, 255, 0))
    part = part_of(shown)
    strokes = strokes_of(part)
    line = line_width(strokes)
    assert line is not None
    assert line / part.unit == pytest.approx(6, abs=1)
    assert (dot_width(strokes, line=line) or 0) / part.unit == pytest.approx(13, abs=1.5)
    assert dot_width(strokes[:4], line=line) is None
    assert line_width([]) is None


def rectangle(length: float, width: float) -> Stroke:
    """Return a horizontal stroke with the pixels of a rectangle."""
    ends = np.array([[-(length - 1) / 2, 0.0], [(length - 1) / 2, 0.0]])
    return Stroke(RED, length * width, np.zeros(2), np.diag([length**2, width**2]) / 12, ends)


@pytest.mark.parametrize(
    ("shapes", "width"),
    [
        # A line is at least four times as long as wide, and at least ten pixels long.
        ([(38, 8)], 8),
        ([(32, 8)], None),
        ([(10, 1)], 1),
        ([(9, 1)], None),
        ([(1000, 20), (10, 1)], 20),
        # Weighted by length, not by number.
        ([(100, 4), (100, 5), (300, 9)], 9),
        ([(100, 4), (100, 5), (100, 9)], 5),
        ([(40, 40), (100, 5)], 5),
    ],
)
def test_lines_are_as_wide_as_most_of_them(shapes: list[tuple[float, float]], width: float | None) -> None:
    """A tapered line is a tenth wider than its area suggests."""
    found = line_width(rectangle(*shape) for shape in shapes)
    assert found == (None if width is None else pytest.approx(1.1 * width))


@pytest.mark.parametrize(
    ("shapes", "width"),
    [
        ([(12, 12)] * 3, 12),
        ([(12, 12)] * 2, None),
        ([(10, 10), (12, 12), (16, 16), (19, 19)], 14),
        ([(15, 10)] * 3, 15),
        # Too long, too small, too thin.
        ([(18, 10)] * 3, None),
        ([(6, 6)] * 3, None),
        ([(8, 5)] * 3, None),
        ([(8, 7)] * 3, 8),
    ],
)
def test_dots_are_as_wide_as_most_of_them(shapes: list[tuple[float, float]], width: float | None) -> None:
    """With lines of ten pixels; at least three dots are needed."""
    found = dot_width((rectangle(*shape) for shape in shapes), line=10.0)
    assert found == (None if width is None else pytest.approx(width))


def test_a_line_that_another_one_crosses_is_one_line() -> None:
    shown = Image.new("RGB", (400, 400))
    ImageDraw.Draw(shown).line((50, 200, 350, 200), fill=(255, 0, 0), width=8)
    ImageDraw.Draw(shown).line((200, 50, 200, 350), fill=(0, 255, 0), width=8)
    # With nothing between them, these are two lines.
    ImageDraw.Draw(shown).line((50, 380, 190, 380), fill=(255, 0, 0), width=8)
    ImageDraw.Draw(shown).line((220, 380, 350, 380), fill=(255, 0, 0), width=8)
    part = part_of(shown)
    strokes = strokes_of(part)
    assert sum(stroke.hue == RED for stroke in strokes) == 4
    joined = without_gaps(strokes, part, line=8 * part.unit, dot=8 * part.unit)
    lengths = sorted(stroke.length / part.unit for stroke in joined if stroke.hue == RED)
    assert lengths == pytest.approx([131, 141, 301], abs=3)


@pytest.mark.parametrize(
    ("pieces", "between", "dot", "joined"),
    [
        # Left, top, right and bottom of the red pieces of a line, and of the green one between them.
        ([(50, 200, 189, 207), (210, 200, 349, 207)], (190, 100, 209, 300), 8, [300]),
        ([(50, 200, 189, 207), (216, 200, 349, 207)], (190, 100, 215, 300), 8, [300]),
        # Too far apart: more than 3.5 times the line or dot width.
        ([(50, 200, 189, 207), (224, 200, 349, 207)], (190, 100, 223, 300), 8, [126, 140]),
        ([(50, 200, 189, 207), (224, 200, 349, 207)], (190, 100, 223, 300), 12, [300]),
        # Too far out of line.
        ([(50, 200, 189, 207), (210, 204, 349, 211)], (190, 100, 209, 300), 8, [300]),
        ([(50, 200, 189, 207), (210, 209, 349, 216)], (190, 100, 209, 300), 8, [140, 140]),
        # A speck beside a line's end does not extend it; one in front of it does.
        ([(50, 200, 189, 207), (178, 211, 187, 213)], (170, 208, 200, 210), 8, [10, 140]),
        ([(50, 200, 189, 207), (200, 200, 207, 207)], (190, 100, 199, 300), 8, [158]),
        ([(150, 200, 165, 207), (175, 200, 190, 207)], (166, 100, 174, 300), 8, [41]),
        # A thin line may continue as a thick one, and vice versa.
        ([(50, 200, 189, 207), (210, 203, 329, 204)], (190, 100, 209, 300), 8, [280]),
        ([(50, 203, 189, 204), (210, 200, 329, 207)], (190, 100, 209, 300), 8, [280]),
        # Two dots are not a line.
        ([(150, 200, 157, 207), (170, 200, 177, 207)], (158, 100, 169, 300), 8, [8, 8]),
    ],
)
def test_a_line_goes_on_straight_behind_what_hides_a_little_of_it(
    pieces: list[tuple[int, int, int, int]], between: tuple[int, int, int, int], dot: int, joined: list[int]
) -> None:
    shown = Image.new("RGB", (400, 400))
    for box, colour in ((between, (0, 255, 0)), *((piece, (255, 0, 0)) for piece in pieces)):
        ImageDraw.Draw(shown).rectangle(box, fill=colour)
    part = part_of(shown)
    strokes = strokes_of(part)
    found = without_gaps(strokes, part, line=8 * part.unit, dot=dot * part.unit)
    assert sum(each.area for each in found) == sum(each.area for each in strokes)
    assert sorted(each.length / part.unit for each in found if each.hue == RED) == pytest.approx(joined, abs=4)


@pytest.mark.parametrize("hidden", [0, 4])
def test_a_joints_dot_beside_a_line_is_no_piece_of_it(hidden: int) -> None:
    shown = Image.new("RGB", (400, 400))
    ImageDraw.Draw(shown).ellipse((100, 190, 120, 210), fill=(255, 0, 0))
    ImageDraw.Draw(shown).rectangle((120 - hidden, 190, 160, 210), fill=(0, 255, 0))
    ImageDraw.Draw(shown).rectangle((160, 192, 240, 208), fill=(255, 0, 0))
    part = part_of(shown)
    found = without_gaps(strokes_of(part), part, line=17 * part.unit, dot=21 * part.unit)
    assert sorted(round(each.length / part.unit) for each in found if each.hue == RED) == [22, 81]


def test_what_is_small_is_enlarged_and_what_is_large_is_cut_out() -> None:
    canvas = Image.new("RGB", (3000, 1500), (255, 255, 255))
    canvas.paste(picture((255, 255, 255)), (2000, 1000))
    part = part_of(canvas)
    assert max(part.hues.shape) <= 900
    line = min(strokes_of(part), key=lambda stroke: stroke.hue)
    ends = sorted(part.in_picture(line.ends).tolist())
    assert np.abs(np.array(ends) - [[2100, 1100], [2300, 1200]]).max() < 8


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 30, 30)])
def test_pictures_with_no_colour_or_nothing_else_have_no_coloured_part(colour: tuple[int, int, int]) -> None:
    assert coloured_part(Image.new("RGB", (100, 80), colour)) is None


def test_a_picture_of_countless_specks_is_no_drawing() -> None:
    rng = np.random.default_rng(0)
    specks = np.zeros((900, 900, 3), dtype=np.uint8)
    specks[::5, ::5] = rng.permuted([[255, 0, 0]] * 180 * 180, axis=1).reshape(180, 180, 3)
    part = coloured_part(Image.fromarray(specks))
    assert part is not None and find_strokes(part) is None
