"""Transparent pictures: shown on white to a model that knows no transparency, and taken off it again."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ipa_app.imaging.opening import WHITE, flatten
from ipa_app.messages import Message


def opacity_of(image: Image.Image) -> Image.Image | None:
    """Return the opacity of a picture, mode "L"; None where it is opaque all over."""
    if image.mode != "RGBA":
        return None
    alpha = image.getchannel("A")
    return None if alpha.getextrema() == (255, 255) else alpha


def in_colour(image: Image.Image) -> Image.Image:
    """Return a picture of any mode as "RGB", one of mode "RGBA" as it is."""
    return image if image.mode == "RGBA" else image.convert("RGB")


def on_white(image: Image.Image) -> Image.Image:
    """Return a picture of any mode as "RGB", with white under its transparent parts."""
    return flatten(in_colour(image), background=WHITE)


def note_of_transparency(name: str) -> Message:
    """Return a sentence on what becomes of a picture's transparent parts, which begins with what it is called."""
    return Message("picture.transparent", name=name)


def off_white(image: Image.Image, opacity: Image.Image) -> Image.Image:
    """Return a picture that lies on white with its opacity, and take the white out of what is half transparent.

    Args:
        image: mode "RGB".
        opacity: mode "L", of the same size.

    Returns:
        Mode "RGBA", which on white looks as before.
    """
    alpha = np.asarray(opacity, dtype=np.float32)[..., None] / 255
    seen = np.asarray(image, dtype=np.float32)
    colours = np.where(alpha > 0, 255 - (255 - seen) / np.maximum(alpha, 1 / 255), seen)
    result = Image.fromarray(np.clip(np.rint(colours), 0, 255).astype(np.uint8))
    result.putalpha(opacity)
    return result
