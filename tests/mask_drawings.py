"""Masks as people draw them, all of one spot in one picture, and how well a mask matches it."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from ipa_app.imaging.mask_files import MaskFile
from ipa_app.imaging.opening import Opened

SIZE = (160, 120)
SPOT = (90, 10, 140, 60)

HOLE = "What is transparent in the mask is redrawn."
STROKES = "What is painted in the mask is redrawn, whatever its colour."
ON_BLACK = "What is not black in the mask is redrawn."
BRIGHTER = "The brighter part of the mask is redrawn, as white would be."
OVER = "The mask is the picture with something painted over, and that is redrawn."
UNCLEAR = "This mask does not show clearly what to redraw: please make that white and everything else black."
UNMARKED = (
    "This mask is the picture itself, with nothing marked in it: please paint what should be redrawn white and "
    "everything else black."
)


def photo(size: tuple[int, int] = SIZE, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def spot(size: tuple[int, int] = SIZE) -> Image.Image:
    """Return the marked spot, an ellipse, as a mask of mode "L"."""
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).ellipse(SPOT, fill=255)
    return mask


def drawing() -> Image.Image:
    """Return black lines on white."""
    image = Image.new("RGB", SIZE, (255, 255, 255))
    lines = ImageDraw.Draw(image)
    for at in range(0, 160, 12):
        lines.line((at, 0, 160 - at, 120), fill=(0, 0, 0), width=3)
    return image


PHOTO = Opened(image=photo())
MARKED = np.asarray(spot()) > 0


def painted(inside: object, outside: object, mode: str = "RGB") -> Image.Image:
    image = Image.new(mode, SIZE, outside)  # type: ignore[arg-type]
    image.paste(inside, mask=spot())  # type: ignore[call-overload]
    return image


def strokes(colour: tuple[int, int, int], *, opacity: int = 255) -> Image.Image:
    image = Image.new("RGB", SIZE, colour)
    image.putalpha(spot().point(lambda level: opacity if level else 0))
    return image


def with_hole(picture: Image.Image) -> Image.Image:
    image = picture.convert("RGB")
    image.putalpha(spot().point(lambda level: 255 - level))
    return image


def numbers(inside: int, outside: int, kind: type[np.generic] = np.uint8) -> Image.Image:
    return Image.fromarray(np.where(MARKED, inside, outside).astype(kind))


def agreement(mask: MaskFile, wanted: np.ndarray = MARKED) -> float:
    """Return the intersection over union of a mask's marked pixels and the wanted ones."""
    marked = np.asarray(mask.mask) > 0
    return float((marked & wanted).sum() / (marked | wanted).sum())


def mask_with(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (100, 60)) -> Image.Image:
    """Return a mask of white boxes on black."""
    mask = Image.new("L", size, 0)
    for box in boxes:
        mask.paste(255, box)
    return mask
