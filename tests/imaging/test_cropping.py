"""The square that the image encoder sees is the one that a person expects."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ipa_app.imaging import cropping
from ipa_app.imaging.cropping import (
    cut_window,
    fit_padded,
    fitted_size,
    scale_window,
    side_by_side,
    square_for_clip,
    squares_for_clip,
)
from ipa_app.imaging.opening import CLIP_MEAN
from tests.picture_files import noise


@pytest.fixture
def wide() -> Image.Image:
    """Return an image of 60 x 20 pixels with the column number in red and the row number in green."""
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, :, 0] = np.arange(60)
    pixels[:, :, 1] = np.arange(20)[:, None]
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("centre", "first_column"), [(0.5, 20), (0.0, 0), (1.0, 40), (0.25, 5), (-3.0, 0), (9.0, 40)])
def test_crop_follows_its_centre_and_stays_inside(wide: Image.Image, centre: float, first_column: int) -> None:
    square = square_for_clip(wide, mode="crop", centre=(centre, 0.5))
    assert square.size == (20, 20)
    assert square.getpixel((0, 0)) == (first_column, 0, 0)


def test_crop_of_a_tall_picture(wide: Image.Image) -> None:
    tall = wide.transpose(Image.Transpose.TRANSPOSE)
    assert square_for_clip(tall, centre=(0.5, 1.0)).getpixel((0, 0)) == (40, 0, 0)


def test_a_square_is_kept_as_it_is() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (33, 33, 3), dtype=np.uint8))
    for mode in ("crop", "pad", "stretch"):
        assert square_for_clip(image, mode=mode).tobytes() == image.tobytes()


def test_pad_shows_everything_between_bars_of_clips_mean(wide: Image.Image) -> None:
    square = square_for_clip(wide, mode="pad")
    assert square.size == (60, 60)
    assert square.getpixel((30, 0)) == square.getpixel((30, 59)) == CLIP_MEAN
    assert square.crop((0, 20, 60, 40)).tobytes() == wide.tobytes()


def test_stretch_fills_the_square(wide: Image.Image) -> None:
    square = square_for_clip(wide, mode="stretch")
    assert square.size == (60, 60)
    assert square.getpixel((0, 59))[1] == 19


def test_what_is_scaled_keeps_as_much_detail_as_lanczos_filter_does() -> None:
    image = noise(1500, 750)
    assert square_for_clip(image, mode="stretch") == image.resize((1024, 1024), Image.Resampling.LANCZOS)
    fitted = image.resize((64, 32), Image.Resampling.LANCZOS)
    assert fit_padded(image, (64, 64)).crop((0, 16, 64, 48)) == fitted


def test_every_mode_but_tiles_gives_one_square_where_it_is_wished_for(wide: Image.Image) -> None:
    (cropped,) = squares_for_clip(wide, mode="crop", centre=(1.0, 0.5))
    assert cropped == wide.crop((40, 0, 60, 20))
    assert squares_for_clip(wide) == [wide.crop((20, 0, 40, 20))]
    assert squares_for_clip(wide, mode="stretch") == [wide.resize((60, 60), Image.Resampling.LANCZOS)]
    (padded,) = squares_for_clip(wide, mode="pad")
    assert padded.crop((0, 20, 60, 40)) == wide


@pytest.mark.parametrize(
    ("size", "columns"),
    [
        ((60, 20), [0, 20, 40]),
        ((50, 20), [0, 15, 30]),
        ((20, 20), [0]),
        ((21, 20), [0, 1]),
        ((260, 20), [0, 80, 160, 240]),
    ],
)
def test_tiles_cover_the_longer_side_as_far_as_four_go(size: tuple[int, int], columns: list[int]) -> None:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[:, :, 0] = np.arange(size[0]) % 256
    long = Image.fromarray(pixels)
    for picture in (long, long.transpose(Image.Transpose.TRANSPOSE)):
        tiles = squares_for_clip(picture, mode="tiles")
        assert [tile.size for tile in tiles] == [(20, 20)] * len(columns)
        assert [tile.getpixel((0, 0))[0] for tile in tiles] == columns


@pytest.mark.parametrize("mode", ["pad", "stretch"])
def test_very_long_pictures_do_not_become_huge_squares(mode: str) -> None:
    assert square_for_clip(Image.new("RGB", (200_000, 8)), mode=mode).size == (1024, 1024)  # type: ignore[arg-type]


def test_side_by_side_keeps_every_picture_and_its_place() -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    strip = side_by_side([Image.new("RGB", (10, 6), colour) for colour in colours], gap=2)
    assert strip.size == (34, 6)
    assert [strip.getpixel((x, 5)) for x in (9, 12, 33)] == colours
    assert strip.getpixel((10, 0)) == (255, 255, 255)


def test_one_picture_alone_lies_beside_nothing(wide: Image.Image) -> None:
    assert side_by_side([wide]) == wide
    grey, red = Image.new("L", wide.size, 9), Image.new("RGB", wide.size, "red")
    strip = side_by_side([grey, red])
    assert (strip.mode, strip.size) == ("RGB", (2 * 60 + 2, 20))
    assert [strip.getpixel((x, 0)) for x in (59, 60, 61, 62)] == [(9, 9, 9), *[(255, 255, 255)] * 2, (255, 0, 0)]


def test_unknown_mode() -> None:
    with pytest.raises(ValueError, match="tile"):
        square_for_clip(Image.new("RGB", (10, 10)), mode="tile")  # type: ignore[arg-type]


def test_fit_padded_is_centred_and_unsqueezed(wide: Image.Image) -> None:
    fitted = fit_padded(wide, (120, 80), colour=(1, 2, 3))
    assert fitted.size == (120, 80)
    assert fitted.getpixel((60, 19)) == (1, 2, 3)
    assert fitted.getpixel((60, 60)) == (1, 2, 3)
    assert fitted.getpixel((119, 40))[0] == 59


@pytest.mark.parametrize(
    ("size", "frame", "expected"),
    [((100, 50), (64, 64), (64, 32)), ((10_000, 8), (64, 64), (64, 1)), ((3, 3), (8, 16), (8, 8))],
)
def test_fitted_size(size: tuple[int, int], frame: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fitted_size(size, frame) == expected


@pytest.mark.parametrize(
    "window", [(10, 5, 30, 15), (-7, -3, 20, 10), (50, 12, 75, 31), (-5, -4, 66, 27), (0, 0, 60, 20), (59, 19, 61, 21)]
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_outermost_pixels_continue_where_a_window_reaches_over_the_edge(
    wide: Image.Image, mode: str, window: tuple[int, int, int, int]
) -> None:
    left, top, right, bottom = window
    cut = cut_window(wide.convert(mode), window)
    columns, rows = np.arange(left, right).clip(0, 59), np.arange(top, bottom).clip(0, 19)
    assert cut.mode == mode
    assert np.array_equal(np.asarray(cut), np.asarray(wide.convert(mode))[rows][:, columns])


@pytest.mark.parametrize("window", [(10, 5, 30, 15), (-7, -3, 20, 10), (-20, 0, 80, 20), (0, -20, 60, 40)])
@pytest.mark.parametrize("mode", ["RGB", "L", "F"])
def test_a_window_that_is_too_large_to_be_cut_out_is_seen_as_others_are(
    monkeypatch: pytest.MonkeyPatch, wide: Image.Image, mode: str, window: tuple[int, int, int, int]
) -> None:
    size, resample = (80, 50), Image.Resampling.BILINEAR
    exact = scale_window(wide.convert(mode), window, size, resample)
    assert exact == cut_window(wide.convert(mode), window).resize(size, resample)
    monkeypatch.setattr(cropping, "_LARGEST_WINDOW", 0)
    seen = scale_window(wide.convert(mode), window, size, resample)
    assert (seen.mode, seen.size) == (mode, size)
    assert np.abs(np.asarray(seen, np.float32) - np.asarray(exact, np.float32)).mean() < 4


@pytest.mark.parametrize("largest", [0, 10_000])
def test_a_window_is_converted_before_it_is_scaled_so_that_no_pixel_is_rounded_away(
    monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    monkeypatch.setattr(cropping, "_LARGEST_WINDOW", largest)
    speck = Image.new("L", (60, 60))
    speck.putpixel((30, 30), 9)
    seen = scale_window(speck, (0, 0, 60, 60), (1, 1), Image.Resampling.BOX, mode="F")
    assert (seen.mode, seen.getpixel((0, 0))) == ("F", pytest.approx(9 / 3600))


@pytest.mark.parametrize(
    ("before", "after", "is_kept"),
    [
        ((60, 40), (96, 64), True),
        ((1000, 667), (768, 512), True),
        ((103, 100), (512, 512), True),
        ((104, 100), (512, 512), False),
        ((100, 104), (512, 512), False),
        ((60, 40), (64, 64), False),
    ],
)
def test_a_shape_is_kept_up_to_rounding(before: tuple[int, int], after: tuple[int, int], is_kept: bool) -> None:
    assert cropping.keeps_shape(before, after) == is_kept
    assert cropping.keeps_shape(before[::-1], after[::-1]) == is_kept
