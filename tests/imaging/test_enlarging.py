"""An enlarged picture is the same picture, with sharper edges than plain resizing gives."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from ipa_app.imaging.enlarging import LONGEST_ENLARGED, enlarge


@pytest.fixture
def drawing() -> Image.Image:
    image = Image.new("RGB", (60, 40), (240, 220, 90))
    ImageDraw.Draw(image).ellipse((15, 5, 45, 35), fill=(40, 60, 160))
    return image


def test_it_is_four_times_as_large_and_still_the_same_picture(drawing: Image.Image) -> None:
    large = enlarge(drawing)
    assert large.size == (240, 160)
    back = large.resize(drawing.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(back, float) - np.asarray(drawing, float)).mean() < 4


def test_its_edges_are_steeper_than_a_browser_would_show_them(drawing: Image.Image) -> None:
    plain = drawing.resize((240, 160), Image.Resampling.BILINEAR)

    def steepest(image: Image.Image) -> float:
        return float(np.abs(np.diff(np.asarray(image.convert("L"), float), axis=1)).max())

    assert steepest(enlarge(drawing)) > 1.5 * steepest(plain)


@pytest.mark.parametrize(("width", "times"), [(60, 4), (1500, 2)])
def test_edges_are_sharpened_by_the_formula_of_unsharp_masking(drawing: Image.Image, width: int, times: int) -> None:
    """Four fifths of the difference to a blur by half a pixel of the small picture are added."""
    small = drawing.resize((width, 40), Image.Resampling.NEAREST)
    large = small.resize((width * times, 40 * times), Image.Resampling.LANCZOS)
    plain, blurred = (np.asarray(each, float) for each in (large, large.filter(ImageFilter.GaussianBlur(times / 2))))
    expected = np.clip(plain + 0.8 * (plain - blurred), 0, 255)
    assert np.abs(np.asarray(enlarge(small), float) - expected).max() <= 1


def test_an_even_area_stays_as_it_is() -> None:
    grey = Image.new("RGB", (32, 32), (90, 120, 150))
    assert ImageChops.difference(enlarge(grey), Image.new("RGB", (128, 128), (90, 120, 150))).getbbox() is None


@pytest.mark.parametrize(("side", "times"), [(1024, 4), (1100, 3), (2048, 2), (3000, 1)])
def test_it_stays_within_bounds(side: int, times: int) -> None:
    large = enlarge(Image.new("RGB", (side, 8)))
    assert large.size == (side * times, 8 * times)
    assert max(large.size) <= LONGEST_ENLARGED
