"""Inpainting at any size: cut out what surrounds the mask, draw it at the model's size, put back the masked pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ipa_app.engine.plan import Plan
from ipa_app.imaging.masks import Box, feather, mask_box, open_mask, paste_back

# The patch fades in over one part in this many of the drawn width: 2 pixels at 128, 8 at 512.
_FEATHER = 64


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """What is painted on.

    Attributes:
        picture: the whole picture, at the size of the result.
        mask: of the same size, 255 where it changes.
        window: (left, top, right, bottom) of what the model sees, in the model's shape; may reach over the edges.
        view: the window at the model's size, edges continued outwards.
        view_mask: mode "L", the cells of the latent grid that hold any masked pixel.
        ramp: mode "L", at the model's size: how much of what is drawn shows, rising inwards from the mask's edge.
    """

    picture: Image.Image
    mask: Image.Image
    window: Box
    view: Image.Image
    view_mask: Image.Image
    ramp: Image.Image

    def finish(self, drawn: Image.Image) -> Image.Image:
        """Put what was drawn for the window into the picture; pixels outside the mask keep their bytes."""
        left, top, right, bottom = self.window
        size = (right - left, bottom - top)
        box = (max(0, left), max(0, top), min(self.picture.width, right), min(self.picture.height, bottom))
        inside = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
        patch = drawn.resize(size, Image.Resampling.LANCZOS).crop(inside)
        ramp = self.ramp.resize(size, Image.Resampling.BILINEAR).crop(inside)
        patch = Image.composite(patch, self.picture.crop(box), ramp)
        return paste_back(self.picture, patch, self.mask, box)


def make_canvas(plan: Plan, *, cell: int) -> Canvas:
    """Open the picture and the mask of an inpainting request.

    Args:
        plan: of the task "inpaint".
        cell: pixels of the drawn size per latent cell, each way.

    Raises:
        UserError: the mask is empty.
    """
    size, picture = plan.canvas_size, plan.request.image
    if picture is None or plan.request.mask is None:
        raise ValueError("This is not a plan for inpainting.")
    picture = picture.convert("RGB")
    if picture.size != (plan.width, plan.height):
        picture = picture.resize((plan.width, plan.height), Image.Resampling.LANCZOS)
    mask = open_mask(plan.request.mask, picture.size)
    aspect = size[0] / size[1]
    window = _reach_aspect(mask_box(mask, aspect=aspect, min_side=max(size)), aspect=aspect)
    mask_in_window = _cut(mask, window)
    # Feathered at the size that is drawn: at the picture's own size, many megapixels perhaps, it takes minutes.
    ramp = feather(_cover_cells(mask_in_window, size, cell=1), max(1, size[0] // _FEATHER))
    return Canvas(
        picture=picture,
        mask=mask,
        window=window,
        view=_cut(picture, window).resize(size, Image.Resampling.LANCZOS),
        view_mask=_cover_cells(mask_in_window, size, cell=cell),
        ramp=ramp,
    )


def _reach_aspect(box: Box, *, aspect: float) -> Box:
    """Widen a box about its centre to a shape, beyond the picture's edges where those were in the way."""
    left, top, right, bottom = box
    width = max(right - left, round((bottom - top) * aspect))
    height = max(bottom - top, round((right - left) / aspect))
    left -= (width - (right - left)) // 2
    top -= (height - (bottom - top)) // 2
    return left, top, left + width, top + height


def _cut(image: Image.Image, window: Box) -> Image.Image:
    """Cut out a window that may reach over the edges; the outermost pixels are continued there."""
    left, top, right, bottom = window
    inside = image.crop((max(0, left), max(0, top), min(image.width, right), min(image.height, bottom)))
    rows = (max(0, -top), max(0, bottom - image.height))
    columns = (max(0, -left), max(0, right - image.width))
    pixels = np.asarray(inside)
    widths = (rows, columns) if pixels.ndim == 2 else (rows, columns, (0, 0))
    return Image.fromarray(np.pad(pixels, widths, mode="edge"))


def _cover_cells(mask: Image.Image, size: tuple[int, int], *, cell: int) -> Image.Image:
    """Scale a mask so that every cell of `cell` pixels that any masked pixel falls into is marked whole.

    The pipeline itself would look at one pixel per latent cell, and miss thin strokes.
    """
    grid = (size[0] // cell, size[1] // cell)
    covered = np.asarray(mask.convert("F").resize(grid, Image.Resampling.BOX)) > 0
    return Image.fromarray(covered.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)
