"""Inpainting masks: where they come from, the box that is worked on, and putting the result back exactly.

A mask is mode "L" of the picture's size, 255 = repaint, 0 = keep. Every pixel outside it keeps its bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from ipa_app.errors import UserError
from ipa_app.imaging.opening import BLACK, PictureSource, decode, flatten

Box = tuple[int, int, int, int]

_THRESHOLD = 127
_TO_HARD = [255 if value > _THRESHOLD else 0 for value in range(256)]


def open_mask(source: PictureSource, size: tuple[int, int]) -> Image.Image:
    """Open a mask of any size and kind for a picture of `size`.

    White is repainted. A layer of strokes in any colour on a transparent ground counts as painted where it is opaque.

    Args:
        source: as for `open_image`; one pixel is enough, and another shape than the picture's is stretched.
        size: the picture's (width, height).

    Returns:
        Mode "L" of `size`, 0 or 255 only.

    Raises:
        UserError: not a picture, or nothing in it is white.
    """
    image = decode(source, min_side=1)
    mask = _hard(flatten(image, background=BLACK).convert("L"))
    if mask.getbbox() is None and image.has_transparency_data:
        alpha = _hard(image.convert("RGBA").getchannel("A"))
        # An opaque black picture is an empty mask; black strokes on a transparent ground are a painted one.
        if alpha.getextrema() == (0, 255):
            mask = alpha
    mask = mask.resize(size, Image.Resampling.NEAREST)
    if mask.getbbox() is None:
        raise UserError("The mask is empty: please paint over the part that should change (white = repaint).")
    return mask


def editor_mask(editor_value: Mapping[str, Any] | None) -> tuple[Image.Image, Image.Image]:
    """Turn what gr.ImageEditor sends into the picture and its mask.

    Args:
        editor_value: its dict with "background" and "layers", each a picture or a file's path. The composite is
            ignored: it is missing after the page set the picture itself. On a fixed canvas the picture sits
            in a transparent frame, which is cut away.

    Returns:
        The picture as RGB, and its mask: where any layer is opaque.

    Raises:
        UserError: there is no picture, or nothing was painted.

    Source: gradio 6.31 components/image_editor.py, and its behaviour in a browser.
    """
    background = (editor_value or {}).get("background")
    no_picture = UserError("There is no picture to change yet: please add one, then paint over the part to change.")
    if editor_value is None or background is None:
        raise no_picture
    canvas = decode(background, min_side=1).convert("RGBA")
    frame = canvas.getchannel("A").getbbox()
    if frame is None:
        raise no_picture
    picture = flatten(canvas.crop(frame))
    # Painting without a picture sends a blank canvas as the background.
    pixels = np.asarray(picture)
    if (pixels == pixels[0, 0]).all():
        raise no_picture
    mask = _painted(editor_value.get("layers") or (), canvas.size).crop(frame)
    if mask.getbbox() is None:
        raise UserError("Nothing is painted yet: please paint over the part of the picture that should change.")
    return picture, mask


def mask_box(
    mask: Image.Image, *, padding: float = 0.25, aspect: float = 1.0, min_side: int = 64, multiple: int = 8
) -> Box:
    """Choose the part of the picture to work on: the painted area with some surroundings.

    Args:
        mask: as `open_mask` gives it.
        padding: surroundings on each side, as a fraction of the painted area's longer side.
        aspect: width / height wished for, reached as far as the picture's edges allow.
        min_side: least width and height wished for, in pixels.
        multiple: width and height are multiples of this, unless the picture itself is smaller.

    Returns:
        (left, top, right, bottom) inside the picture, around the whole painted area.

    Raises:
        UserError: the mask is empty.
    """
    painted = _hard(mask).getbbox()
    if painted is None:
        raise UserError("The mask is empty: please paint over the part of the picture that should change.")
    left, top, right, bottom = painted
    margin = 2 * padding * max(right - left, bottom - top)
    width, height = max(right - left + margin, min_side), max(bottom - top + margin, min_side)
    width, height = max(width, height * aspect), max(height, width / aspect)
    box_left, box_right = _span((left + right) / 2, length=width, limit=mask.width, multiple=multiple)
    box_top, box_bottom = _span((top + bottom) / 2, length=height, limit=mask.height, multiple=multiple)
    return box_left, box_top, box_right, box_bottom


def feather(mask: Image.Image, radius: int) -> Image.Image:
    """Soften a mask's edge inwards.

    Args:
        mask: as `open_mask` gives it.
        radius: width of the ramp in pixels; halved where the painted area is thinner, so that it never fades away.

    Returns:
        Mode "L": 0 wherever the mask is not above 127, rising inwards to 255. No ramp along the picture's own edges.
    """
    levels = [_hard(mask)]
    while len(levels) < 2 * radius:
        # Erosion by one pixel; Pillow continues the picture beyond its edges, where no seam can show.
        eroded = levels[-1].filter(ImageFilter.MinFilter(3))
        if eroded.getbbox() is None:
            break
        levels.append(eroded)
    ramp = levels[: max(1, min(radius, len(levels) // 2))]
    depth = np.zeros((mask.height, mask.width), dtype=np.uint32)
    for level in ramp:
        depth += np.asarray(level)
    return Image.fromarray(np.rint(depth / len(ramp)).astype(np.uint8))


def paste_back(
    original: Image.Image, patch: Image.Image, mask: Image.Image, box: Box, *, feather_radius: int = 0
) -> Image.Image:
    """Put a repainted part back into the picture.

    Args:
        original: mode "RGB".
        patch: what was made for `box`, of any size; it is scaled to the box.
        mask: of the original's size, as `open_mask` gives it.
        box: (left, top, right, bottom) in the original.
        feather_radius: pixels over which the patch fades in, inside the mask.

    Returns:
        A new picture; pixels outside the box, and those where the mask is not above 127, equal the original's.
    """
    size = (box[2] - box[0], box[3] - box[1])
    patch = patch.convert("RGB")
    if patch.size != size:
        patch = patch.resize(size, Image.Resampling.LANCZOS)
    result = original.copy()
    result.paste(patch, box, mask=feather(mask.crop(box), feather_radius))
    return result


def _painted(layers: Sequence[PictureSource | None], size: tuple[int, int]) -> Image.Image:
    """Union of all layers' opaque pixels on a canvas of `size`."""
    mask = Image.new("L", size, 0)
    for layer in layers:
        if layer is None:
            continue
        alpha = _hard(decode(layer, min_side=1).convert("RGBA").getchannel("A"))
        mask = ImageChops.lighter(mask, alpha.resize(size, Image.Resampling.NEAREST))
    return mask


def _hard(mask: Image.Image) -> Image.Image:
    """Mode "L", 255 above the threshold and 0 elsewhere."""
    return mask.convert("L").point(_TO_HARD)


def _span(centre: float, *, length: float, limit: int, multiple: int) -> tuple[int, int]:
    """Whole pixels around `centre`, at least `length` long and rounded up to `multiple`, shifted into 0..limit."""
    pixels = min(limit, -int(-length // multiple) * multiple)
    start = max(0, min(round(centre - pixels / 2), limit - pixels))
    return start, start + pixels
