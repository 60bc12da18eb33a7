from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ipa_app.imaging.opening import flatten
from ipa_app.imaging.transparency import in_colour, off_white, on_white, opacity_of


def half_seen() -> Image.Image:
    """Return noise of every opacity."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (32, 64, 3), dtype=np.uint8))
    image.putalpha(Image.fromarray(np.arange(32 * 64).reshape(32, 64).astype(np.uint8)))
    return image


def test_what_is_taken_off_white_looks_the_same_on_white() -> None:
    image = half_seen()
    seen = on_white(image)
    off = off_white(seen, image.getchannel("A"))
    assert off.mode == "RGBA"
    assert off.getchannel("A").tobytes() == image.getchannel("A").tobytes()
    assert np.abs(np.asarray(flatten(off)).astype(int) - np.asarray(seen)).max() <= 1
    well_seen = np.asarray(image)[..., 3] > 200
    unlike = np.abs(np.asarray(off).astype(int) - np.asarray(image)).max(axis=2)
    assert unlike[well_seen].max() <= 2


def test_only_what_is_transparent_somewhere_has_an_opacity() -> None:
    assert opacity_of(Image.new("RGBA", (4, 4), (1, 2, 3, 255))) is None
    assert opacity_of(Image.new("RGB", (4, 4))) is None
    assert opacity_of(half_seen()) is not None
    assert [in_colour(Image.new(mode, (4, 4))).mode for mode in ("L", "P", "CMYK", "RGBA")] == ["RGB"] * 3 + ["RGBA"]
    assert on_white(Image.new("RGBA", (4, 4), (1, 2, 3, 0))).getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("seen", "opacity", "colour"),
    [
        (204, 51, 0),
        (229, 51, 125),
        (254, 1, 0),
        (253, 2, 0),
        (255, 1, 255),
        (0, 255, 0),
        (123, 255, 123),
        (123, 0, 123),  # invisible: left as it is
        (0, 51, 0),  # darker than anything of this transparency can be
    ],
)
def test_white_is_taken_out_by_the_formula(seen: int, opacity: int, colour: int) -> None:
    """`seen = colour * alpha + 255 * (1 - alpha)`, solved for the colour."""
    taken = off_white(Image.new("RGB", (1, 1), (seen,) * 3), Image.new("L", (1, 1), opacity))
    assert taken.getpixel((0, 0)) == (colour, colour, colour, opacity)
