"""The pixels of a mask file, and what kind of picture they look like: flat strokes, a photo, a copy of the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

# A level of grey, 0..1, that is practically black.
DARK = 16 / 255
# Differences in levels, 0..255, up to which two colours count as the same, and above which as different.
_ALIKE, UNLIKE = 24, 64
# Least shares of a mask that equal the picture if it is a copy: painted over, with a hole, and the picture itself.
MOSTLY, _NEARLY, WHOLLY = 0.4, 0.85, 0.97

# Longest side in pixels to which a mask is reduced to judge what kind of picture it is.
_JUDGED_SIDE = 256
_MOST_TRANSITIONS = 0.02
_MOST_COLOURS = 4
# Whatever is narrower than the longer side of the picture divided by this is a line.
_THIN = 40
# Share of the pixels below which something counts as drawn only if it is a surface, and the side of the least one.
_FEW, _SPECK = 0.0005, 5


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """A mask's pixels.

    Attributes:
        colours: (H, W, 3), 0..255.
        opacity: (H, W), 0..255.
        grey: (H, W), 0..1, in the full precision of the file.
        is_lossy: whether the file's compression is lossy.
    """

    colours: np.ndarray
    opacity: np.ndarray
    grey: np.ndarray
    is_lossy: bool


def is_drawn(part: np.ndarray) -> bool:
    """Whether a part (H, W) of a mask, such as its coloured pixels, is more than stray pixels."""
    import cv2

    return bool(part.mean() > _FEW or cv2.medianBlur(part.astype(np.uint8), _SPECK).any())


def is_copy(drawn: Pixels, picture: Image.Image, *, least: float = _NEARLY) -> bool:
    """Whether at least the share `least` of a mask's opaque part equals the picture.

    A plain background on the same plain background of the picture proves nothing.
    """
    height, width = drawn.grey.shape
    small = (max(1, min(width, _JUDGED_SIDE)), max(1, min(height, _JUDGED_SIDE)))
    ours, theirs = (
        np.asarray(image.convert("RGB").resize(small, Image.Resampling.BOX), dtype=np.int16)
        for image in (Image.fromarray(drawn.colours), picture)
    )
    opacity = np.asarray(Image.fromarray(drawn.opacity).resize(small, Image.Resampling.BOX))
    counted = opacity > drawn.opacity.max() - 255 * DARK
    alike = counted & (np.abs(ours - theirs).max(axis=2) <= _ALIKE)
    if not counted.any() or alike.sum() < least * counted.sum():
        return False
    has_detail = theirs[alike].std(axis=0).max() > _ALIKE / 2
    is_neutral = theirs[alike].max() < _ALIKE or theirs[alike].min() > 255 - _ALIKE
    return bool(has_detail or (alike.sum() == counted.sum() and not is_neutral))


def is_flat(colours: np.ndarray) -> bool:
    """Whether pixels (N, 3) have only a few colours, as brush strokes do and photos do not."""
    coarse = (colours >> 5).astype(np.int32) @ np.array([64, 8, 1])
    counts = np.sort(np.bincount(coarse, minlength=512))[::-1]
    return counts[:_MOST_COLOURS].sum() >= 0.9 * coarse.size


def is_photo(grey: np.ndarray) -> bool:
    """Whether levels (H, W), 0..1, are mostly intermediate and scattered, unlike those of a soft mask."""
    between = ((grey > 0.1) & (grey < 0.9)).mean()
    if between < 0.5:
        return False
    side = max(1, max(grey.shape) // _JUDGED_SIDE)
    painted = grey[::side, ::side] > (grey.min() + grey.max()) / 2
    transitions = (painted[1:] != painted[:-1]).sum() + (painted[:, 1:] != painted[:, :-1]).sum()
    return bool(transitions > _MOST_TRANSITIONS * painted.size)


def keeps_lines(drawn: Pixels, picture: Image.Image) -> bool:
    """Whether a mask has the fine lines of a picture, which only a copy has: a mask drawn for it has its own edges."""
    if picture.size != drawn.grey.shape[::-1]:
        return False
    theirs = np.asarray(picture.convert("L"), dtype=np.int16)
    alike = np.abs(drawn.grey * 255 - theirs) <= _ALIKE
    edges = kept = 0
    for before, after in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        is_edge = np.abs(theirs[after] - theirs[before]) > UNLIKE
        edges += is_edge.sum()
        kept += (is_edge & alike[before] & alike[after]).sum()
    return bool(edges > _MOST_TRANSITIONS * theirs.size and kept >= MOSTLY * edges)


def is_erased(drawn: Pixels, picture: Image.Image, differing: np.ndarray) -> bool:
    """Whether a copy differs from a picture only by lines that are gone: how far the eraser reached cannot be seen.

    Args:
        drawn: the copy.
        picture: of the same size.
        differing: (H, W), 1 where the two differ; not all 0.
    """
    import cv2

    ground = np.median(drawn.colours[differing > 0], axis=0)
    is_ground = np.abs(np.asarray(picture.convert("RGB")) - ground).max(axis=2) <= _ALIKE
    if is_ground.mean() <= 0.5:
        return False
    width = max(2, max(differing.shape) // _THIN)
    surfaces = cv2.morphologyEx(differing, cv2.MORPH_OPEN, np.ones((width, width), np.uint8))
    return bool(surfaces.sum() < _NEARLY * differing.sum())
