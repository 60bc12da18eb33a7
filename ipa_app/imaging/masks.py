"""Inpainting masks: reading them, choosing the box to work on, and pasting the result back exactly.

A mask is mode "L" of the picture's size, 255 = repaint, 0 = keep. Every pixel outside it keeps its bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from ipa_app.errors import UserError
from ipa_app.imaging.cropping import Box, fitted_size, is_huge, scale_window
from ipa_app.imaging.opening import PictureSource, flatten, read_image

_THRESHOLD = 127
_LARGEST_REGION = 1024
_TO_HARD = [255 if value > _THRESHOLD else 0 for value in range(256)]


def fit_mask(mask: Image.Image, size: tuple[int, int], *, may_be_empty: bool = False) -> Image.Image:
    """Fit a mask to a picture's size. White is repainted, from middle grey up.

    Args:
        mask: of any size; stretched if its shape differs from the picture's.
        size: the picture's (width, height).
        may_be_empty: whether to accept a mask in which nothing is white.

    Returns:
        Mode "L" of `size`, 0 or 255 only. A mask that is in this form already is returned itself.

    Raises:
        UserError: nothing in it is white.
    """
    is_fit = mask.mode == "L" and mask.size == size and not any(mask.histogram()[1:255])
    mask = mask if is_fit else _hard(mask).resize(size, Image.Resampling.NEAREST)
    if mask.getbbox() is None and not may_be_empty:
        raise UserError("mask.empty")
    return mask


def join_masks(mask: Image.Image, other: Image.Image | None) -> Image.Image:
    """Return the pixelwise maximum of two masks of any greys, in the size of the first."""
    if other is None:
        return mask
    return ImageChops.lighter(mask, other.resize(mask.size, Image.Resampling.NEAREST))


def editor_mask(editor_value: Mapping[str, Any] | None) -> tuple[Image.Image, Image.Image]:
    """Convert a value of gr.ImageEditor to the picture and its mask.

    Args:
        editor_value: its dict with "background" and "layers", each a picture or a file's path. The composite is
            ignored: it is missing if the page itself set the picture. On a fixed canvas the picture has a
            transparent frame, which is cropped.

    Returns:
        The picture as RGB, and its mask, set where any layer is opaque.

    Raises:
        UserError: there is no picture, or nothing was painted.

    Source: gradio 6.31 components/image_editor.py, and its behaviour in a browser.
    """
    background = (editor_value or {}).get("background")
    no_picture = UserError("mask.no_picture")
    if editor_value is None or background is None:
        raise no_picture
    canvas = read_image(background, min_side=1).image.convert("RGBA")
    frame = canvas.getchannel("A").getbbox()
    if frame is None:
        raise no_picture
    mask = _painted(editor_value.get("layers") or (), canvas.size).crop(frame)
    if mask.getbbox() is None:
        raise UserError("mask.nothing_painted")
    return flatten(canvas.crop(frame)), mask


def region_levels(mask: Image.Image) -> Image.Image:
    """Normalise a mask whose greys count.

    Args:
        mask: of any mode and size.

    Returns:
        Mode "L", at most 1024 pixels a side, which is more than the cells of any latent grid.

    Raises:
        UserError: it is black all over.
    """
    levels = mask if mask.mode == "L" else mask.convert("L")
    if max(levels.size) > _LARGEST_REGION:
        levels = levels.resize(fitted_size(levels.size, (_LARGEST_REGION, _LARGEST_REGION)), Image.Resampling.BOX)
    if levels.getbbox() is None:
        raise UserError("region.empty").blaming("region_mask")
    return levels


def soften(mask: Image.Image, percent: float) -> Image.Image:
    """Soften a mask's edge on both sides.

    Args:
        mask: mode "L".
        percent: width of the edge in percent of the mask's longer side; 0 leaves it hard.
    """
    # Nearly all of a Gaussian lies within two standard deviations to either side.
    return mask.filter(ImageFilter.GaussianBlur(percent / 100 * max(mask.size) / 4)) if percent else mask


def editor_levels(editor_value: Mapping[str, Any] | None) -> Image.Image | None:
    """Return the paint of a gr.ImageEditor value as a soft mask, ignoring its picture; None if nothing is painted.

    Args:
        editor_value: as for `editor_mask`.

    Returns:
        Mode "L", 255 where any layer is opaque.
    """
    background = (editor_value or {}).get("background")
    if editor_value is None or background is None:
        return None
    size = read_image(background, min_side=1).image.size
    levels = _painted(editor_value.get("layers") or (), size, keep_soft=True)
    return levels if levels.getbbox() else None


def mask_box(
    mask: Image.Image,
    *,
    padding: float = 0.25,
    aspect: float = 1.0,
    min_side: int = 64,
    multiple: int = 8,
    inside: bool = False,
) -> Box:
    """Choose the part of the picture to work on: the painted area with some context.

    Args:
        mask: as returned by `fit_mask`.
        padding: context on each side, as a fraction of the painted area's longer side.
        aspect: preferred width / height, as far as the picture's edges allow.
        min_side: preferred minimum of width and height in pixels.
        multiple: width and height are multiples of this, unless the picture itself is smaller.
        inside: whether the context is cut off at the picture's edges; otherwise it is extended on the other side.

    Returns:
        (left, top, right, bottom) inside the picture, around the whole painted area.

    Raises:
        UserError: the mask is empty.
    """
    painted = _hard(mask).getbbox()
    if painted is None:
        raise UserError("mask.painted_empty")
    left, top, right, bottom = painted
    margin = padding * max(right - left, bottom - top)
    if inside:
        left, top = max(0, left - margin), max(0, top - margin)
        right, bottom = min(mask.width, right + margin), min(mask.height, bottom + margin)
        margin = 0
    width, height = max(right - left + 2 * margin, min_side), max(bottom - top + 2 * margin, min_side)
    width, height = max(width, height * aspect), max(height, width / aspect)
    box_left, box_right = _span((left + right) / 2, length=width, limit=mask.width, multiple=multiple)
    box_top, box_bottom = _span((top + bottom) / 2, length=height, limit=mask.height, multiple=multiple)
    return box_left, box_top, box_right, box_bottom


def grow(mask: Image.Image, radius: float) -> Image.Image:
    """Grow the painted area by `radius` pixels on all sides, or shrink it if negative; corners become round.

    Args:
        mask: as returned by `fit_mask`.
        radius: in pixels. Growing by less than one pixel, which would be invisible, does nothing.

    Returns:
        Mode "L", 0 or 255. Where the area touches the picture's edge, it does not shrink away from it.
    """
    hard = _hard(mask)
    if abs(radius) < 1 or hard.getextrema() in ((0, 0), (255, 255)):
        return hard
    grown = _depth(ImageChops.invert(hard)) <= radius if radius > 0 else _depth(hard) > -radius
    return Image.fromarray(grown.astype(np.uint8) * 255)


def cover_cells(mask: Image.Image, size: tuple[int, int], *, cell: int, window: Box | None = None) -> Image.Image:
    """Scale a mask so that every cell of `cell` pixels that contains a masked pixel is masked completely.

    Pipelines sample one pixel per latent cell and so miss thin strokes.

    Args:
        mask: mode "L".
        size: (width, height) of the result.
        cell: side of a cell in pixels of the result.
        window: the part of the mask to scale, as for `scale_window`; None for all.
    """
    window = window or (0, 0, *mask.size)
    if cell > 1 and is_huge(window):
        # Round the part inside the picture to whole pixels; whole cells would shift it.
        mask, window = cover_cells(mask, size, cell=1, window=window), (0, 0, *size)
    grid = (size[0] // cell, size[1] // cell)
    covered = np.asarray(scale_window(mask, window, grid, Image.Resampling.BOX, mode="F")) > 0
    return Image.fromarray(covered.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)


def blank_masked(image: Image.Image, mask: Image.Image) -> np.ndarray:
    """Return the conditioning image of an inpainting ControlNet.

    Source: `make_inpaint_condition` in the model card of control_v11p_sd15_inpaint (Zhang et al. 2023).

    Args:
        image: mode "RGB".
        mask: of the same size, 0 or 255.

    Returns:
        (height, width, 3) float32 in 0..1, and -1 where the mask is white.
    """
    seen = np.asarray(image, np.float32) / 255
    seen[np.asarray(mask) > _THRESHOLD] = -1
    return seen


def fill_masked(image: Image.Image, mask: Image.Image) -> Image.Image:
    """Fill the masked area smoothly from its surroundings, so that nothing is left of its content.

    Source: pull-push, as in Gortler et al. 1996, "The Lumigraph", section 3.4: unknown pixels take the mean of the
    known ones in squares that grow until they contain some.

    Args:
        image: mode "RGB".
        mask: of the same size, as returned by `fit_mask`.

    Returns:
        A new picture; pixels where the mask is not above 127 equal the original's.

    Raises:
        ValueError: the whole picture is masked.
    """
    known = np.asarray(_hard(mask)) == 0
    if not known.any():
        raise ValueError("nothing is around a mask that covers everything")
    return Image.fromarray(np.rint(_pull_push(np.asarray(image, np.float32), known)).astype(np.uint8))


def feather(mask: Image.Image, radius: int) -> Image.Image:
    """Soften a mask's edge inwards.

    Args:
        mask: as returned by `fit_mask`.
        radius: width of the ramp in pixels; halved where the painted area is thinner, so that it never vanishes.

    Returns:
        Mode "L": 0 wherever the mask is not above 127, rising inwards to 255. No ramp along the picture's own edges.
    """
    hard = _hard(mask)
    if hard.getextrema() in ((0, 0), (255, 255)):
        return hard
    depth = _depth(hard, diagonals_count_as_one=True).astype(np.float64)
    width = max(1, min(radius, int(depth.max()) // 2))
    return Image.fromarray(np.rint(np.minimum(depth, width) * 255 / width).astype(np.uint8))


def paste_back(
    original: Image.Image, patch: Image.Image, mask: Image.Image, box: Box, *, feather_radius: int = 0
) -> Image.Image:
    """Put a repainted part back into the picture.

    Args:
        original: mode "RGB".
        patch: the picture made for `box`, of any size; it is scaled to the box.
        mask: of the original's size, as returned by `fit_mask`.
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


def _painted(layers: Sequence[PictureSource | None], size: tuple[int, int], *, keep_soft: bool = False) -> Image.Image:
    """Return the union of all layers on a canvas of `size`: their opacity, or 255 where that is above the middle."""
    mask = Image.new("L", size, 0)
    for layer in layers:
        if layer is None:
            continue
        alpha = read_image(layer, min_side=1).image.convert("RGBA").getchannel("A")
        alpha = alpha if keep_soft else _hard(alpha)
        mask = ImageChops.lighter(mask, alpha.resize(size, Image.Resampling.NEAREST))
    return mask


def _pull_push(pixels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fill in the unknown ones of `pixels` (height, width, 3); at least one of `known` (height, width) must be true."""
    import cv2

    if known.all():
        return pixels
    height, width = known.shape
    even = ((0, height % 2), (0, width % 2))
    shares = np.pad(known, even).astype(np.float32)[..., None]
    sums, counts = (
        each.reshape(shares.shape[0] // 2, 2, shares.shape[1] // 2, 2, -1).sum(axis=(1, 3))
        for each in (np.pad(pixels, (*even, (0, 0))) * shares, shares)
    )
    coarse = _pull_push(sums / np.maximum(counts, 1), counts[..., 0] > 0)
    smooth = cv2.resize(coarse, (shares.shape[1], shares.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.where(known[..., None], pixels, smooth[:height, :width])


def _hard(mask: Image.Image) -> Image.Image:
    """Threshold a mask: mode "L", 255 above the threshold and 0 elsewhere."""
    return mask.convert("L").point(_TO_HARD)


def _depth(mask: Image.Image, *, diagonals_count_as_one: bool = False) -> np.ndarray:
    """Return each pixel's distance to the nearest pixel that is 0, in pixels.

    Args:
        mask: mode "L" with at least one 0. Nothing beyond its edges counts as 0.
        diagonals_count_as_one: use the chessboard distance instead of the Euclidean one.

    Returns:
        (height, width) float32, 0 where the mask is.
    """
    # Slow to import, and not needed before the first mask. Its distances take milliseconds at any radius.
    import cv2

    kind, size = (cv2.DIST_C, cv2.DIST_MASK_3) if diagonals_count_as_one else (cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return cv2.distanceTransform(np.asarray(mask), kind, size)


def _span(centre: float, *, length: float, limit: int, multiple: int) -> tuple[int, int]:
    """Whole pixels around `centre`, at least `length` long and rounded up to `multiple`, shifted into 0..limit."""
    pixels = min(limit, -int(-length // multiple) * multiple)
    start = max(0, min(round(centre - pixels / 2), limit - pixels))
    return start, start + pixels
