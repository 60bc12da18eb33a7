"""Composite transparent pictures on white for models without transparency, and remove the white again."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ipa_app.imaging.opening import WHITE, flatten
from ipa_app.messages import Message


def opacity_of(image: Image.Image) -> Image.Image | None:
    """Return the opacity of a picture, mode "L"; None if it is opaque all over."""
    if image.mode != "RGBA":
        return None
    alpha = image.getchannel("A")
    return None if alpha.getextrema() == (255, 255) else alpha


def in_colour(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to "RGB"; leave "RGBA" unchanged."""
    return image if image.mode == "RGBA" else image.convert("RGB")


def on_white(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to "RGB", with white under its transparent parts."""
    return flatten(in_colour(image), background=WHITE)


def note_of_transparency(name: str) -> Message:
    """Return a sentence, starting with the picture's name, on what happens to its transparent parts."""
    return Message("picture.transparent", name=name)


def off_white(image: Image.Image, opacity: Image.Image) -> Image.Image:
    """Apply an opacity to a picture composited on white, removing the white from semi-transparent parts.

    Args:
        image: mode "RGB".
        opacity: mode "L", of the same size.

    Returns:
        Mode "RGBA"; looks unchanged on white.
    """
    alpha = np.asarray(opacity, dtype=np.float32)[..., None] / 255
    seen = np.asarray(image, dtype=np.float32)
    colours = np.where(alpha > 0, 255 - (255 - seen) / np.maximum(alpha, 1 / 255), seen)
    result = Image.fromarray(np.maximum(np.rint(colours), 0).astype(np.uint8))
    result.putalpha(opacity)
    return result
