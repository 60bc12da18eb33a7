"""Pictures of every row of the table, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

LABEL_WIDTH, GAP = 290, 4


def contact_sheet(rows: Sequence[tuple[str, Sequence[Image.Image]]]) -> Image.Image:
    """One row per name, its pictures to the right of it, all of one size.

    Args:
        rows: names and as many pictures for each.
    """
    side = rows[0][1][0].width
    width = LABEL_WIDTH + len(rows[0][1]) * (side + GAP)
    sheet = Image.new("RGB", (width, len(rows) * (side + GAP) - GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, (name, pictures) in enumerate(rows):
        top = number * (side + GAP)
        draw.text((6, top + side // 2), name, fill="black", font=font, anchor="lm")
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (LABEL_WIDTH + column * (side + GAP), top))
    return sheet
