"""Encode pictures as text, to be stored in a result's notes.

A result carries its input pictures, so that one file is enough to reproduce it. The text is the Base64 of a WebP file:
lossless up to a size, and nearly lossless beyond it.
"""

from __future__ import annotations

import base64
import binascii
import io

from PIL import Image

from ipa_app.errors import UserError
from ipa_app.imaging.opening import read_image
from ipa_app.imaging.transparency import in_colour

# Enough for what an image encoder sees (224 to 448 pixels a side), and for inpainting a picture again.
LONGEST_SIDE = {"reference": 512, "image": 1536, "mask": 1536, "pose": 1024}

# A lossless 512 x 512 photo is about 400 KB; above this many bytes the result's file would get too large.
_MOST_EXACT_BYTES = 768 * 1024
_QUALITY = 92
_EFFORT = 50  # for lossless files, where "quality" is the compression effort
_LEAST_SIDE = 8
# Length in Base64 of the largest picture that `pack_picture` could write uncompressed.
_MOST_CHARACTERS = 10 * 2**20


def pack_picture(image: Image.Image, *, longest: int) -> str:
    """Encode a picture as text.

    Args:
        image: mode "RGB", "RGBA" or "L".
        longest: the longer side is scaled down to this many pixels; smaller pictures keep their size.

    Returns:
        ASCII. A picture that is small enough is restored exactly, and the same picture gives the same text.
    """
    image = in_colour(image)
    size = packed_size(image.size, longest=longest)
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    data = _webp(image, lossless=True, quality=_EFFORT)
    if len(data) > _MOST_EXACT_BYTES:
        data = _webp(image, lossless=False, quality=_QUALITY)
    return base64.b64encode(data).decode("ascii")


def packed_size(size: tuple[int, int], *, longest: int) -> tuple[int, int]:
    """Return the size that a picture comes back with; `longest` is as for `pack_picture`."""
    if max(size) <= longest:
        return size
    width, height = (max(_LEAST_SIDE, round(side * longest / max(size))) for side in size)
    return width, height


def unpack_picture(text: str, *, longest: int) -> Image.Image:
    """Decode a picture from untrusted text.

    Args:
        text: as returned by `pack_picture`.
        longest: as for `pack_picture`; larger pictures are rejected before decoding.

    Returns:
        Mode "RGB", or "RGBA" if any part is transparent.

    Raises:
        UserError: the text is not such a picture.
    """
    damaged = UserError("recipe.picture_damaged")
    if len(text) > _MOST_CHARACTERS:
        raise damaged
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
        image = read_image(data, max_pixels=longest * longest, min_side=1).image
    except (UnicodeEncodeError, binascii.Error, UserError) as error:
        raise damaged from error
    if max(image.size) > longest:
        raise damaged
    return image


def _webp(image: Image.Image, *, lossless: bool, quality: int) -> bytes:
    buffer = io.BytesIO()
    # exact=True also keeps colours under transparent parts.
    image.save(buffer, format="WEBP", lossless=lossless, quality=quality, method=4, exact=True)
    return buffer.getvalue()
