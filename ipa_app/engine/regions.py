"""Where in the new picture references count: everywhere, in a half, or in a painted region."""

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
"""The colours in which the references' regions are shown, in their order."""

_TINT_SHARE = 0.6

Placed = tuple[tuple[Reference, ...], np.ndarray | None]
"""References whose tokens are joined, and their share of each cell; None for all of every cell."""


def place(
    references: Sequence[Reference], *, size: tuple[int, int], window: Box, grid: tuple[int, int]
) -> list[Placed]:
    """Return which references count where.

    References of one half, or everywhere, are joined. If any has a painted region, each stands alone, and overlaps are
    shared: with masks m in [0, 1], reference i counts with `m_i / max(1, sum_j m_j)` of its weight. Masks that do not
    overlap therefore count in full, crossing soft edges add up to at most one, and where two masks are full each
    reference counts with half its weight.

    Args:
        references: those of weight 0 are left out.
        size: (width, height) of the whole finished picture, in its own pixels.
        window: (left, top, right, bottom) of the part that is drawn, in the same pixels; may extend beyond the edges.
        grid: (width, height) of the drawn part in latent cells.
    """
    # A reference without weight must not take a share from the others.
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
    """Return each reference's share of each cell, if each stands alone; the arguments are as for `place`.

    Returns:
        (references, height, width) float32, `m_i / max(1, sum_j m_j)`: they add up to at most 1.
    """
    masks = np.stack([_mask(each, size=size, window=window, grid=grid) for each in references])
    return masks / np.maximum(masks.sum(axis=0), 1)


def region_notes(references: Sequence[Reference], size: tuple[int, int]) -> tuple[Message, ...]:
    """Return messages on masks that must be stretched, as their shape is not that of the finished picture (`size`)."""
    return tuple(
        Message("region.stretched", reference=Message("region.reference", number=number), width=size[0], height=size[1])
        for number, each in enumerate(references, start=1)
        if each.region_mask is not None and not is_same_shape(each.region_mask.size, size)
    )


def show_regions(
    references: Sequence[Reference], picture: Image.Image, *, colours: Sequence[Colour], longest: int = 512
) -> Image.Image:
    """Tint each region on a picture in its reference's colour, as strongly as the reference counts there.

    References that count everywhere tint nothing.

    Args:
        references: at least one.
        picture: of the shape of the finished one, mode "RGB".
        colours: of the references.
        longest: most pixels on the longer side of the returned picture.
    """
    size = picture.size if max(picture.size) <= longest else fitted_size(picture.size, (longest, longest))
    shown = np.asarray(picture.resize(size, Image.Resampling.LANCZOS), np.float32)
    coloured = {id(each): colour for each, colour in zip(references, colours, strict=True)}
    tints = [
        (share[..., None], np.mean([coloured[id(each)] for each in group], axis=0))
        for group, share in place(references, size=size, window=(0, 0, *size), grid=size)
        if share is not None and group[0].region != "everywhere"
    ]
    # Tinted all at once, as shares add up to at most one: where two regions share a place, both colours mix equally.
    left = 1 - _TINT_SHARE * np.sum([share for share, _ in tints], axis=0)
    shown = shown * left + _TINT_SHARE * np.sum([share * colour for share, colour in tints], axis=0)
    return Image.fromarray(np.rint(shown).astype(np.uint8))


def half_mask(region: RegionName, *, size: tuple[int, int], window: Box, grid: tuple[int, int]) -> np.ndarray | None:
    """Return which cells of the latent grid lie in a half; the arguments are as for `place`.

    Returns:
        (height, width) float32: the share of each cell that lies in the half; None for everywhere.
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
    """Average a mask over the cells of the latent grid; beyond the picture's edges its edge values continue.

    Args:
        mask: mode "L", for the whole finished picture, to which it is stretched.
        size: as for `place`.
        window: as for `place`.
        grid: as for `place`.

    Returns:
        (height, width) float32, 0 to 1.
    """
    # In floating point, so that no cell's share is rounded on the way.
    whole = mask.convert("F").resize(size, Image.Resampling.BOX)
    cells = scale_window(whole, window, grid, Image.Resampling.BOX)
    return (np.asarray(cells) / 255).clip(0, 1)


def _mask(reference: Reference, *, size: tuple[int, int], window: Box, grid: tuple[int, int]) -> np.ndarray:
    if reference.region_mask is not None:
        mask = soften(reference.region_mask, reference.region_softness)
        return painted_mask(mask, size=size, window=window, grid=grid)
    half = half_mask(reference.region, size=size, window=window, grid=grid)
    return np.ones((grid[1], grid[0]), np.float32) if half is None else half
