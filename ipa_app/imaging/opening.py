"""Open pictures from people nobody knows: any file becomes an upright RGB picture or one clear sentence.

Only the header is decoded until the size is known to be bearable, only common raster formats are tried
(no PostScript, no vector formats), and every way in which a decoder can trip over a damaged file ends in
a `UserError`.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from ipa_app.errors import UserError

PictureSource = str | Path | bytes | Image.Image | np.ndarray
Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)
# The mean CLIP subtracts, (0.48145466, 0.4578275, 0.40821073), in bytes: what is painted in it is zero to the tower.
CLIP_MEAN: Colour = (123, 117, 104)

MAX_PIXELS = 50_000_000

_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's decoders raise on damaged files, beside OSError: they are written for speed, not for hostile input.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    AttributeError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
)


def open_image(
    source: PictureSource,
    *,
    max_pixels: int = MAX_PIXELS,
    min_side: int = 8,
    background: Colour = WHITE,
) -> Image.Image:
    """Open a picture of any common kind as upright RGB.

    Args:
        source: a file's path, its bytes, a Pillow picture, or a uint8 array (H, W) or (H, W, 1 to 4).
        max_pixels: the most pixels allowed; larger files are refused before they are decoded.
        min_side: the fewest pixels allowed on either side.
        background: what shows through transparent parts, RGB 0..255.

    Returns:
        Mode "RGB", turned as its EXIF orientation says, the first frame of an animation, without metadata.

    Raises:
        UserError: not a picture, damaged, too small or too large.
    """
    return flatten(decode(source, max_pixels=max_pixels, min_side=min_side), background=background)


def decode(source: PictureSource, *, max_pixels: int = MAX_PIXELS, min_side: int = 8) -> Image.Image:
    """Open a picture upright and in its own mode, transparency included.

    Args:
        source: as for `open_image`.
        max_pixels: as for `open_image`.
        min_side: as for `open_image`.

    Returns:
        A loaded picture of any Pillow mode, the first frame of an animation.

    Raises:
        UserError: as for `open_image`.
    """
    image = _open(source, max_pixels=max_pixels)
    width, height = image.size
    if width * height > max_pixels:
        raise UserError(
            f"This picture is {width} x {height} pixels, more than the {max_pixels / 1e6:g} million pixels that can be "
            "opened here: please make it smaller first."
        )
    if min(width, height) < min_side:
        raise UserError(
            f"This picture is only {width} x {height} pixels: please use one of at least {min_side} x {min_side}."
        )
    try:
        image.load()
    except Image.DecompressionBombError as error:
        raise _too_large(max_pixels) from error
    except _DAMAGED as error:
        raise UserError(
            "This picture is damaged or not complete: please save or download it again and try once more."
        ) from error
    turn = _UPRIGHT.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def flatten(image: Image.Image, *, background: Colour = WHITE) -> Image.Image:
    """Bring a loaded picture of any mode to RGB, with `background` (RGB, 0..255) under its transparent parts.

    Raises:
        UserError: the picture's colour mode cannot be turned into RGB.
    """
    image = _to_eight_bits(image)
    try:
        if image.has_transparency_data:
            rgba = image.convert("RGBA")
            flat = Image.new("RGB", image.size, background)
            flat.paste(rgba, mask=rgba.getchannel("A"))
        else:
            flat = image.convert("RGB")
    except _DAMAGED as error:
        raise UserError(
            f"The colours of this picture (mode {image.mode}) cannot be read: please save it as a plain PNG or JPEG."
        ) from error
    # A fresh picture: an upload's metadata (place, camera, profile) must not travel into results.
    clean = Image.new("RGB", flat.size)
    clean.paste(flat)
    return clean


def _open(source: PictureSource, *, max_pixels: int) -> Image.Image:
    """Read the header of a file, or take what is already decoded."""
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, np.ndarray):
        return _from_array(source)
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]  # AVIF depends on how Pillow was built
    try:
        # Read whole, so that no file stays open behind a picture that is refused or animated.
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        return Image.open(io.BytesIO(data), formats=formats)
    except Image.DecompressionBombError as error:
        raise _too_large(max_pixels) from error
    except _DAMAGED as error:
        raise UserError(
            "This file cannot be opened as a picture: please use a PNG, JPEG, WebP, GIF, BMP or TIFF file."
        ) from error


def _from_array(array: np.ndarray) -> Image.Image:
    """Take a uint8 array (H, W) or (H, W, channels) as grey, grey with alpha, RGB or RGBA."""
    pixels = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    readable = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (2, 3, 4))
    if not readable or pixels.dtype != np.uint8 or pixels.size == 0:
        raise UserError(
            f"An array of shape {tuple(array.shape)} and type {array.dtype} is not a picture: "
            "please give bytes (uint8) of height x width x 3."
        )
    return Image.fromarray(np.ascontiguousarray(pixels))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1..8; damaged EXIF data counts as upright, as it does in browsers."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DAMAGED:
        return 1
    return value if isinstance(value, int) else 1


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and floating-point grey to mode "L", where Pillow's own conversion would clip to white."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    # Floating-point TIFFs hold 0..1 or 0..255, and nothing in the file says which.
    white = 65535.0 if image.mode != "F" else 1.0 if values.max() <= 1.0 else 255.0
    if image.mode != "F":
        white = max(white, float(values.max()))
    return Image.fromarray(np.clip(np.rint(values * (255.0 / white)), 0, 255).astype(np.uint8))


def _too_large(max_pixels: int) -> UserError:
    return UserError(
        f"This picture has far more than the {max_pixels / 1e6:g} million pixels that can be opened here: "
        "please make it smaller first."
    )
