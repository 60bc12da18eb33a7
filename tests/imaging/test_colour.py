"""With any profile, a file's colours are read as a colour-managed viewer shows them."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageCms

from ipa_app.imaging.opening import open_image, read_image
from tests.effort import check_cpu_s
from tests.picture_files import (
    CMYK_BLACK,
    CMYK_CYAN,
    CMYK_PAPER,
    COLOURS,
    adobe_profile,
    cmyk_profile,
    coded,
    encoded,
    in_adobe_rgb,
    in_p3,
    lab_of_srgb,
    linear,
    linear_grey_profile,
    middles,
    p3_profile,
    patches,
    srgb_profile,
)

DAMAGED = (
    "This picture has a damaged or unsuitable colour profile, so its colours were read as those of an "
    "ordinary screen (sRGB)."
)


def profile_of_littlecms() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 2),
        ("TIFF", {}, 2),
        ("WEBP", {"lossless": True}, 2),
        ("JPEG", {"quality": 95}, 6),
        ("AVIF", {"quality": 95}, 6),
        ("HEIF", {"quality": 95}, 6),
    ],
)
@pytest.mark.parametrize(("colours", "profile"), [(in_p3, p3_profile), (in_adobe_rgb, adobe_profile)])
def test_wide_colours_arrive_as_srgb_from_every_format(
    kind: str,
    options: dict[str, int],
    tolerance: int,
    colours: Callable[[], np.ndarray],
    profile: Callable[[], bytes],
) -> None:
    wide = patches(colours())
    assert np.abs(middles(wide) - COLOURS).max() > 20, "without its profile it would look otherwise"
    opened = read_image(encoded(wide, kind, icc_profile=profile(), **options))
    assert np.abs(middles(opened.image) - COLOURS).max() <= tolerance
    assert opened.notes == ()
    assert opened.image.info == {}


@pytest.mark.parametrize(
    "profile", [profile_of_littlecms(), srgb_profile(exponent=1.008)], ids=["exactly", "but for a level"]
)
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_a_picture_that_is_srgb_keeps_its_bytes(mode: str, profile: bytes) -> None:
    picture = noise(mode)
    opened = open_image(encoded(picture, icc_profile=profile))
    assert opened.tobytes() == picture.convert("RGB").tobytes()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_profile_may_be_as_large_as_a_printers(kind: str) -> None:
    profile = p3_profile()
    large = profile + np.random.default_rng(0).bytes(3 * 2**20)
    opened = [read_image(encoded(patches(in_p3()), kind, icc_profile=each)) for each in (profile, large)]
    assert opened[0].image == opened[1].image
    assert opened[1].notes == ()


def test_a_profile_that_is_nearly_srgb_counts_where_it_can_be_seen() -> None:
    opened = open_image(encoded(patches(COLOURS), icc_profile=srgb_profile(exponent=0.8)))
    expected = 255 * coded(linear(COLOURS / 255) ** 0.8)
    assert np.abs(expected - COLOURS).max() > 10
    assert np.abs(middles(opened) - expected).max() <= 2


def test_grey_has_profiles_of_its_own() -> None:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    shown = 255 * coded(np.arange(256) / 255).reshape(16, 16)
    opened = read_image(encoded(ramp, icc_profile=linear_grey_profile()))
    assert np.abs(np.asarray(opened.image)[..., 0] - shown).max() <= 2
    deep = Image.fromarray((np.arange(256, dtype=np.uint16) * 257).reshape(16, 16))
    opened = read_image(encoded(deep, icc_profile=linear_grey_profile()))
    assert np.abs(np.asarray(opened.image)[..., 0] - shown).max() <= 2
    seen = Image.merge("LA", (ramp, Image.new("L", ramp.size, 99)))
    opened = read_image(encoded(seen, icc_profile=linear_grey_profile()))
    assert np.abs(np.asarray(opened.image) - np.stack([*[shown] * 3, np.full_like(shown, 99)], axis=2)).max() <= 2
    assert opened.notes == ()


def test_a_large_grey_picture_with_a_profile_opens_quickly() -> None:
    large = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (6_000, 12)))
    large.info["icc_profile"] = linear_grey_profile()
    check_cpu_s(lambda: open_image(large), most=2)


def test_black_and_white_are_so_by_a_profile_of_grey_too() -> None:
    bits = noise("1")
    opened = read_image(encoded(bits, icc_profile=linear_grey_profile()))
    assert opened.image.tobytes() == bits.convert("RGB").tobytes()
    assert opened.notes == ()


def test_a_grey_picture_may_have_a_profile_for_colours() -> None:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    opened = read_image(encoded(ramp, icc_profile=p3_profile()))
    assert np.abs(np.asarray(opened.image).astype(int) - np.asarray(ramp)[..., None]).max() <= 1
    assert opened.notes == ()


def test_transparency_and_palettes_keep_their_place() -> None:
    wide = patches(in_p3())
    wide.putalpha(Image.linear_gradient("L").resize(wide.size))
    opened = read_image(encoded(wide, icc_profile=p3_profile())).image
    assert opened.getchannel("A").tobytes() == wide.getchannel("A").tobytes()
    assert np.abs(middles(opened.convert("RGB")) - COLOURS).max() <= 2
    palette = patches(in_p3()).quantize(8)
    assert np.abs(middles(open_image(encoded(palette, icc_profile=p3_profile()))) - COLOURS).max() <= 3


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_inks_are_seen_as_their_profile_says(kind: str) -> None:
    inks = np.array([(0, 0, 0, 0), (255, 0, 0, 0), (0, 0, 0, 255)], dtype=np.uint8)
    picture = Image.fromarray(np.repeat(np.repeat(inks[None], 16, axis=0), 16, axis=1), "CMYK")
    opened = read_image(encoded(picture, kind, icc_profile=cmyk_profile()))
    assert np.abs(middles(opened.image) - [CMYK_PAPER, CMYK_CYAN, CMYK_BLACK]).max() <= 8
    assert opened.notes == ()


def test_inks_without_a_profile_are_guessed_and_it_is_said() -> None:
    opened = read_image(encoded(patches(COLOURS).convert("CMYK"), "JPEG", quality=95), name="The reference")
    assert np.abs(middles(opened.image) - COLOURS).max() <= 6
    assert opened.notes == (
        "The reference is made for printing (CMYK) and does not say with which inks, so its colours may be a little "
        "off.",
    )


def test_lab_pictures_open() -> None:
    lab = np.rint(lab_of_srgb(COLOURS) * (2.55, 1, 1)).astype(np.int16)
    bytes_of = np.repeat(np.repeat(lab[None], 16, axis=0), 16, axis=1).astype(np.int16)
    picture = Image.frombytes("LAB", (16 * len(COLOURS), 16), (bytes_of % 256).astype(np.uint8).tobytes())
    opened = read_image(encoded(picture, "TIFF"))
    # 8-bit Lab is coarser than 8-bit RGB.
    assert np.abs(middles(opened.image) - COLOURS).max() <= 8


@pytest.mark.parametrize(
    ("picture", "profile"),
    [
        (noise(), b"profile"),
        (noise(), p3_profile()[:200]),
        (noise(), p3_profile()[:132] + bytes(2000)),
        (noise(), linear_grey_profile()),
        (noise("L"), cmyk_profile()),
        (noise("RGBA"), cmyk_profile()),
    ],
    ids=["no profile at all", "cut off", "hollow", "of grey", "of inks", "of inks for RGBA"],
)
def test_a_profile_that_cannot_be_used_leaves_the_colours_alone_and_is_told(
    picture: Image.Image, profile: bytes
) -> None:
    opened = read_image(encoded(picture, icc_profile=profile))
    assert opened.image.convert("RGB").tobytes() == picture.convert("RGB").tobytes()
    assert opened.notes == (DAMAGED,)


def test_a_profile_of_which_parts_are_missing_is_told_by_the_name_of_the_picture() -> None:
    data = encoded(noise(), "JPEG", icc_profile=p3_profile(), quality=95)
    # ICC.1:2010, annex B.4: the chunk's number, and how many chunks there are.
    at = data.index(b"ICC_PROFILE\0") + len(b"ICC_PROFILE\0")
    opened = read_image(data[:at] + b"\1\2" + data[at + 2 :], name="The pose")
    assert opened.image == open_image(encoded(noise(), "JPEG", quality=95))
    assert opened.notes == (DAMAGED.replace("This picture", "The pose"),)


def test_inks_with_a_profile_of_screens_are_told_as_well() -> None:
    opened = read_image(encoded(patches(COLOURS).convert("CMYK"), "JPEG", icc_profile=p3_profile(), quality=95))
    assert np.abs(middles(opened.image) - COLOURS).max() <= 6
    assert opened.notes == (
        "This picture is made for printing (CMYK) and has a damaged or unsuitable colour profile, so its colours may "
        "be a little off.",
    )


def test_what_pillow_has_opened_itself_is_converted_as_well() -> None:
    with Image.open(io.BytesIO(encoded(patches(in_p3()), icc_profile=p3_profile()))) as picture:
        assert np.abs(middles(open_image(picture)) - COLOURS).max() <= 2
