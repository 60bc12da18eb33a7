"""Pictures with more than eight bits per channel: 16- and 32-bit integers, and floating point."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from ipa_app.errors import UserError
from ipa_app.imaging.formats import check_page
from ipa_app.messages import Message

# Users are told in a sentence what is wrong with a file; tifffile would log a line for every tag.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

_BITS_TAG, _PHOTOMETRIC_TAG, _ORIENTATION_TAG, _PROFILE_TAG = 258, 262, 274, 34675
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_PLANES_APART = 2
_ALPHA_MULTIPLIED = 1
_LARGEST_BYTES = 2**30
_SIXTEEN_BITS = 65535
_SAMPLED = 100_000


@dataclass(frozen=True, kw_only=True)
class DeepPicture:
    """A decoded TIFF that Pillow cannot read.

    Attributes:
        values: (H, W) or (H, W, channels) of any real type; with two or four channels, the last is alpha.
        is_negative: whether 0 is white.
        is_only: whether it is the only page of its file.
        orientation: as in EXIF, 1..8.
        profile: its ICC profile.
    """

    values: np.ndarray
    is_negative: bool
    is_only: bool
    orientation: int
    profile: bytes | None


def is_deep(image: Image.Image) -> bool:
    """Whether a picture is grey with more than eight bits per pixel."""
    return image.mode == "F" or image.mode.startswith("I")


def is_negative(image: Image.Image) -> bool:
    """Whether 0 is white in a picture of a deep mode; Pillow does not invert such pictures."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO


def deep_grey(image: Image.Image) -> np.ndarray:
    """Return the values of a loaded picture of a deep mode.

    Returns:
        (H, W) of the mode's own type; (H, W, 2), with alpha second, if one grey is declared transparent.
    """
    values = np.asarray(image)
    if isinstance(image, TiffImagePlugin.TiffImageFile) and _is_sixteen_bits(values):
        bits = np.ravel(image.tag_v2[_BITS_TAG])[0]
        values = (values.astype(np.uint32) * _SIXTEEN_BITS // (2 ** int(bits) - 1)).astype(np.uint16)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        values = np.stack([values, np.where(values == transparent, 0, _SIXTEEN_BITS).astype(values.dtype)], axis=2)
    return values


def fractions(values: np.ndarray, *, name: str) -> tuple[np.ndarray, list[Message]]:
    """Scale values to 0 (black) to 1 (white).

    16-bit integers use their whole range from black to white. Floating-point files use 0..1, with anything brighter
    than white above that, or occasionally 0..255 or 0..65535; 32-bit integers use the range of some smaller type or
    their own. Nothing in a file says which, so it is inferred from the values.

    Args:
        values: of any shape and real type.
        name: what the picture is called in a sentence.

    Returns:
        float32 of the same shape, and a note if the range had to be guessed.
    """
    numbers = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=np.inf, neginf=0.0)
    white, notes = _white_of(numbers, values.dtype, name)
    return np.clip(numbers / np.float32(white), 0, 1), notes


def note_of_brightness(name: str) -> Message:
    """Return a message on what happens to light too bright for an ordinary screen."""
    return Message("picture.brighter_than_white", name=name)


def read_deep_tiff(data: bytes, *, max_pixels: int) -> DeepPicture:
    """Decode a TIFF that Pillow cannot: floating-point colours, half and double precision, 32 bits, separate planes.

    Args:
        data: content of the file.
        max_pixels: larger pictures are rejected before decoding.

    Raises:
        UserError: it is a camera's raw file, begins with a preview, is too large, or of an unsupported kind.
        Exception: of any type if the file is damaged.
    """
    import tifffile

    # Before tifffile 2026 its error did not derive from a built-in one.
    try:
        return _read_deep_tiff(tifffile.TiffFile(io.BytesIO(data)), data, max_pixels=max_pixels)
    except tifffile.TiffFileError as error:
        raise ValueError("this TIFF file is damaged") from error


def _read_deep_tiff(tiff: Any, data: bytes, *, max_pixels: int) -> DeepPicture:
    with tiff as file:
        page = file.pages.first
        tags = {tag.code: tag.value for tag in page.tags}
        is_only = not _has_more(file.pages)
        check_page(tags, is_only=is_only)
        width, height = page.imagewidth, page.imagelength
        if width * height > max_pixels or width * height * page.samplesperpixel * page.dtype.itemsize > _LARGEST_BYTES:
            raise UserError("picture.too_large_in_bits", width=width, height=height, bits=8 * page.dtype.itemsize)
        if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB) or page.samplesperpixel > 4:
            raise UserError("picture.unknown_tiff_colours")
        values = _pixels(data, page)
    orientation, profile = tags.get(_ORIENTATION_TAG, 1), tags.get(_PROFILE_TAG)
    return DeepPicture(
        values=values,
        is_negative=page.photometric == _WHITE_IS_ZERO,
        is_only=is_only,
        orientation=int(orientation),
        profile=profile if isinstance(profile, bytes) else None,
    )


def _has_more(pages: Any) -> bool:
    """Whether a second page follows; one that cannot be reached does not count."""
    try:
        return len(pages) > 1
    except Exception:  # noqa: BLE001 - the chain of pages is untrusted, and the first one can be read
        return False


def _pixels(data: bytes, page: Any) -> np.ndarray:
    """Decode a page, whose size is known to be acceptable, as (H, W) or (H, W, channels).

    Raises:
        UserError: nothing here decodes this kind.
        Exception: of any type if the file is damaged.
    """
    try:
        values = page.asarray()
    except (ValueError, NotImplementedError) as error:
        # tifffile needs an 80 MB package for LZW, predictors and samples that are no whole bytes. OpenCV has the first
        # two, but mixes up separate planes.
        if "imagecodecs" not in str(error):
            raise
        are_planes = page.planarconfig == _PLANES_APART and page.samplesperpixel > 1
        if are_planes or isinstance(error, NotImplementedError):
            raise UserError("picture.unknown_tiff_colours") from error
        values = _pixels_by_opencv(data, page)
    if values.ndim == 3 and page.planarconfig == _PLANES_APART:
        values = np.moveaxis(values, 0, 2)
    if values.ndim not in (2, 3) or values.shape[:2] != (page.imagelength, page.imagewidth) or values.size == 0:
        raise ValueError("the header of this TIFF says something else than its pixels")
    if values.ndim == 3 and values.shape[2] in (2, 4) and _ALPHA_MULTIPLIED in page.extrasamples:
        colours, alpha = values[..., :-1], values[..., -1:]
        values = np.concatenate([np.where(alpha > 0, colours / np.maximum(alpha, 1e-6), 0), alpha], axis=2)
    return values


def _pixels_by_opencv(data: bytes, page: Any) -> np.ndarray:
    import cv2

    file = np.frombuffer(data, np.uint8)
    if _ORIENTATION_TAG in page.tags:
        # OpenCV rotates some kinds of TIFF itself, depending on its version.
        at = page.tags[_ORIENTATION_TAG].valueoffset
        upright = (1).to_bytes(2, "little" if page.parent.byteorder == "<" else "big")
        file = np.frombuffer(data[:at] + upright + data[at + 2 :], np.uint8)
    values = cv2.imdecode(file, cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError("OpenCV cannot decode this TIFF")
    return values if values.ndim == 2 else values[..., [2, 1, 0, 3][: values.shape[2]]]


def _is_sixteen_bits(values: np.ndarray) -> bool:
    return values.dtype.kind == "u" and values.dtype.itemsize == 2


def _white_of(numbers: np.ndarray, kind: np.dtype, name: str) -> tuple[float, list[Message]]:
    """Return the value of white, or a guess at it, with notes."""
    if kind.kind in "bu" and kind.itemsize <= 2:
        return {"b": 1.0, "u": 256.0**kind.itemsize - 1}[kind.kind], []
    sample = np.ravel(numbers)
    highest = float(np.max(sample, where=np.isfinite(sample), initial=0))
    if kind.kind == "f":
        if highest <= 1:
            return 1.0, []
        positive = sample[:: max(1, sample.size // _SAMPLED)]
        positive = positive[positive > 0]
        if positive.size and np.median(positive) <= 1:
            return 1.0, [note_of_brightness(name)]
    whites = [white for white in (255.0, 32767.0 if kind == np.int16 else float(_SIXTEEN_BITS)) if highest <= white]
    white = whites[0] if whites else highest
    if white == _SIXTEEN_BITS and kind.kind != "f":
        return white, []
    return white, [Message("picture.range_taken_for_white", name=name, highest=f"{highest:g}", white=f"{white:g}")]
