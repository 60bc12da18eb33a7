"""Whether a mask is a copy of the picture, and what in it is more than stray pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from ipa_app.errors import UserError
from ipa_app.imaging.mask_files import read_mask, read_region_mask
from ipa_app.imaging.opening import Opened
from tests.mask_drawings import HOLE, OVER, SIZE, UNCLEAR, UNMARKED, agreement, drawing, spot
from tests.picture_files import encoded

BLOCKS = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
LARGE = BLOCKS.resize((1024, 1024), Image.Resampling.NEAREST)


@pytest.mark.parametrize("is_inverted", [False, True], ids=["black on white", "white on black"])
@pytest.mark.parametrize("softened", [0, 0.6], ids=["hard", "soft"])
def test_paint_on_a_drawing_is_not_taken_for_a_mask_that_the_drawing_is(is_inverted: bool, softened: float) -> None:
    lines = drawing().filter(ImageFilter.GaussianBlur(softened))
    lines = ImageChops.invert(lines) if is_inverted else lines
    ink, paper = ((255,) * 3, (0,) * 3) if is_inverted else ((0,) * 3, (255,) * 3)
    over, erased = lines.copy(), lines.copy()
    over.paste(ink, mask=spot())
    read = read_mask(encoded(over), Opened(image=lines))
    # Ink over ink is not to be seen.
    assert agreement(read) > 0.65
    assert read.notes == (OVER,)
    # Where paper was painted over in its own colour, nothing is to be seen.
    erased.paste(paper, mask=spot())
    with pytest.raises(UserError) as asked:
        read_mask(encoded(erased), Opened(image=lines))
    assert str(asked.value) == UNCLEAR


def test_a_mask_of_many_small_things_is_no_copy_of_a_picture_that_shows_them() -> None:
    stars = Image.new("L", SIZE)
    for x, y in np.random.default_rng(0).integers(4, 110, (60, 2)):
        ImageDraw.Draw(stars).ellipse((x, y, x + 3, y + 3), fill=255)
    mask = stars.filter(ImageFilter.MaxFilter(5))
    read = read_mask(encoded(mask), Opened(image=stars.convert("RGB")))
    assert agreement(read, np.asarray(mask) > 0) == 1
    assert read.notes == ()


@pytest.mark.parametrize("side", [3, 22])
def test_a_hole_in_a_large_picture_may_be_small(side: int) -> None:
    copy = LARGE.convert("RGBA")
    copy.paste((0, 0, 0, 0), (500, 500, 500 + side, 500 + side))
    for picture in (LARGE, LARGE.convert("L").convert("RGB")):
        mask = Image.merge("RGBA", (*picture.split(), copy.getchannel("A")))
        read = read_mask(encoded(mask), Opened(image=picture))
        assert read.mask.getbbox() == (500, 500, 500 + side, 500 + side)
        assert read.notes == (HOLE,)


@pytest.mark.parametrize("side", [8, 22])
def test_a_mark_on_a_large_picture_may_be_small(side: int) -> None:
    box = (500, 500, 500 + side, 500 + side)
    for picture in (LARGE, LARGE.convert("L").convert("RGB")):
        copy = picture.copy()
        copy.paste((255, 0, 0), box)
        read = read_mask(encoded(copy), Opened(image=picture))
        assert read.mask.getbbox() == box
        assert read.notes == (OVER,)


def test_a_picture_saved_again_has_no_marks() -> None:
    for picture in (BLOCKS.resize((256, 256)), drawing()):
        for quality in (60, 90):
            with pytest.raises(UserError) as asked:
                read_mask(encoded(picture, "JPEG", quality=quality), Opened(image=picture))
            assert str(asked.value) == UNMARKED


def test_a_small_mark_on_white_is_seen() -> None:
    mask = Image.new("RGB", (1024, 1024), (255, 255, 255))
    mask.paste((255, 0, 0), (500, 500, 520, 520))
    with pytest.raises(UserError) as asked:
        read_mask(encoded(mask), Opened(image=LARGE))
    assert str(asked.value) == UNCLEAR
    with pytest.raises(UserError, match="does not show clearly where the reference should count"):
        read_region_mask(encoded(mask))
