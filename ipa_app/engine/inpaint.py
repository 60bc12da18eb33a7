"""Inpainting at any size: cut out what the model shall see, draw it at the model's size, put back the masked pixels."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from ipa_app.engine.area import Area, mark_area
from ipa_app.engine.plan import Plan
from ipa_app.imaging.cropping import cut_window
from ipa_app.imaging.masks import cover_cells, paste_back


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """What is painted on.

    Attributes:
        area: what is redrawn of the picture.
        view: its window at the model's size, edges continued outwards.
        view_mask: mode "L", the cells of the latent grid that hold any masked pixel.
    """

    area: Area
    view: Image.Image
    view_mask: Image.Image

    def finish(self, drawn: Image.Image) -> Image.Image:
        """Put what was drawn for the window into the picture; pixels outside the mask keep their bytes."""
        area = self.area
        patch = area.to_box(drawn, Image.Resampling.LANCZOS)
        patch = Image.composite(patch, area.picture.crop(area.box), area.box_ramp)
        return area.with_transparency(paste_back(area.picture, patch, area.mask, area.box))


def make_canvas(plan: Plan, *, cell: int) -> Canvas:
    """Prepare an inpainting request for the model.

    Args:
        plan: of the task "inpaint".
        cell: pixels of the drawn size per latent cell, each way.

    Raises:
        UserError: nothing is masked.
    """
    size, area = plan.canvas_size, mark_area(plan)
    return Canvas(
        area=area,
        view=cut_window(area.picture, area.window).resize(size, Image.Resampling.LANCZOS),
        view_mask=cover_cells(cut_window(area.mask, area.window), size, cell=cell),
    )
