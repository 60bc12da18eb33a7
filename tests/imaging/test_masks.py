"""Masks mean what people paint, and nothing outside them changes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from ipa_app.errors import UserError
from ipa_app.imaging.masks import (
    blank_masked,
    cover_cells,
    editor_levels,
    editor_mask,
    feather,
    fit_mask,
    grow,
    join_masks,
    mask_box,
    paste_back,
    region_levels,
    soften,
)
from tests.effort import check_cpu_s
from tests.mask_drawings import mask_with

CLEAR = (0, 0, 0, 0)


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def layer(box: tuple[int, int, int, int], size: tuple[int, int], colour: tuple[int, int, int, int]) -> Image.Image:
    image = Image.new("RGBA", size, CLEAR)
    image.paste(colour, box)
    return image


def test_white_is_repainted_at_the_pictures_size() -> None:
    mask = fit_mask(mask_with((10, 10, 30, 20)), (200, 120))
    assert mask.mode == "L"
    assert mask.size == (200, 120)
    assert mask.getbbox() == (20, 20, 60, 40)
    assert {value for _, value in mask.getcolors()} == {0, 255}
    assert fit_mask(mask, mask.size) is mask
    assert fit_mask(mask.convert("RGB"), mask.size) == mask


def test_grey_counts_as_white_from_the_middle_on() -> None:
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (4, 1)))
    assert fit_mask(ramp, (256, 4)).getbbox() == (128, 0, 256, 4)


def test_an_empty_mask_is_refused_unless_it_may_be() -> None:
    empty = Image.new("L", (20, 20))
    with pytest.raises(UserError, match="mask is empty.*paint over"):
        fit_mask(empty, (40, 40))
    assert fit_mask(empty, (40, 40), may_be_empty=True).getbbox() is None


def test_the_editor_gives_picture_and_mask() -> None:
    picture = noise((40, 30))
    value = {
        "background": picture.convert("RGBA"),
        "layers": [layer((5, 5, 9, 9), (40, 30), (255, 45, 120, 255)), layer((20, 6, 22, 8), (40, 30), (0, 0, 0, 255))],
        "composite": None,
    }
    image, mask = editor_mask(value)
    assert image.tobytes() == picture.tobytes()
    assert np.count_nonzero(np.asarray(mask)) == 16 + 4


def test_a_layer_that_is_empty_hides_none_of_the_others() -> None:
    painted = layer((10, 10, 30, 20), (100, 60), (255, 0, 0, 255))
    _, mask = editor_mask({"background": noise((100, 60)), "layers": [None, painted]})
    assert mask.getbbox() == (10, 10, 30, 20)


def test_the_editors_transparent_frame_is_cut_from_both() -> None:
    picture = noise((100, 40))
    canvas = Image.new("RGBA", (100, 100), CLEAR)
    canvas.paste(picture, (0, 30))
    image, mask = editor_mask({"background": canvas, "layers": [layer((10, 40, 20, 50), (100, 100), (9, 9, 9, 255))]})
    assert image.tobytes() == picture.tobytes()
    assert mask.getbbox() == (10, 10, 20, 20)


def test_a_picture_of_one_colour_is_a_picture() -> None:
    red = Image.new("RGB", (40, 30), (200, 30, 40))
    picture, mask = editor_mask({"background": red, "layers": [layer((5, 5, 9, 9), (40, 30), (9, 9, 9, 255))]})
    assert picture.tobytes() == red.tobytes()
    assert mask.getbbox() == (5, 5, 9, 9)


def test_a_picture_of_a_few_pixels_can_be_painted_on() -> None:
    for size, painted in (((5, 3), (1, 1, 3, 2)), ((1, 1), (0, 0, 1, 1))):
        value = {"background": noise(size), "layers": [layer(painted, size, (9, 9, 9, 255))]}
        picture, mask = editor_mask(value)
        assert picture.tobytes() == noise(size).tobytes()
        levels = editor_levels(value)
        assert levels is not None
        assert mask.getbbox() == levels.getbbox() == painted


PICTURE = noise((20, 20)).convert("RGBA")


@pytest.mark.parametrize("value", [None, {}, {"background": None, "layers": [PICTURE]}, {"background": PICTURE}])
def test_an_editor_in_which_nothing_is_painted_has_no_levels(value: Any) -> None:
    assert editor_levels(value) is None


def test_an_editors_levels_are_the_stronger_of_its_layers_opacities() -> None:
    faint, strong = Image.new("L", (20, 20), 90), Image.linear_gradient("L").resize((20, 20))
    layers = [Image.merge("RGBA", [*[Image.new("L", (20, 20))] * 3, opacity]) for opacity in (faint, strong)]
    levels = editor_levels({"background": PICTURE, "layers": [None, *layers]})
    assert levels is not None
    assert np.array_equal(levels, np.maximum(np.asarray(faint), np.asarray(strong)))


def test_two_masks_are_joined_by_the_stronger_level_of_either() -> None:
    ramp = Image.linear_gradient("L")
    assert join_masks(ramp, None) == ramp
    joined = join_masks(ramp, ramp.rotate(90).resize((64, 64), Image.Resampling.NEAREST))
    other = np.asarray(ramp.rotate(90).resize((64, 64), Image.Resampling.NEAREST)).repeat(4, axis=0).repeat(4, axis=1)
    assert np.array_equal(joined, np.maximum(np.asarray(ramp), other))


@pytest.mark.parametrize(("size", "percent"), [((400, 100), 20), ((400, 100), 5), ((100, 400), 10)])
def test_an_edge_fades_over_so_much_of_the_longer_side_as_is_asked_for(size: tuple[int, int], percent: float) -> None:
    middle = size[0] // 2
    mask = mask_with((middle, 0, *size), size=size)
    deviation = percent / 100 * 400 / 4
    # The edge is a normal distribution's; its tails beyond two deviations do not count towards its width.
    expected = [255 * (1 + math.erf((x + 0.5 - middle) / deviation / math.sqrt(2))) / 2 for x in range(size[0])]
    row = np.asarray(soften(mask, percent))[size[1] // 2].astype(int)
    assert np.abs(row - expected).max() <= 6
    assert soften(mask, 0).tobytes() == mask.tobytes()


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "RGBA", "P", "LA"])
def test_a_regions_mask_of_any_mode_becomes_its_levels(mode: str) -> None:
    mask = Image.linear_gradient("L").convert(mode)
    levels = region_levels(mask)
    assert (levels.mode, levels.size) == ("L", (256, 256))
    assert levels.tobytes() == mask.convert("L").tobytes()


def test_a_regions_mask_is_brought_to_a_thousand_pixels_a_side_by_the_mean_of_each_square() -> None:
    rng = np.random.default_rng(0)
    large = rng.integers(0, 256, (1024, 2048), dtype=np.uint8)
    means = large.reshape(512, 2, 1024, 2).mean(axis=(1, 3))
    levels = region_levels(Image.fromarray(large))
    assert levels.size == (1024, 512)
    assert np.abs(np.asarray(levels) - means).max() <= 1
    within = Image.fromarray(large[:, :1024])
    assert region_levels(within).tobytes() == within.tobytes()


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_a_regions_mask_that_is_black_all_over_is_refused_and_its_field_named(mode: str) -> None:
    with pytest.raises(UserError, match="mask of the region is black all over") as refused:
        region_levels(Image.new(mode, (40, 30)))
    assert refused.value.field == "region_mask"


def test_what_is_masked_is_marked_for_a_controlnet_and_all_else_is_between_0_and_1() -> None:
    picture, mask = noise((100, 60)), mask_with((10, 10, 50, 40))
    mask.paste(127, (60, 0, 70, 60))
    seen = blank_masked(picture, mask)
    expected = np.asarray(picture) / 255
    expected[10:40, 10:50] = -1
    assert seen.dtype == np.float32
    assert np.abs(seen - expected).max() < 1e-6


def test_a_cell_counts_whole_where_any_pixel_of_it_is_masked() -> None:
    mask = mask_with((17, 8, 18, 9), (60, 0, 64, 40), size=(64, 40))
    covered = cover_cells(mask, (64, 40), cell=8)
    expected = mask_with((16, 8, 24, 16), (56, 0, 64, 40), size=(64, 40))
    assert covered.tobytes() == expected.tobytes()


def test_a_masked_pixel_in_a_window_of_any_size_counts_in_the_cell_that_it_is_seen_in() -> None:
    mask = mask_with((7, 25_000, 8, 25_001), size=(8, 60_000))
    covered = cover_cells(mask, (64, 64), cell=8, window=(-29_996, 0, 30_004, 60_000))
    assert covered.getbbox() == (32, 24, 64, 32)  # the outermost pixels are repeated


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"background": None, "layers": [], "composite": None},
        {"background": Image.new("RGBA", (20, 20), CLEAR), "layers": []},
    ],
)
def test_an_editor_without_a_picture_is_refused(value: Any) -> None:
    with pytest.raises(UserError, match="no picture"):
        editor_mask(value)


@pytest.mark.parametrize("layers", [None, [], [None], [Image.new("RGBA", (20, 20), CLEAR)]])
def test_an_editor_without_strokes_is_refused(layers: Any) -> None:
    with pytest.raises(UserError, match="Nothing is painted"):
        editor_mask({"background": PICTURE, "layers": layers})


@pytest.mark.parametrize(
    "painted", [(0, 0, 3, 3), (97, 57, 100, 60), (40, 20, 60, 40), (0, 0, 100, 60), (50, 0, 51, 60), (7, 31, 90, 33)]
)
def test_the_box_is_inside_and_around_the_mask(painted: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = mask_box(mask_with(painted), min_side=32)
    assert 0 <= left <= painted[0]
    assert 0 <= top <= painted[1]
    assert painted[2] <= right <= 100
    assert painted[3] <= bottom <= 60
    assert right - left >= 32
    assert bottom - top >= 32


def test_the_box_has_the_shape_and_surroundings_asked_for() -> None:
    mask = mask_with((500, 500, 600, 540), size=(1000, 1000))
    left, top, right, bottom = mask_box(mask, padding=0.5, aspect=1.0)
    assert right - left == bottom - top == 200
    assert (left + right) / 2 == pytest.approx(550, abs=1)
    wide = mask_box(mask, padding=0.25, aspect=2.0)
    assert (wide[2] - wide[0]) / (wide[3] - wide[1]) == pytest.approx(2, abs=0.15)
    assert all((wide[i + 2] - wide[i]) % 8 == 0 for i in (0, 1))


def test_unless_it_is_said_otherwise_a_box_is_square_of_64_pixels_at_least_and_a_quarter_wider_on_each_side() -> None:
    assert mask_box(mask_with((500, 500, 510, 510), size=(1000, 1000))) == (473, 473, 537, 537)
    assert mask_box(mask_with((400, 500, 600, 540), size=(1000, 1000))) == (348, 368, 652, 672)
    # At the picture's edge, what is missing on one side is added on the other.
    assert mask_box(mask_with((0, 900, 100, 1000), size=(1000, 1000))) == (0, 848, 152, 1000)


def test_an_empty_mask_has_no_box() -> None:
    with pytest.raises(UserError, match="mask is empty"):
        mask_box(Image.new("L", (20, 20)))


def test_surroundings_may_end_at_the_pictures_edges() -> None:
    # The right half is painted: there is nothing to the right of it, above or below.
    mask = mask_with((100, 0, 200, 200), size=(200, 200))
    assert mask_box(mask, padding=0.25, aspect=1.0, inside=True) == (0, 0, 200, 200)
    assert mask_box(mask, padding=0.25, aspect=0.75, inside=True) == (48, 0, 200, 200)
    middle = mask_with((80, 80, 120, 120), size=(200, 200))
    assert mask_box(middle, padding=0.5, inside=True) == mask_box(middle, padding=0.5)
    # In a corner: 100 pixels and 29 more, rounded up to 136; wider or higher for the requested aspect ratio.
    for aspect, (width, height) in ((0.9, (136, 144)), (1 / 0.9, (144, 136))):
        for left, column in ((0, 0), (900, 1000 - width)):
            for top, row in ((0, 0), (900, 1000 - height)):
                corner = mask_with((left, top, left + 100, top + 100), size=(1000, 1000))
                box = mask_box(corner, padding=0.29, aspect=aspect, inside=True)
                assert box == (column, row, column + width, row + height)


def test_a_mask_grows_and_shrinks_evenly_on_all_sides() -> None:
    size = (400, 300)
    disc = Image.new("L", size)
    ImageDraw.Draw(disc).ellipse((150, 100, 250, 200), fill=255)
    columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    from_middle = np.hypot(columns - 200, rows - 150)
    for radius in (1, 7.5, 40, -1, -20.0):
        changed = np.asarray(grow(disc, radius)) > 0
        assert abs(from_middle[changed].max() - (50 + radius)) <= 1
        assert abs(from_middle[~changed].min() - (50 + radius)) <= 1.5
    assert grow(disc, 0).tobytes() == disc.tobytes()
    assert grow(disc, -51).getbbox() is None


def test_a_mask_does_not_shrink_away_from_the_pictures_edge() -> None:
    assert grow(mask_with((0, 0, 50, 60)), -10).getbbox() == (0, 0, 40, 60)
    assert grow(mask_with((0, 0, 100, 60)), -10).getbbox() == (0, 0, 100, 60)
    assert grow(mask_with(), 10).getbbox() is None


def test_growing_and_softening_a_huge_mask_is_quick() -> None:
    mask = mask_with((400, 300, 2600, 2700), size=(3000, 3000))

    def both() -> None:
        assert grow(mask, 300).getbbox() == (100, 0, 2900, 3000)
        assert np.asarray(feather(mask, 300)).max() == 255

    check_cpu_s(both, most=4)


@pytest.mark.parametrize("radius", [0, 1, 2, 5, 40])
def test_a_soft_edge_rises_evenly_with_every_pixel_inwards(radius: int) -> None:
    mask = mask_with((0, 5, 40, 33), (60, 10, 63, 50), (55, 55, 56, 56))
    levels = [mask]
    while len(levels) < 2 * radius:
        eroded = levels[-1].filter(ImageFilter.MinFilter(3))
        if eroded.getbbox() is None:
            break
        levels.append(eroded)
    ramp = levels[: max(1, min(radius, len(levels) // 2))]
    expected = np.rint(sum(np.asarray(level, dtype=np.float64) for level in ramp) / len(ramp))
    assert np.array_equal(np.asarray(feather(mask, radius)), expected)


def test_feathering_goes_inwards_only() -> None:
    mask = mask_with((20, 10, 80, 50))
    soft = np.asarray(feather(mask, 8))
    assert (soft[np.asarray(mask) == 0] == 0).all()
    assert (soft[np.asarray(mask) == 255] > 0).all()
    assert (soft[18:42, 28:72] == 255).all()
    ramp = soft[30, 20:30].astype(int)
    assert (np.diff(ramp) >= 0).all()
    assert 0 < ramp[0] < 64


def test_thin_strokes_do_not_fade_away() -> None:
    assert np.asarray(feather(mask_with((20, 30, 80, 34)), 16)).max() == 255


def test_no_seam_at_the_pictures_own_edge() -> None:
    soft = np.asarray(feather(mask_with((0, 0, 50, 60)), 8))
    assert (soft[:, 0] == 255).all()
    assert (soft[0, :40] == 255).all()


@pytest.mark.parametrize("size", [(100, 60), (101, 67)])
@pytest.mark.parametrize("radius", [0, 1, 6])
def test_outside_the_mask_every_byte_is_kept(size: tuple[int, int], radius: int) -> None:
    original = noise(size)
    mask = mask_with((13, 9, 44, 41), (60, 20, 63, 23), size=size)
    box = mask_box(mask, min_side=16)
    result = paste_back(original, Image.new("RGB", (64, 64), (255, 0, 255)), mask, box, feather_radius=radius)
    kept = np.asarray(mask) <= 127
    assert result.size == size
    assert (np.asarray(result)[kept] == np.asarray(original)[kept]).all()
    assert result.getpixel((28, 25)) == (255, 0, 255)
    if radius == 0:
        assert (np.asarray(result)[~kept] == (255, 0, 255)).all()
    assert original.tobytes() == noise(size).tobytes()


def test_what_is_put_back_is_scaled_to_its_box() -> None:
    original = noise((100, 60))
    whole = paste_back(original, Image.new("RGB", (8, 6), "red"), mask_with((0, 0, 100, 60)), (30, 20, 70, 50))
    changed = np.asarray(whole) != np.asarray(original)
    rows, columns = np.nonzero(changed.any(axis=2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 49, 30, 69)
    assert whole.crop((30, 20, 70, 50)).getcolors() == [(40 * 30, (255, 0, 0))]


def test_a_soft_edge_counts_steps_and_goes_round_an_inner_corner_as_along_a_side() -> None:
    mask = mask_with((0, 0, 60, 60), size=(60, 60))
    mask.paste(0, (0, 0, 30, 30))
    soft = np.asarray(feather(mask, 4))
    assert soft[30, 30] == soft[30, 10] == soft[10, 30] > 0
    assert soft[31, 31] == soft[31, 10] == soft[10, 31] > soft[30, 30]


def test_a_grey_mask_is_cut_at_the_middle() -> None:
    original = noise((256, 8))
    grey = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (8, 1)))
    result = paste_back(original, Image.new("RGB", (256, 8)), grey, (0, 0, 256, 8))
    assert (np.asarray(result)[:, :128] == np.asarray(original)[:, :128]).all()
    assert (np.asarray(result)[:, 128:] == 0).all()
