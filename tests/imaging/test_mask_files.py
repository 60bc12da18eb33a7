"""A mask means what its author meant, however it was drawn; if that is unclear, the user is asked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter

from ipa_app.errors import UserError
from ipa_app.imaging.mask_files import is_same_shape, read_mask
from ipa_app.imaging.opening import Opened
from tests.mask_drawings import (
    BRIGHTER,
    HOLE,
    MARKED,
    ON_BLACK,
    OVER,
    PHOTO,
    SIZE,
    STROKES,
    UNCLEAR,
    UNMARKED,
    agreement,
    drawing,
    numbers,
    painted,
    photo,
    spot,
    strokes,
    with_hole,
)
from tests.picture_files import encoded, grey_png

CLEAR: dict[str, tuple[bytes, str | None]] = {
    "white on black": (encoded(spot()), None),
    "white on black, JPEG": (encoded(spot(), "JPEG", quality=40), None),
    "white on black, GIF": (encoded(spot(), "GIF"), None),
    "one bit": (encoded(spot().convert("1")), None),
    "palette": (encoded(spot().convert("RGB").quantize(2)), None),
    "sixteen bits": (encoded(numbers(65535, 0, np.uint16)), None),
    "floating point": (encoded(numbers(1, 0, np.float32), "TIFF"), None),
    "soft edges": (encoded(spot().filter(ImageFilter.GaussianBlur(3))), None),
    "0 and 1": (encoded(numbers(1, 0)), BRIGHTER),
    "0 and 1 in sixteen bits": (encoded(numbers(1, 0, np.uint16)), BRIGHTER),
    "0 and 255 in sixteen bits": (encoded(numbers(255, 0, np.uint16)), BRIGHTER),
    "half grey on black": (encoded(numbers(127, 0)), BRIGHTER),
    "half grey on black, soft": (encoded(numbers(120, 0).filter(ImageFilter.GaussianBlur(1))), BRIGHTER),
    "white on grey": (encoded(numbers(255, 128)), BRIGHTER),
    "two greys": (encoded(numbers(110, 100)), BRIGHTER),
    "red on black": (encoded(painted((255, 0, 0), 0)), ON_BLACK),
    "blue on black, JPEG": (encoded(painted((0, 0, 255), 0), "JPEG", quality=90), ON_BLACK),
    "dark red on black, palette": (encoded(painted((128, 0, 0), 0).quantize(4)), ON_BLACK),
    "white strokes": (encoded(strokes((255, 255, 255))), None),
    "white strokes at half opacity": (encoded(strokes((255, 255, 255), opacity=127)), None),
    "white strokes in grey": (encoded(strokes((255, 255, 255)).convert("LA")), None),
    "black strokes": (encoded(strokes((0, 0, 0))), STROKES),
    "pink strokes": (encoded(strokes((255, 45, 120), opacity=128)), STROKES),
    "white and black on transparent": (encoded(painted((255,) * 4, (0, 0, 0, 255), "RGBA").crop((0, 0, *SIZE))), None),
    "a hole in black": (encoded(with_hole(Image.new("RGB", SIZE))), HOLE),
    "a hole in black, of two bits": (grey_png(MARKED * 3, bits=2, transparent=3), HOLE),
    "black strokes, of four bits": (grey_png(~MARKED * 15, bits=4, transparent=15), STROKES),
    "a hole in the picture": (encoded(with_hole(photo())), HOLE),
    "a hole in the picture, half the size": (encoded(with_hole(photo()).resize((80, 60))), HOLE),
    "a hole in the picture, WebP": (encoded(with_hole(photo()), "WEBP", quality=80), HOLE),
    "a hole in another photo": (encoded(with_hole(photo(seed=5))), HOLE),
    "the picture painted over in white": (
        encoded(Image.composite(painted(0, 0).point(lambda _: 255), photo(), spot())),
        OVER,
    ),
    "the picture painted over in half red": (
        encoded(Image.composite(Image.blend(photo(), Image.new("RGB", SIZE, (255, 0, 0)), 0.6), photo(), spot())),
        OVER,
    ),
    "twice the size": (encoded(spot().resize((320, 240))), None),
    "a pixel wider": (encoded(spot().resize((161, 120))), None),
    "a pixel less": (encoded(spot().resize((159, 119))), None),
    "a quarter of the size, rounded": (encoded(spot().resize((41, 30))), None),
}


@pytest.mark.parametrize("name", CLEAR)
def test_a_mask_marks_what_was_meant(name: str) -> None:
    data, note = CLEAR[name]
    read = read_mask(data, PHOTO)
    assert read.mask.mode == "L"
    assert read.mask.size == SIZE
    assert {level for _, level in read.mask.getcolors()} == {0, 255}
    assert agreement(read) > (0.85 if "half the size" in name or "quarter" in name or "red" in name else 0.95)
    assert read.notes == ((note,) if note else ())


def test_grey_counts_from_the_middle_on_and_one_white_pixel_is_a_mask() -> None:
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (4, 1)))
    assert read_mask(encoded(ramp), Opened(image=photo((256, 4)))).mask.getbbox() == (128, 0, 256, 4)
    assert read_mask(encoded(Image.new("L", (1, 1), 255)), PHOTO).mask.getbbox() == (0, 0, *SIZE)


def test_black_on_white_keeps_what_is_black() -> None:
    read = read_mask(encoded(numbers(0, 255)), PHOTO)
    assert agreement(read, ~MARKED) == 1
    assert read_mask(encoded(Image.new("L", SIZE, 255)), PHOTO).mask.getextrema() == (255, 255)


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (painted((255, 0, 0), (255, 255, 255)), UNCLEAR),
        (with_hole(Image.new("RGB", SIZE, (255, 255, 255))), UNCLEAR),
        (with_hole(Image.new("RGB", SIZE, (255, 45, 120))), UNCLEAR),
        (Image.new("L", SIZE, 128), UNCLEAR),
        (Image.new("RGB", SIZE, (200, 40, 40)), UNCLEAR),
        (photo(seed=9), UNCLEAR),
        (photo(seed=9).convert("L"), UNCLEAR),
        (photo((800, 600), seed=9).convert("L"), UNCLEAR),
        (Image.fromarray(np.where(MARKED, 2, np.arange(160) > 80).astype(np.uint8)), UNCLEAR),
        (photo(), UNMARKED),
        (photo().convert("RGBA"), UNMARKED),
    ],
    ids=[
        "red on white", "a hole in white", "a hole in pink", "one grey", "one colour", "another photo", "a grey photo",
        "a large grey photo", "numbers of three things", "the picture", "the picture with alpha",
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_asked(mask: Image.Image, told: str) -> None:
    for kind in ("PNG", "WEBP"):
        with pytest.raises(UserError) as asked:
            read_mask(encoded(mask, kind, lossless=True) if kind == "WEBP" else encoded(mask), PHOTO)
        assert str(asked.value) == told
        if mask.mode == "L" and np.asarray(mask).max() < 16:
            break


@pytest.mark.parametrize(
    "empty",
    [
        Image.new("L", SIZE),
        Image.new("RGBA", SIZE, (0, 0, 0, 0)),
        Image.new("RGBA", SIZE, (0, 0, 0, 255)),
        painted((255, 255, 255, 0), (0, 0, 0, 0), "RGBA"),
    ],
    ids=["black", "nothing", "opaque black", "white that is not seen"],
)
def test_an_empty_mask_is_refused_unless_it_may_be(empty: Image.Image) -> None:
    with pytest.raises(UserError, match="mask is empty.*paint over"):
        read_mask(encoded(empty), PHOTO)
    assert read_mask(encoded(empty), PHOTO, may_be_empty=True).mask.getbbox() is None


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "WEBP", "AVIF", "HEIF"])
def test_black_with_the_noise_of_a_lossy_format_is_empty(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 8, (120, 160), dtype=np.uint8)
    with pytest.raises(UserError, match="mask is empty"):
        read_mask(encoded(Image.fromarray(noise), kind), PHOTO)


def test_a_mask_that_is_not_a_picture_is_refused() -> None:
    with pytest.raises(UserError, match="cannot be opened"):
        read_mask(b"white", PHOTO)


@pytest.mark.parametrize("size", [(160, 160), (120, 160), (200, 120), (64, 40)])
def test_a_mask_of_another_shape_is_asked_for_in_the_pictures(size: tuple[int, int]) -> None:
    with pytest.raises(UserError) as asked:
        read_mask(encoded(Image.new("L", size, 255)), PHOTO)
    assert str(asked.value) == (
        f"The mask is {size[0]} x {size[1]} pixels and the picture 160 x 120, a different shape, so it is unclear "
        "where the mask belongs: please give a mask of the picture's shape."
    )


@pytest.mark.parametrize(
    ("size", "frame", "is_same"),
    [
        ((160, 120), (1600, 1200), True),
        ((10_090, 10_000), (10_000, 10_000), True),
        ((10_300, 10_000), (10_000, 10_000), False),
        ((102, 100), (100, 100), True),
        ((103, 100), (100, 100), False),
        ((33, 400), (3, 40), True),  # 400 x 33 pixels, scaled down ten times and rounded
        ((60, 400), (3, 40), False),
        ((160, 120), (120, 160), False),
    ],
)
def test_shapes_are_the_same_up_to_rounding_of_either(
    size: tuple[int, int], frame: tuple[int, int], is_same: bool
) -> None:
    for one, other in ((size, frame), (frame, size)):
        assert is_same_shape(one, other) == is_same
        assert is_same_shape(one[::-1], other[::-1]) == is_same


def test_very_narrow_pictures_have_masks_too() -> None:
    assert read_mask(encoded(Image.new("L", (768, 1), 255)), Opened(image=photo((8000, 10)))).mask.size == (8000, 10)


# ---------------------------------------------------------------- photos that are stored rotated

TURNED = "The mask was rotated to fit the picture, as one of the two is stored rotated."
AS_SEEN = "The picture is stored rotated; the mask was placed on it as you see it."
TURNS = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}


def stored(mask: Image.Image, orientation: int) -> Image.Image:
    """Return the stored pixels of a file that is upright with this orientation."""
    back = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    return mask.transpose(back.get(orientation, TURNS[orientation]))


def turned_photo(orientation: int) -> Opened:
    return Opened(image=photo(), turn=TURNS[orientation])


@pytest.mark.parametrize("orientation", [6, 8])
def test_a_mask_of_the_pixels_in_the_file_is_turned_with_the_photo(orientation: int) -> None:
    read = read_mask(encoded(stored(spot(), orientation)), turned_photo(orientation))
    assert agreement(read) == 1
    assert read.notes == (TURNED,)
    upright = read_mask(encoded(spot()), turned_photo(orientation))
    assert agreement(upright) == 1
    assert upright.notes == ()


def test_where_both_ways_fit_the_mask_lies_as_the_photo_is_seen_and_it_is_said() -> None:
    read = read_mask(encoded(spot()), turned_photo(3))
    assert agreement(read) == 1
    assert read.notes == (AS_SEEN,)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_copy_of_the_photo_shows_which_way_it_lies(orientation: int) -> None:
    for mask in (with_hole(photo()), stored(with_hole(photo()), orientation)):
        read = read_mask(encoded(mask), turned_photo(orientation))
        assert agreement(read) == 1
        assert HOLE in read.notes
        assert AS_SEEN not in read.notes


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_mask_with_an_orientation_of_its_own_is_turned_by_it(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = read_mask(encoded(stored(spot(), orientation), exif=exif), PHOTO)
    assert agreement(read) == 1
    assert read.notes == ()
    # Some programs rotate the pixels and keep the orientation tag.
    if orientation != 3:
        assert agreement(read_mask(encoded(spot(), exif=exif), PHOTO)) == 1


# ---------------------------------------------------------------- difficult pictures


def test_a_dark_picture_is_not_taken_for_the_ground_of_a_mask() -> None:
    dark = Opened(image=photo().point(lambda level: level // 8))
    for mask in (encoded(spot()), encoded(painted((255, 0, 0), 0)), encoded(strokes((0, 0, 0)))):
        assert agreement(read_mask(mask, dark)) > 0.95
    black = Opened(image=Image.new("RGB", SIZE))
    assert agreement(read_mask(encoded(strokes((0, 0, 0))), black)) == 1
    assert agreement(read_mask(encoded(with_hole(Image.new("RGB", SIZE))), black)) == 1


@pytest.mark.parametrize("paint", [(255, 255, 255), (255, 0, 0)])
def test_a_picture_of_little_contrast_is_known_again_under_paint(paint: tuple[int, int, int]) -> None:
    hazy = photo().point(lambda level: 100 + level // 3)
    over = hazy.copy()
    over.paste(paint, mask=spot())
    read = read_mask(encoded(over), Opened(image=hazy))
    assert agreement(read) > 0.95
    assert read.notes == (OVER,)


def test_a_hole_in_a_picture_of_one_colour() -> None:
    red = Image.new("RGB", SIZE, (200, 40, 40))
    assert agreement(read_mask(encoded(with_hole(red)), Opened(image=red))) == 1


def sticker() -> Image.Image:
    image = photo()
    alpha = Image.new("L", SIZE)
    alpha.paste(255, (20, 5, 150, 110))
    image.putalpha(alpha)
    return image


def test_what_is_transparent_in_the_picture_itself_was_not_cut_out_of_its_copy() -> None:
    picture = Opened(image=sticker())
    copy = sticker()
    copy.putalpha(Image.composite(Image.new("L", SIZE), copy.getchannel("A"), spot()))
    assert agreement(read_mask(encoded(copy), picture)) == 1
    with pytest.raises(UserError) as asked:
        read_mask(encoded(sticker()), picture)
    assert str(asked.value) == UNMARKED
    assert agreement(read_mask(encoded(with_hole(photo())), picture)) == 1


@pytest.mark.parametrize(
    "draw",
    [lambda: encoded(with_hole(photo((3000, 2000)).resize(SIZE))), lambda: encoded(spot())],
    ids=["copy", "plain"],
)
def test_a_mask_is_brought_to_the_size_of_a_large_picture(draw: Callable[[], bytes]) -> None:
    large = photo().resize((3200, 2400))
    assert agreement(read_mask(draw(), Opened(image=large)), np.asarray(spot().resize((3200, 2400))) > 127) > 0.9


def test_a_drawing_in_black_and_white_is_no_mask_of_itself() -> None:
    picture = Opened(image=drawing())
    with pytest.raises(UserError) as asked:
        read_mask(encoded(drawing()), picture)
    assert str(asked.value) == UNMARKED
    assert agreement(read_mask(encoded(spot()), picture)) == 1
    assert agreement(read_mask(encoded(numbers(0, 255)), picture), ~MARKED) == 1
    assert agreement(read_mask(encoded(with_hole(drawing())), picture)) == 1


def test_a_figure_on_black_painted_over_is_no_mask_of_colours() -> None:
    figure = Image.new("RGB", SIZE)
    figure.paste((40, 90, 220), (20, 20, 70, 110))
    figure.paste((220, 160, 40), (60, 40, 88, 80))
    over = figure.copy()
    over.paste((230, 30, 60), mask=spot())
    assert agreement(read_mask(encoded(over), Opened(image=figure))) > 0.95
