"""Filled-in parts continue their surroundings."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ipa_app.imaging.masks import fill_masked
from tests.mask_drawings import mask_with
from tests.picture_files import noise


@pytest.mark.parametrize("size", [(64, 64), (37, 53), (1, 90), (201, 3)])
def test_a_hole_goes_on_as_what_is_around_it(size: tuple[int, int]) -> None:
    mask = Image.new("L", size)
    mask.paste(255, (0, size[1] // 3, size[0], size[1] * 2 // 3))
    plain = Image.new("RGB", size, (10, 200, 3))
    assert fill_masked(Image.composite(noise(*size), plain, mask), mask).tobytes() == plain.tobytes()


def test_a_hole_between_two_colours_leads_from_one_to_the_other() -> None:
    picture, mask = Image.new("RGB", (60, 40), "black"), mask_with((20, 0, 40, 40), size=(60, 40))
    picture.paste("white", (30, 0, 60, 40))
    filled = np.asarray(fill_masked(picture, mask)).astype(int)[:, :, 0]
    assert (filled[:, :20] == 0).all()
    assert (filled[:, 40:] == 255).all()
    across = filled.mean(axis=0)
    assert (np.diff(across) >= -1).all()
    assert np.diff(across).max() < 100


def test_what_is_not_masked_stays_when_a_hole_is_filled() -> None:
    picture, mask = noise(100, 60), mask_with((10, 10, 50, 40), (60, 0, 100, 20))
    kept = np.asarray(mask) == 0
    filled = np.asarray(fill_masked(picture, mask))
    assert (filled[kept] == np.asarray(picture)[kept]).all()
    assert (filled == np.asarray(fill_masked(Image.composite(noise(100, 60).rotate(180), picture, mask), mask))).all()


def test_nothing_can_be_filled_from_nothing() -> None:
    with pytest.raises(ValueError, match="covers everything"):
        fill_masked(noise(8, 8), Image.new("L", (8, 8), 255))


def test_of_a_few_pixels_all_the_others_are_made() -> None:
    scattered = Image.fromarray(((np.random.default_rng(0).random((53, 37)) < 0.95) * 255).astype(np.uint8))
    plain = Image.new("RGB", scattered.size, (10, 200, 3))
    assert fill_masked(Image.composite(noise(*scattered.size), plain, scattered), scattered) == plain


def test_a_hole_in_an_even_slope_is_nearly_as_it_was() -> None:
    columns, rows = np.meshgrid(np.arange(96), np.arange(64))
    slope = np.stack([2 * columns + 20, 3 * rows + 20, 240 - columns - rows], axis=2).astype(np.uint8)
    filled = fill_masked(Image.fromarray(slope), mask_with((30, 20, 62, 44), size=(96, 64)))
    assert np.abs(np.asarray(filled).astype(int) - slope).max() <= 10
