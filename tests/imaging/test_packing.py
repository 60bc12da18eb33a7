"""Pictures as text: exact if they are small, otherwise approximate."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ipa_app.imaging.packing import pack_picture, unpack_picture
from tests.picture_files import noise


@pytest.mark.parametrize("size", [(1, 1), (8, 300), (320, 200), (512, 3), (3, 512)])
def test_a_small_picture_comes_back_exactly(size: tuple[int, int]) -> None:
    picture = noise(*size)
    text = pack_picture(picture, longest=512)
    assert text == pack_picture(picture.copy(), longest=512)
    assert unpack_picture(text, longest=512).tobytes() == picture.tobytes()


def test_colours_come_back_from_under_what_is_transparent() -> None:
    picture = noise(64, 48)
    picture.putalpha(Image.new("L", picture.size))
    back = unpack_picture(pack_picture(picture, longest=512), longest=512)
    assert (back.mode, back.tobytes()) == ("RGBA", picture.tobytes())


def test_a_mask_comes_back_exactly() -> None:
    mask = Image.new("L", (64, 48), 0)
    ImageDraw.Draw(mask).ellipse((10, 10, 30, 30), fill=255)
    assert unpack_picture(pack_picture(mask, longest=512), longest=512).convert("L").tobytes() == mask.tobytes()


def test_a_large_picture_comes_back_smaller_and_alike() -> None:
    picture = Image.linear_gradient("L").resize((1500, 750)).convert("RGB")
    back = unpack_picture(pack_picture(picture, longest=512), longest=512)
    assert back.size == (512, 256)
    difference = np.asarray(back, dtype=int) - np.asarray(picture.resize((512, 256), Image.Resampling.LANCZOS))
    assert np.abs(difference).max() <= 3


def test_even_a_large_picture_full_of_noise_stays_reasonable() -> None:
    text = pack_picture(noise(1536, 1536), longest=1536)
    assert len(text) < 4_000_000
    assert unpack_picture(text, longest=1536).size == (1536, 1536)


def test_a_long_thin_picture_keeps_pixels_enough_to_be_opened() -> None:
    assert min(unpack_picture(pack_picture(noise(3000, 10), longest=512), longest=512).size) >= 8
