"""What stands in for a picture that a model's safety checker holds back: words, never a black picture."""

from __future__ import annotations

import textwrap

from PIL import Image, ImageDraw, ImageFont

_WORDS = "Withheld: the model's safety checker took this picture for unsuitable. Please try another seed or prompt."
_PAPER, _INK = (236, 236, 240), (60, 60, 70)
_LETTERS_PER_LINE = 22


def notice(size: tuple[int, int]) -> Image.Image:
    """Draw the notice.

    Args:
        size: (width, height) in pixels of the picture it stands for.

    Returns:
        Mode "RGB".
    """
    image = Image.new("RGB", size, _PAPER)
    text = "\n".join(textwrap.wrap(_WORDS, _LETTERS_PER_LINE))
    font = ImageFont.load_default(size=max(6, min(size) // 14))
    centre = (size[0] / 2, size[1] / 2)
    ImageDraw.Draw(image).multiline_text(centre, text, fill=_INK, font=font, anchor="mm", align="center")
    return image
