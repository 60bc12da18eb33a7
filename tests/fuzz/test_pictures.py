"""Picture files and masks that somebody has spoilt: every format, mode and way of packing that is taken."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
import tifffile
from hypothesis import strategies as st
from PIL import Image

from ipa_app.imaging.mask_files import read_mask
from ipa_app.imaging.opening import Opened, flatten, read_image
from tests.fuzz.hostile import examples, holds, spoilt, with_right_sums
from tests.picture_files import adobe_profile, cmyk_profile, encoded, linear_grey_profile, p3_profile, png_with

SIDES = (40, 24)
EXIF = Image.Exif()
EXIF[0x0112] = 6
EXIF[0x010E] = "a picture"


def noise(mode: str) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (SIDES[1], SIDES[0], 4), dtype=np.uint8)
    if mode in ("I;16", "F"):
        deep = values[..., 0].astype(np.uint16 if mode == "I;16" else np.float32)
        return Image.fromarray(deep * 257 if mode == "I;16" else deep / 255)
    return Image.fromarray(values if mode in ("RGBA", "LA") else values[..., :3]).convert(mode)


def packed(kind: str, mode: str, **options: Any) -> bytes:
    return encoded(noise(mode), kind, **options)


def several() -> dict[str, Any]:
    """What makes a file of two pictures; not the same ones, as Pillow notes in a picture how it was written."""
    return {"save_all": True, "append_images": [noise("RGB").rotate(90)]}


def deep(shape: tuple[int, ...], kind: type, **options: Any) -> bytes:
    """A TIFF of numbers that Pillow does not take."""
    buffer = io.BytesIO()
    values = np.random.default_rng(0).random(shape)
    tifffile.imwrite(buffer, (values * (1 if kind is np.float32 else 60_000)).astype(kind), **options)
    return buffer.getvalue()


@cache
def picture_files() -> list[bytes]:
    """A file of each kind, all of them whole."""
    files = [packed("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
    files += [packed("PNG", "RGB", icc_profile=p3_profile()), packed("PNG", "L", icc_profile=linear_grey_profile())]
    files += [packed("PNG", "RGB", exif=EXIF), packed("PNG", "RGB", **several())]
    files += [png_with(noise("RGB"), (b"cICP", bytes([9, 16, 0, 1])), (b"gAMA", b"\0\0\xb1\x8f"))]
    files += [packed("JPEG", mode) for mode in ("L", "RGB", "CMYK")]
    files += [packed("JPEG", "RGB", progressive=True), packed("JPEG", "RGB", restart_marker_blocks=1, exif=EXIF)]
    files += [packed("JPEG", "RGB", icc_profile=adobe_profile())]
    files += [packed("JPEG", "CMYK", icc_profile=cmyk_profile())]
    files += [packed("MPO", "RGB", **several())]
    files += [packed("WEBP", mode, lossless=lossless) for mode in ("RGB", "RGBA") for lossless in (False, True)]
    files += [packed("WEBP", "RGB", exif=EXIF, icc_profile=p3_profile()), packed("WEBP", "RGBA", **several())]
    files += [packed("GIF", "P"), packed("GIF", "RGB", **several()), packed("GIF", "P", transparency=0)]
    files += [packed("BMP", mode) for mode in ("1", "L", "P", "RGB", "RGBA")]
    files += [packed("TIFF", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F")]
    files += [
        packed("TIFF", "RGB", compression=each) for each in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
    ]
    files += [
        packed("TIFF", "1", compression="group4"),
        packed("TIFF", "RGB", exif=EXIF),
        packed("TIFF", "RGB", **several()),
    ]
    files += [deep((24, 40, 3), np.float32), deep((24, 40, 3), np.uint16, compression="zlib", predictor=True)]
    files += [deep((3, 24, 40), np.uint16, planarconfig="separate", photometric="rgb")]
    files += [deep((32, 48), np.float32, tile=(16, 16), bigtiff=True), deep((24, 40, 4), np.uint16, extrasamples=[2])]
    files += [packed("AVIF", "RGB"), packed("AVIF", "RGBA", exif=EXIF), packed("AVIF", "RGB", **several())]
    files += [packed("HEIF", "RGB"), packed("HEIF", "RGBA"), packed("HEIF", "RGB", exif=EXIF.tobytes())]
    return files


def pictures() -> st.SearchStrategy[bytes]:
    files = st.deferred(lambda: spoilt(picture_files()))
    return st.one_of(files, files.map(with_right_sums))


def open_as_reference(data: bytes) -> None:
    opened = read_image(data, name="The reference").image
    assert opened.mode in ("RGB", "RGBA")
    assert flatten(opened).size == opened.size


@examples(60)
def test_pictures(count: int) -> None:
    holds(open_as_reference, pictures(), count=count)


@examples(30)
def test_masks(count: int) -> None:
    picture = noise("RGB")

    def open_as_mask(data: bytes) -> None:
        mask = read_mask(data, Opened(image=picture), may_be_empty=True).mask
        assert (mask.mode, mask.size) == ("L", picture.size)

    holds(open_as_mask, pictures(), count=count)
