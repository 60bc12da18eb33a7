"""Convert every picture's colours to sRGB, which models were trained on and screens assume without a profile.

The rendering intent is perceptual, as in browsers. Pictures that a profile would not change visibly keep their bytes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from ipa_app.imaging.depth import note_of_brightness
from ipa_app.imaging.profiles import named_space
from ipa_app.messages import Message

# Largest invisible difference: the dozens of profiles of sRGB itself differ only by rounding.
_UNSEEN = 1
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}
"""Pillow's modes by the ICC name of a profile's colour space."""
# The least opacity that counts as opaque where only what is seen matters; some programs write this for it.
_OPAQUE = 250
_WITH_ALPHA = {"L": "LA", "LA": "LA", "La": "LA"}


@dataclass(frozen=True, kw_only=True)
class ColourSpace:
    """The colour space that a file declares.

    Attributes:
        profile: an ICC profile; None means sRGB, or the usual default where the colours are not RGB.
        notes: what could not be honoured.
    """

    profile: bytes | None
    notes: tuple[Message, ...] = ()


def colour_space(image: Image.Image, data: bytes, *, name: str) -> ColourSpace:
    """Return the colour space that a file declares.

    Args:
        image: as opened.
        data: content of the file.
        name: what the picture is called in a sentence.
    """
    try:
        named = named_space(image, data) if image.format == "PNG" or "icc_profile" not in image.info else None
    except Exception:
        # The numbers describe no colour space, or the EXIF data is damaged.
        return _without_profile(image, name)
    if named is not None:
        return ColourSpace(profile=named.profile, notes=(note_of_brightness(name),) if named.is_hdr else ())
    if "icc_profile" not in image.info:
        return ColourSpace(profile=None)
    # Pillow sets None for a profile that it cannot assemble.
    profile = image.info["icc_profile"]
    return ColourSpace(profile=profile) if profile else _without_profile(image, name)


def to_srgb(image: Image.Image, profile: bytes | None, *, name: str) -> tuple[Image.Image, list[Message]]:
    """Convert a loaded picture of any 8-bit mode to sRGB.

    Args:
        image: of any 8-bit mode.
        profile: its ICC profile; None if it has none.
        name: what the picture is called in a sentence.

    Returns:
        Mode "RGB", or "RGBA" if any part is transparent, without metadata; and notes on what is only
        approximately right.

    Raises:
        ValueError: the mode cannot be converted to RGB.
    """
    colours, alpha = apart(image)
    try:
        rgb = _converted(colours, profile)
        notes = _note_of_cmyk(colours, name) if profile is None else []
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError):
        key = "picture.bad_printing_profile" if colours.mode == "CMYK" else "picture.bad_profile"
        rgb, notes = _converted(colours, None), [Message(key, name=name)]
    clean = Image.new("RGB", rgb.size)
    clean.paste(rgb)
    if alpha is not None:
        clean.putalpha(alpha)
    return clean, notes


def apart(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Split an 8-bit picture into colours and opacity.

    Returns:
        The colours as "L", "RGB", "CMYK" or "LAB", and the opacity as "L", or None if opaque all over.
    """
    if not image.has_transparency_data:
        kept = image.mode if image.mode in ("CMYK", "LAB") else "L" if image.mode in ("1", "L") else "RGB"
        return image.convert(kept), None
    image = image.convert(_WITH_ALPHA.get(image.mode, "RGBA"))
    alpha = image.getchannel("A")
    colours = image.convert("L" if image.mode == "LA" else "RGB")
    return colours, alpha if alpha.getextrema() != (255, 255) else None


def without_traces(image: Image.Image) -> Image.Image:
    """Return a picture of mode "RGB" or "RGBA" as "RGB" if it is practically opaque all over."""
    if image.mode == "RGBA" and not any(image.getchannel("A").histogram()[:_OPAQUE]):
        return image.convert("RGB")
    return image


def _converted(colours: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert colours to RGB.

    Raises:
        ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError: the profile is damaged or for other colours.
    """
    if profile is None:
        return colours.convert("RGB")
    space = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    described: Any = space.profile
    mode = _MODES[described.xcolor_space.strip()]
    if (colours.mode, mode) == ("L", "RGB"):
        colours = colours.convert("RGB")
    if colours.mode != mode:
        raise ValueError("the profile is one for other colours")
    # Optimised, LittleCMS is several levels off in dark greys; grey has few enough levels to convert each one exactly.
    flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
    srgb, intent = ImageCms.createProfile("sRGB"), ImageCms.Intent.PERCEPTUAL
    transform = ImageCms.buildTransform(space, srgb, mode, "RGB", intent, flags)
    if mode in ("L", "RGB"):
        probe = _probe(mode)
        seen = np.asarray(transform.apply(probe))
        if np.abs(seen.astype(int) - np.asarray(probe.convert("RGB"))).max() <= _UNSEEN:
            return colours.convert("RGB")
        if mode == "L":
            return Image.merge("RGB", [colours.point(levels.tolist()) for levels in seen[0].T])
    return transform.apply(colours)


def channels_first(pixels: np.ndarray) -> np.ndarray:
    """Return `pixels` (..., C) as planes (C, ...).

    Minimum and maximum over C planes take a fifteenth of the time they take along an axis of three.
    """
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))


def _probe(mode: str) -> Image.Image:
    """Build a picture of every level of grey, or of colours from all over the space."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 64, 3))


def _note_of_cmyk(colours: Image.Image, name: str) -> list[Message]:
    if colours.mode != "CMYK":
        return []
    return [Message("picture.printing_colours", name=name)]


def _without_profile(image: Image.Image, name: str) -> ColourSpace:
    # Inks are never read as the colours of a screen; that it does not say with which ones is noted where they are read.
    notes = () if image.mode == "CMYK" else (Message("picture.bad_profile", name=name),)
    return ColourSpace(profile=None, notes=notes)
