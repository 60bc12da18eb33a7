"""Where in the new picture a reference counts: everywhere, or in one half of it."""

from __future__ import annotations

import torch
from torch import Tensor

from ipa_app.engine.references import RegionName
from ipa_app.imaging.masks import Box


def region_mask(region: RegionName, *, size: tuple[int, int], window: Box, grid: tuple[int, int]) -> Tensor | None:
    """Say which cells of the latent grid lie in a region.

    Args:
        region: of the whole finished picture.
        size: (width, height) of that picture, in its own pixels.
        window: (left, top, right, bottom) of the part that is drawn, in the same pixels; may reach over the edges.
        grid: (width, height) in cells of what is drawn.

    Returns:
        (height, width) float32: the share of each cell that lies in the region; None for everywhere.
    """
    if region == "everywhere":
        return None
    across = region in ("left", "right")
    axis = 0 if across else 1
    begin, end, cells = window[axis], window[axis + 2], grid[axis]
    middle = (size[axis] / 2 - begin) / (end - begin) * cells
    first_half = (middle - torch.arange(cells)).clamp(0, 1)
    line = first_half if region in ("left", "upper") else 1 - first_half
    return (line[None, :] if across else line[:, None]).expand(grid[1], grid[0])
