"""Where in the new picture references count: everywhere, in halves, or where it was painted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ipa_app.engine.references import Reference, RegionName
from ipa_app.imaging.cropping import Box, fitted_size, scale_window
from ipa_app.imaging.mask_files import is_same_shape
from ipa_app.imaging.masks import soften
from ipa_app.imaging.opening import Colour
from ipa_app.messages import Message

REGION_COLOURS: tuple[Colour, ...] = ((255, 45, 120), (45, 125, 255), (20, 160, 75), (240, 150, 10))
"""Of each reference's region where it is shown, by their order."""

_TINT_SHARE = 0.6

Placed = tuple[tuple[Reference, ...], np.ndarray | None]
"""References whose tokens are joined, and which share of each cell is theirs; None for all of every cell."""


def place(
    references: Sequence[Reference], *, size: tuple[int, int], window: Box, grid: tuple[int, int]
) -> list[Placed]:
    """Return which references count where.

    Those of one half, or everywhere, are joined. Where any of them has a painted region, each stands alone, and what
    several claim is shared: with masks m of 0 to 1, reference i counts with `m_i / max(1, sum_j m_j)` of its weight.
    So masks that do not overlap count as they are, soft edges that cross add up to one, and where two are full each
    gives half of its weight.

    Args:
        references: those of weight 0 are left out.
        size: (width, height) of the whole finished picture, in its own pixels.
        window: (left, top, right, bottom) of the part that is drawn, in the same pixels; may reach over the edges.
        grid: (width, height) in cells of what is drawn.
    """
    # What counts for nothing takes no share of what the others say.
    counted = [each for each in references if each.weight > 0]
    if all(each.region_mask is None for each in counted):
        groups: dict[RegionName, list[Reference]] = {}
        for each in counted:
            groups.setdefault(each.region, []).append(each)
        return [(tuple(them), half_mask(name, size=size, window=window, grid=grid)) for name, them in groups.items()]
    shares = shares_of(counted, size=size, window=window, grid=grid)
    return [((each,), share) for each, share in zip(counted, shares, strict=True)]


def shares_of(
    references: Sequence[Reference], *, size: tuple[int, int], window: Box, grid: tuple[int, int]
) -> np.ndarray:
    """Return which share of each cell references have where each stands alone; the arguments are as for `place`.

    Returns:
        (references, height, width) float32, `m_i / max(1, sum_j m_j)`: they add up to 1 at most.
    """
    masks = np.stack([_mask(each, size=size, window=window, grid=grid) for each in references])
    return masks / np.maximum(masks.sum(axis=0), 1)


def region_notes(references: Sequence[Reference], size: tuple[int, int]) -> tuple[Message, ...]:
    """Return which masks are of another shape than the finished picture, of `size`, to which they are stretched."""
    return tuple(
        Message("region.stretched", reference=Message("region.reference", number=number), width=size[0], height=size[1])
        for number, each in enumerate(references, start=1)
        if each.region_mask is not None and not is_same_shape(each.region_mask.size, size)
    )


def show_regions(
    references: Sequence[Reference], picture: Image.Image, *, colours: Sequence[Colour], longest: int = 512
) -> Image.Image:
    """Tint each region on a picture in its reference's colour, as strongly as the reference counts there.

    What counts everywhere tints nothing.

    Args:
        references: at least one.
        picture: of the shape of the finished one, mode "RGB".
        colours: of the references.
        longest: most pixels on the longer side of what is shown.
    """
    size = picture.size if max(picture.size) <= longest else fitted_size(picture.size, (longest, longest))
    shown = np.asarray(picture.resize(size, Image.Resampling.LANCZOS), np.float32)
    coloured = {id(each): colour for each, colour in zip(references, colours, strict=True)}
    tints = [
        (share[..., None], np.mean([coloured[id(each)] for each in group], axis=0))
        for group, share in place(references, size=size, window=(0, 0, *size), grid=size)
        if share is not None and group[0].region != "everywhere"
    ]
    # All at once, as shares add up to one at most: what is shared by two is as much of the one as of the other.
    left = 1 - _TINT_SHARE * np.sum([share for share, _ in tints], axis=0)
    shown = shown * left + _TINT_SHARE * np.sum([share * colour for share, colour in tints], axis=0)
    return Image.fromarray(np.rint(shown).astype(np.uint8))


def half_mask(region: RegionName, *, size: tuple[int, int], window: Box, grid: tuple[int, int]) -> np.ndarray | None:
    """Return which cells of the latent grid lie in a half; the arguments are as for `place`.

    Returns:
        (height, width) float32: the share of each cell that lies in it; None for everywhere.
    """
    if region == "everywhere":
        return None
    across = region in ("left", "right")
    axis = 0 if across else 1
    begin, end, cells = window[axis], window[axis + 2], grid[axis]
    middle = (size[axis] / 2 - begin) / (end - begin) * cells
    first_half = (middle - np.arange(cells, dtype=np.float32)).clip(0, 1)
    line = first_half if region in ("left", "upper") else 1 - first_half
    return np.broadcast_to(line[None, :] if across else line[:, None], (grid[1], grid[0]))


def painted_mask(mask: Image.Image, *, size: tuple[int, int], window: Box, grid: tuple[int, int]) -> np.ndarray:
    """Average a mask over the cells of the latent grid; beyond the picture's edges it goes on as it is there.

    Args:
        mask: mode "L" for the whole finished picture, stretched to it.
        size: as for `place`; so are the next.
        window: of what is drawn.
        grid: in cells.

    Returns:
        (height, width) float32, 0 to 1.
    """
    # Numbers with fractions, so that no cell's share is rounded on the way.
    whole = mask.convert("F").resize(size, Image.Resampling.BOX)
    cells = scale_window(whole, window, grid, Image.Resampling.BOX)
    return (np.asarray(cells) / 255).clip(0, 1)


def _mask(reference: Reference, *, size: tuple[int, int], window: Box, grid: tuple[int, int]) -> np.ndarray:
    if reference.region_mask is not None:
        mask = soften(reference.region_mask, reference.region_softness)
        return painted_mask(mask, size=size, window=window, grid=grid)
    half = half_mask(reference.region, size=size, window=window, grid=grid)
    return np.ones((grid[1], grid[0]), np.float32) if half is None else half
