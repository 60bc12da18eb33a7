"""The threshold for a mask's greys and its opacity, and the weight of a region's levels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from ipa_app.errors import UserError
from ipa_app.imaging.mask_files import read_mask, read_region_mask
from ipa_app.imaging.opening import Opened
from tests.mask_drawings import (
    BRIGHTER,
    HOLE,
    MARKED,
    ON_BLACK,
    PHOTO,
    SIZE,
    STROKES,
    UNCLEAR,
    agreement,
    numbers,
    painted,
    photo,
    spot,
    with_hole,
)
from tests.picture_files import encoded, linear_grey_profile


def ramp(least: int = 0, most: int = 255) -> Image.Image:
    """Return an image of every level in the range, one column each."""
    return Image.fromarray(np.tile(np.arange(least, most + 1, dtype=np.uint8), (120, 1)))


def test_the_levels_of_grey_count_whatever_profile_they_have() -> None:
    picture = Opened(image=photo((256, 120)))
    for options in ({}, {"icc_profile": linear_grey_profile()}):
        assert read_mask(encoded(ramp(), **options), picture).mask.getbbox() == (128, 0, 256, 120)


@pytest.mark.parametrize(("least", "most", "first"), [(0, 255, 128), (60, 200, 131), (0, 90, 46)])
def test_what_is_half_as_opaque_as_the_strongest_stroke_is_painted(least: int, most: int, first: int) -> None:
    opacity = ramp(least, most)
    strokes = Image.new("RGB", opacity.size, (255, 255, 255))
    strokes.putalpha(opacity)
    read = read_mask(encoded(strokes), Opened(image=photo(opacity.size)))
    assert read.mask.getbbox() == (first - least, 0, *opacity.size)
    assert read.notes == ()


BLACK_INK, PINK_INK = (0, 0, 0), (255, 45, 120)


@pytest.mark.parametrize(
    ("colour", "box", "note"),
    [
        (BLACK_INK, (0, 0, 124, 120), HOLE),
        (BLACK_INK, (0, 0, 120, 120), UNCLEAR),
        (BLACK_INK, (0, 0, 38, 120), UNCLEAR),
        (BLACK_INK, (0, 0, 36, 120), STROKES),
        (BLACK_INK, (0, 1, 70, 120), STROKES),
        (BLACK_INK, (0, 0, 70, 119), STROKES),
        (BLACK_INK, (1, 0, 97, 120), STROKES),
        (BLACK_INK, (63, 0, 159, 120), STROKES),
        (PINK_INK, (0, 0, 124, 120), UNCLEAR),
        (PINK_INK, (0, 0, 122, 120), UNCLEAR),
        (PINK_INK, (0, 0, 120, 120), STROKES),
    ],
)
def test_a_ground_has_a_hole_and_strokes_leave_the_edge_free(
    colour: tuple[int, int, int], box: tuple[int, int, int, int], note: str
) -> None:
    """A ground covers more than 65 % of the edge, black strokes less than 35 %, other strokes less than 65 %."""
    mask, opaque = Image.new("RGBA", SIZE, (*colour, 0)), Image.new("1", SIZE)
    mask.paste((*colour, 255), box)
    opaque.paste(1, box)
    if note == UNCLEAR:
        with pytest.raises(UserError, match="does not show clearly"):
            read_mask(encoded(mask), PHOTO)
        return
    read = read_mask(encoded(mask), PHOTO)
    assert read.notes == (note,)
    assert agreement(read, np.asarray(opaque) == (note == STROKES)) == 1


@pytest.mark.parametrize(("red", "note"), [(180, BRIGHTER), (181, ON_BLACK)])
def test_what_is_hardly_coloured_is_grey(red: int, note: str) -> None:
    """A colour has more than 80 levels between its strongest and its weakest channel."""
    read = read_mask(encoded(painted((red, 100, 100), 0)), PHOTO)
    assert read.notes == (note,)
    assert agreement(read) == 1


@pytest.mark.parametrize(("level", "is_known"), [(231, True), (232, False)])
def test_a_copy_of_a_plain_picture_is_known_unless_it_is_nearly_white(level: int, is_known: bool) -> None:
    """A hole in white may be a stroke in black, whatever the picture."""
    plain = Image.new("RGB", SIZE, (level, level, level))
    if is_known:
        assert read_mask(encoded(with_hole(plain)), Opened(image=plain)).notes == (HOLE,)
        return
    with pytest.raises(UserError, match="does not show clearly"):
        read_mask(encoded(with_hole(plain)), Opened(image=plain))


def test_a_few_specks_leave_a_black_ground_black() -> None:
    ground = Image.new("RGB", SIZE)
    for at in range(0, 160, 4):
        ground.putpixel((at, 100), (200, 200, 200))
    read = read_mask(encoded(with_hole(ground)), PHOTO)
    assert read.notes == (HOLE,)
    assert agreement(read) == 1


def test_of_white_and_black_strokes_those_in_white_are_painted_and_of_more_colours_all() -> None:
    mask = Image.new("RGBA", SIZE, (0, 0, 0, 0))
    mask.paste((0, 0, 0, 255), (20, 5, 150, 110))
    mask.paste((255, 255, 255, 255), mask=spot())
    read = read_mask(encoded(mask), PHOTO)
    assert agreement(read) == 1
    assert read.notes == ()
    mask.paste((255, 45, 120, 255), (20, 70, 150, 110))
    read = read_mask(encoded(mask), PHOTO)
    assert agreement(read, np.asarray(mask.getchannel("A")) > 0) == 1
    assert read.notes == (STROKES,)


# ---------------------------------------------------------------- where a reference applies

SOFT = spot().filter(ImageFilter.GaussianBlur(4))
SEEN = np.asarray(SOFT).astype(int)
BLACK = Image.new("L", SIZE)
PAINTED = "The reference counts where the mask of the region is painted, whatever the colour."
NOT_BLACK = "The reference counts where the mask of the region is not black."
TRANSPARENT = "The reference counts where the mask of the region is transparent."
BRIGHTEST = "The brightest part of the mask of the region counts as white, and the darkest as black."


def in_ink(colour: tuple[int, int, int], opacity: Image.Image) -> Image.Image:
    image = Image.new("RGB", opacity.size, colour)
    image.putalpha(opacity)
    return image


@pytest.mark.parametrize(
    ("named", "mask", "expected", "note"),
    [
        ("grey", SOFT, SEEN, None),
        ("grey as colours", SOFT.convert("RGB"), SEEN, None),
        ("sixteen bits", Image.fromarray(SEEN.astype(np.uint16) * 257), SEEN, None),
        ("white ink", in_ink((255, 255, 255), SOFT), SEEN, None),
        ("black ink", in_ink((0, 0, 0), SOFT), SEEN, PAINTED),
        ("pink ink", in_ink((255, 45, 120), SOFT), SEEN, PAINTED),
        ("a hole in black", in_ink((0, 0, 0), SOFT.point(lambda level: 255 - level)), SEEN, TRANSPARENT),
        ("red", Image.merge("RGB", (SOFT, BLACK, BLACK)), SEEN, NOT_BLACK),
        ("dark red", Image.merge("RGB", (SOFT.point(lambda level: level // 2), BLACK, BLACK)), SEEN, NOT_BLACK),
        ("dark grey", SOFT.point(lambda level: level // 4), SEEN, BRIGHTEST),
        ("two greys", numbers(255, 128), np.where(MARKED, 255, 0), BRIGHTEST),
        ("black", BLACK, np.zeros_like(SEEN), None),
        ("white", Image.new("L", SIZE, 255), np.full_like(SEEN, 255), None),
        ("nothing to be seen", Image.new("RGBA", SIZE, (255, 0, 0, 0)), np.zeros_like(SEEN), None),
    ],
)
def test_a_reference_counts_as_softly_as_its_mask_is(
    named: str, mask: Image.Image, expected: np.ndarray, note: str | None
) -> None:
    read = read_region_mask(encoded(mask))
    assert read.mask.mode == "L"
    assert np.abs(np.asarray(read.mask).astype(int) - expected).max() <= (4 if "dark" in named else 1)
    assert read.notes == ((note,) if note else ())


def test_what_counts_of_white_and_black_ink_is_white_and_seen() -> None:
    opacity = ramp(100, 255)
    ink = Image.new("RGB", opacity.size)
    ink.paste((255, 255, 255), (0, 0, 156, 60))
    ink.putalpha(opacity)
    ink.paste((0, 0, 0, 0), (0, 0, 60, 120))
    read = np.asarray(read_region_mask(encoded(ink)).mask).astype(int)
    assert (read[60:] == 0).all()
    assert (read[:60, :60] == 0).all()
    assert np.abs(read[:60, 60:] - np.arange(160, 256)).max() <= 1


@pytest.mark.parametrize("mask", [Image.new("L", SIZE, 128), photo(seed=9), with_hole(Image.new("RGB", SIZE, "white"))])
def test_where_a_reference_counts_is_asked_where_it_cannot_be_told(mask: Image.Image) -> None:
    with pytest.raises(UserError) as asked:
        read_region_mask(encoded(mask))
    assert str(asked.value) == (
        "This mask does not show clearly where the reference should count: please make that white and everything else "
        "black."
    )
