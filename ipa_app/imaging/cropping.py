"""Crop and scale pictures to the shapes that models expect, always predictably."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image

from ipa_app.imaging.formats import MAX_PIXELS
from ipa_app.imaging.opening import BLACK, CLIP_MEAN, WHITE, Colour

SquareMode = Literal["crop", "pad", "stretch", "tiles"]
MOST_TILES = 4

# CLIP towers see 224 to 448 pixels; beyond this size a padded or stretched square only costs memory
# (a picture of 8 x 1,000,000 pixels is a small file, its padded square is not).
_LARGEST_SQUARE = 1024
# A window around a long, thin picture grows with the square of its longer side. Windows of up to as many pixels as a
# picture may have are cut out exactly.
_LARGEST_WINDOW = MAX_PIXELS

# How much more one side may grow than the other without being noticed.
_SAME_SHAPE = 1.03

Box = tuple[int, int, int, int]


def squares_for_clip(
    image: Image.Image, *, mode: SquareMode = "crop", centre: tuple[float, float] = (0.5, 0.5)
) -> list[Image.Image]:
    """Return the exact squares that the image encoder will see, one after the other.

    Args:
        image: mode "RGB".
        mode: "tiles" cuts as many squares as cover the picture along its longer side, at most 4, evenly spaced; the
            other modes return one, as in `square_for_clip`.
        centre: as in `square_for_clip`.
    """
    if mode != "tiles":
        return [square_for_clip(image, mode=mode, centre=centre)]
    count = min(MOST_TILES, math.ceil(max(image.size) / min(image.size)))
    # Crops are kept inside the picture, so only the spacing of the centres along the longer side matters.
    half = min(image.size) / max(image.size) / 2
    middles = [half + (1 - 2 * half) * index / max(1, count - 1) for index in range(count)]
    return [square_for_clip(image, centre=(middle, middle)) for middle in middles]


def square_for_clip(
    image: Image.Image, *, mode: SquareMode = "crop", centre: tuple[float, float] = (0.5, 0.5)
) -> Image.Image:
    """Return the exact square that the image encoder will see, in modes with one square.

    Args:
        image: mode "RGB".
        mode: "crop" keeps the largest square around `centre`; "pad" keeps everything, with bars in CLIP's mean
            colour (zero after normalisation, so that bars do not leak into results); "stretch" distorts it.
        centre: centre of the crop as fractions 0..1 of width and height; the crop is kept inside the picture.

    Returns:
        A square of mode "RGB"; "pad" and "stretch" are at most 1024 pixels wide.

    Raises:
        ValueError: `mode` is none of the three.
    """
    width, height = image.size
    if mode == "crop":
        side = min(width, height)
        left = _clamp(round(centre[0] * width - side / 2), upper=width - side)
        top = _clamp(round(centre[1] * height - side / 2), upper=height - side)
        return image.crop((left, top, left + side, top + side))
    side = min(max(width, height), _LARGEST_SQUARE)
    if mode == "pad":
        return fit_padded(image, (side, side), colour=CLIP_MEAN)
    if mode == "stretch":
        return image.resize((side, side), Image.Resampling.LANCZOS)
    raise ValueError(f"mode must be crop, pad or stretch, not {mode!r}")


def fit_padded(
    image: Image.Image,
    size: tuple[int, int],
    *,
    colour: Colour = BLACK,
    resample: Image.Resampling = Image.Resampling.LANCZOS,
) -> Image.Image:
    """Scale a picture to fit inside `size` (width, height), keeping its aspect ratio, centred on `colour`."""
    width, height = size
    fitted = fitted_size(image.size, size)
    canvas = Image.new("RGB", size, colour)
    canvas.paste(image.resize(fitted, resample), ((width - fitted[0]) // 2, (height - fitted[1]) // 2))
    return canvas


def fitted_size(size: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """Return the largest (width, height) in `frame` with the aspect ratio of `size`, at least one pixel each way."""
    scale = min(frame[0] / size[0], frame[1] / size[1])
    return max(1, min(frame[0], round(size[0] * scale))), max(1, min(frame[1], round(size[1] * scale)))


def keeps_shape(before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Whether two sizes differ in shape by no more than rounding their sides to multiples of 8 would change it."""
    across, down = (new / old for new, old in zip(after, before, strict=True))
    return max(across, down) <= _SAME_SHAPE * min(across, down)


def side_by_side(images: Sequence[Image.Image], *, gap: int = 2) -> Image.Image:
    """Place pictures of one size in a row, mode "RGB", with `gap` pixels between them."""
    width, height = images[0].size
    strip = Image.new("RGB", (len(images) * (width + gap) - gap, height), WHITE)
    for index, image in enumerate(images):
        strip.paste(image, (index * (width + gap), 0))
    return strip


def cut_window(image: Image.Image, window: Box) -> Image.Image:
    """Cut out a window (left, top, right, bottom) that may extend beyond the edges, where the outermost pixels repeat.

    Args:
        image: mode "L" or "RGB".
        window: overlaps the picture by at least one pixel.
    """
    left, top, right, bottom = window
    inside = image.crop(part_inside(window, image.size))
    rows = (max(0, -top), max(0, bottom - image.height))
    columns = (max(0, -left), max(0, right - image.width))
    pixels = np.asarray(inside)
    widths = (rows, columns) if pixels.ndim == 2 else (rows, columns, (0, 0))
    return Image.fromarray(np.pad(pixels, widths, mode="edge"))


def part_inside(window: Box, size: tuple[int, int]) -> Box:
    """Return the part of a window that lies in a picture of `size`."""
    left, top, right, bottom = window
    return max(0, left), max(0, top), min(size[0], right), min(size[1], bottom)


def is_huge(window: Box) -> bool:
    """Whether a window is too large to be cut out at full size."""
    return (window[2] - window[0]) * (window[3] - window[1]) > _LARGEST_WINDOW


def place_in(window: Box, box: Box, size: tuple[int, int]) -> Box:
    """Return the position of `box` in a window scaled to `size`, in whole pixels, at least one each way."""
    places = []
    for axis in (0, 1):
        begin, length = window[axis], window[axis + 2] - window[axis]
        places.append(((box[axis] - begin) * size[axis] // length, -((begin - box[axis + 2]) * size[axis] // length)))
    (left, right), (top, bottom) = places
    return left, top, right, bottom


def scale_window(
    image: Image.Image, window: Box, size: tuple[int, int], resample: Image.Resampling, *, mode: str | None = None
) -> Image.Image:
    """Cut out a window as `cut_window` does and scale it to `size`; the cost grows with the picture alone.

    Args:
        image: as for `cut_window`.
        window: as for `cut_window`, of any size.
        size: (width, height) of the result.
        resample: filter to use.
        mode: Pillow mode that pixels are converted to before scaling; None keeps the picture's own.
    """
    if not is_huge(window):
        seen = cut_window(image, window)
        return (seen.convert(mode) if mode else seen).resize(size, resample)
    inside = part_inside(window, image.size)
    left, top, right, bottom = place_in(window, inside, size)
    seen = image.crop(inside)
    seen = (seen.convert(mode) if mode else seen).resize((right - left, bottom - top), resample)
    return cut_window(seen, (-left, -top, size[0] - left, size[1] - top))


def _clamp(value: int, *, upper: int) -> int:
    return max(0, min(value, upper))
