"""Pictures as text, to travel inside a result's notes.

The pictures a result was made from go with it, so that one file is enough to make it again. Text is Base64 of a WebP
file: exact up to a size, and very nearly exact beyond it.
"""

from __future__ import annotations

import base64
import binascii
import io

from PIL import Image

from ipa_app.errors import UserError
from ipa_app.imaging.opening import read_image
from ipa_app.imaging.transparency import in_colour

# Enough for what an image encoder sees (224 to 448 pixels across), and for painting on a picture again.
LONGEST_SIDE = {"reference": 512, "image": 1536, "mask": 1536, "pose": 1024}

# An exact 512 x 512 photo is about 400 KB; above this many bytes the file would grow out of all proportion.
_MOST_EXACT_BYTES = 768 * 1024
_QUALITY = 92
_EFFORT = 50  # for exact files, where "quality" means how long to look for a shorter one
_LEAST_SIDE = 8
# Base64 of the largest picture that `pack_picture` could write without any compression.
_MOST_CHARACTERS = 10 * 2**20


def pack_picture(image: Image.Image, *, longest: int) -> str:
    """Write a picture as text.

    Args:
        image: mode "RGB", "RGBA" or "L".
        longest: its longer side is scaled down to this many pixels; smaller pictures keep their size.

    Returns:
        ASCII. The picture comes back exactly when it was small enough, and the same picture gives the same text.
    """
    image = in_colour(image)
    if max(image.size) > longest:
        factor = longest / max(image.size)
        width, height = (max(_LEAST_SIDE, round(side * factor)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    data = _webp(image, lossless=True, quality=_EFFORT)
    if len(data) > _MOST_EXACT_BYTES:
        data = _webp(image, lossless=False, quality=_QUALITY)
    return base64.b64encode(data).decode("ascii")


def unpack_picture(text: str, *, longest: int) -> Image.Image:
    """Read a picture back from text that anybody may have written.

    Args:
        text: as `pack_picture` gives it.
        longest: as for `pack_picture`; a larger picture is refused before it is decoded.

    Returns:
        Mode "RGB", or "RGBA" where it is transparent anywhere.

    Raises:
        UserError: it is no such text.
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
    # Colours are kept under transparent parts, too.
    image.save(buffer, format="WEBP", lossless=lossless, quality=quality, method=4, exact=True)
    return buffer.getvalue()
