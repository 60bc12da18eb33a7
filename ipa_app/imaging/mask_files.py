"""Interpret mask files: people draw masks in many ways, and white on black is only one of them.

If the meaning is ambiguous, a `UserError` asks the user. Any interpretation but the usual one leaves a note, and the
page shows the outcome on the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.imaging.colour import channels_first
from ipa_app.imaging.mask_pixels import (
    DARK,
    MOSTLY,
    UNLIKE,
    WHOLLY,
    Pixels,
    is_copy,
    is_drawn,
    is_erased,
    is_flat,
    is_photo,
    keeps_lines,
)
from ipa_app.imaging.masks import fit_mask
from ipa_app.imaging.opening import Decoded, Opened, PictureSource, decode, in_srgb
from ipa_app.messages import Message

_NAME = Message("upload.mask")
_REGION = Message("upload.region_mask")

# Two shapes are the same up to this many pixels of rounding, or this share of a side.
_ROUNDING, _STRETCH = 2, 0.01

# Levels of grey, 0..1: the middle, practically white.
_MIDDLE, _LIGHT = 127.5 / 255, 240 / 255
# Difference between the strongest and the weakest channel of a colour; JPEG's errors on grey stay far below it.
_COLOURED = 80
# Fewest pixels of a copy of the picture that count as painted over, and their least share of one saved again with
# losses, which changes it a little in more than this share of its pixels, and much in a few.
_LEAST_PAINTED, _LEAST_SHARE, _CHANGED = 16, 0.0005, 0.01

_SWAPS_SIDES = (
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.TRANSVERSE,
)
_OF_REGIONS = {
    "mask.transparent_is_redrawn": Message("region.transparent_counts"),
    "mask.painted_is_redrawn": Message("region.painted_counts"),
    "mask.not_black_is_redrawn": Message("region.not_black_counts"),
    "mask.brighter_is_redrawn": Message("region.brighter_counts"),
}
"""Notes on an inpainting mask, and on a region mask that is interpreted in the same way."""

_BACK = {
    Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
    Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
}
"""The inverses of the turns that are not their own inverse."""


@dataclass(frozen=True, kw_only=True)
class MaskFile:
    """A mask as interpreted.

    Attributes:
        mask: mode "L" of the picture's size, 255 = repaint, 0 = keep.
        notes: sentences on what the user may not have intended.
    """

    mask: Image.Image
    notes: tuple[Message, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Meaning:
    """The meaning of a mask.

    Attributes:
        painted: (H, W), the part to repaint.
        levels: (H, W), 0..1, the strength, for masks that may have soft edges; inpainting masks have hard ones.
        note: the reason, if it is not obvious.
    """

    painted: np.ndarray
    levels: np.ndarray | None = None
    note: Message | None = None


def read_mask(source: PictureSource, picture: Opened, *, may_be_empty: bool = False) -> MaskFile:
    """Open a mask of any kind for a picture and interpret it.

    - White on black: white is repainted, from middle grey up. If nothing is near white, or nothing near black, the
      brighter part is repainted; with colours on black, everything that is not black.
    - Strokes on a transparent background: what is opaque is repainted, whatever its colour.
    - A transparent hole in black or in the picture itself, as OpenAI's programs draw it: the hole is repainted.
    - The picture itself with something painted over: what differs is repainted.

    Args:
        source: as for `open_image`; one pixel is enough.
        picture: the picture it belongs to. A mask drawn for its file's unrotated pixels is turned along with them.
        may_be_empty: whether to accept a mask in which nothing is marked.

    Raises:
        UserError: it is not a picture, its shape differs from the picture's, it is empty, or its meaning is ambiguous.
    """
    decoded = decode(source, name=_NAME, min_side=1)
    size = picture.image.size
    turns = [turn for turn in _turns(decoded, picture) if is_same_shape(_size_after(turn, decoded.image.size), size)]
    if not turns:
        width, height = decoded.image.size
        raise UserError("mask.other_shape", mask_width=width, mask_height=height, width=size[0], height=size[1])
    # A copy of the picture reveals its orientation; any other mask is most likely oriented as it is displayed.
    ways = {turn: _drawn(decoded, turn) for turn in turns}
    copies = [turn for turn, drawn in ways.items() if is_copy(drawn, picture.image)]
    turn = copies[0] if copies else turns[0]
    meaning = _meaning(ways[turn], picture.image)
    notes = [*decoded.notes]
    if turn is not None:
        notes.append(Message("mask.turned"))
    elif len(turns) > 1 and decoded.turn is None and not copies:
        notes.append(Message("mask.as_seen"))
    if meaning.note:
        notes.append(meaning.note)
    painted = Image.fromarray(meaning.painted.astype(np.uint8) * 255)
    return MaskFile(mask=fit_mask(painted, size, may_be_empty=may_be_empty), notes=tuple(notes))


def read_region_mask(source: PictureSource) -> MaskFile:
    """Open a mask of where a reference counts, keeping its soft edges, and interpret it.

    Args:
        source: as for `decode`, in any form that `read_mask` accepts except a copy of the picture: there is none yet.

    Returns:
        A mask of mode "L" and its own size: 255 where the reference counts in full, 0 where it does not count.

    Raises:
        UserError: it is not a picture, or its meaning is ambiguous.
    """
    decoded = decode(source, name=_REGION, min_side=1)
    drawn = _drawn(decoded, None, name=_REGION)
    try:
        meaning = _meaning(drawn, None)
    except UserError as error:
        raise UserError("region.unclear") from error
    notes = [*decoded.notes, *([_OF_REGIONS[meaning.note.key]] if meaning.note else [])]
    levels = np.rint(_levels(meaning) * 255).clip(0, 255).astype(np.uint8)
    return MaskFile(mask=Image.fromarray(levels), notes=tuple(notes))


def _levels(meaning: _Meaning) -> np.ndarray:
    return meaning.painted if meaning.levels is None else meaning.levels


def is_same_shape(size: tuple[int, int], frame: tuple[int, int]) -> bool:
    """Whether two sizes have the same aspect ratio, up to rounding of either."""
    (width, height), (frame_width, frame_height) = size, frame
    stretch = width * frame_height / (height * frame_width)
    off = (
        width - height * frame_width / frame_height,
        height - width * frame_height / frame_width,
        frame_width - frame_height * width / height,
        frame_height - frame_width * height / width,
    )
    return abs(stretch - 1) <= _STRETCH or min(map(abs, off)) <= _ROUNDING


# ---------------------------------------------------------------- where it lies


def _turns(decoded: Decoded, picture: Opened) -> list[Image.Transpose | None]:
    """Return the ways in which a mask may have to be turned, likeliest first."""
    turns: list[Image.Transpose | None] = [None]
    if decoded.turn is not None:
        turns.append(_BACK.get(decoded.turn, decoded.turn))
    elif picture.turn is not None:
        turns.append(picture.turn)
    return turns


def _size_after(turn: Image.Transpose | None, size: tuple[int, int]) -> tuple[int, int]:
    return (size[1], size[0]) if turn in _SWAPS_SIDES else size


def _drawn(decoded: Decoded, turn: Image.Transpose | None, *, name: Message = _NAME) -> Pixels:
    image, _ = in_srgb(decoded, name=name)
    grey = decoded.levels
    if grey is None and decoded.image.mode in ("1", "L"):
        grey = decoded.image.convert("L")
    if turn is not None:
        image, grey = image.transpose(turn), grey.transpose(turn) if grey else None
    values = np.asarray(grey if grey else image.convert("RGB").convert("L"), dtype=np.float32)
    return Pixels(
        colours=np.asarray(image.convert("RGB")),
        opacity=np.asarray(image.convert("RGBA").getchannel("A")),
        grey=values if decoded.levels else values / 255,
        is_lossy=decoded.is_lossy,
    )


# ---------------------------------------------------------------- what it means


def _meaning(drawn: Pixels, picture: Image.Image | None) -> _Meaning:
    """Interpret a mask, for a given picture or without one.

    Raises:
        UserError: its meaning is ambiguous.
    """
    least, most = int(drawn.opacity.min()), int(drawn.opacity.max())
    if most == 0:
        return _Meaning(painted=np.zeros(drawn.grey.shape, bool))
    if most - least > 255 * DARK:
        # Half-way between the two, as brushes and erasers may be soft or at half strength.
        return _of_transparency(drawn, (least + most) / 2, picture)
    channels = channels_first(drawn.colours)
    strongest, weakest = channels.max(axis=0), channels.min(axis=0)
    coloured = strongest.astype(np.int16) - weakest > _COLOURED
    if is_drawn(coloured):
        return _of_colours(drawn, coloured, strongest, picture)
    return _of_grey(drawn, picture)


def _of_transparency(drawn: Pixels, opaque_from: float, picture: Image.Image | None) -> _Meaning:
    opacity, opaque = drawn.opacity / 255, drawn.opacity > opaque_from
    hole = _Meaning(painted=~opaque, levels=1 - opacity, note=Message("mask.transparent_is_redrawn"))
    edge = np.concatenate([opaque[0], opaque[-1], opaque[:, 0], opaque[:, -1]]).mean()
    if picture is not None and is_copy(drawn, picture):
        there = np.asarray(picture.convert("RGBA").getchannel("A").resize(opaque.shape[::-1])) > opaque_from
        # Nothing was cut out where the picture itself, and so its copy, is transparent.
        cut = hole.painted & there if (hole.painted | there).mean() > 0.995 else hole.painted
        # The edges of what was transparent before move a little if the copy is scaled or compressed with losses.
        is_exact = not drawn.is_lossy and picture.size == opaque.shape[::-1]
        if not (cut.any() if is_exact else is_drawn(cut)):
            raise _unmarked()
        return _Meaning(painted=cut, note=hole.note)
    ink = drawn.colours[opaque]
    channels = channels_first(ink)
    white, black = (channels.min(axis=0) > 255 * _MIDDLE).mean(), (channels.max(axis=0) < 255 * _MIDDLE).mean()
    if min(white, black) > 0.02 and white + black > 0.9:
        return _Meaning(painted=opaque & (drawn.grey > _MIDDLE), levels=opacity * drawn.grey)
    are_strokes, is_black = is_flat(ink), black > 0.9
    # A background that reaches all around has a hole in it; strokes leave the edge free, and only strokes are coloured.
    if edge > 0.65 and (is_black or not are_strokes):
        return hole
    if are_strokes and edge < (0.35 if is_black else 0.65):
        note = None if white > 0.9 else Message("mask.painted_is_redrawn")
        return _Meaning(painted=opaque, levels=opacity, note=note)
    raise _unclear()


def _of_colours(drawn: Pixels, coloured: np.ndarray, strongest: np.ndarray, picture: Image.Image | None) -> _Meaning:
    rest = strongest[~coloured]
    is_on_black = rest.size > 0 and (rest < 255 * _MIDDLE).mean() > 0.95
    is_painted_over = picture is not None and is_copy(drawn, picture, least=MOSTLY)
    if is_on_black and is_flat(drawn.colours.reshape(-1, 3)) and not is_painted_over:
        levels = strongest / strongest.max()
        painted = strongest > strongest.max() / 2
        return _Meaning(painted=painted, levels=levels, note=Message("mask.not_black_is_redrawn"))
    return _of_copy(drawn, picture)


def _of_grey(drawn: Pixels, picture: Image.Image | None) -> _Meaning:
    grey = drawn.grey
    least, most = float(grey.min()), float(grey.max())
    if most <= DARK and (least == most or drawn.is_lossy):
        return _Meaning(painted=np.zeros(grey.shape, bool))
    if least >= _LIGHT:
        return _Meaning(painted=np.ones(grey.shape, bool))
    if least == most:
        raise _unclear()
    has_two = not drawn.is_lossy and bool(((grey == least) | (grey == most)).all())
    if not has_two and most <= DARK:
        raise _unclear()
    if (not has_two and is_photo(grey)) or _is_painted_over(drawn, picture):
        return _of_copy(drawn, picture)
    if least <= _MIDDLE < most:
        return _Meaning(painted=grey > _MIDDLE, levels=grey)
    levels = (grey - least) / (most - least)
    return _Meaning(painted=grey > (least + most) / 2, levels=levels, note=Message("mask.brighter_is_redrawn"))


def _is_painted_over(drawn: Pixels, picture: Image.Image | None) -> bool:
    """Whether a mask of greys is the picture with something painted over, or the picture itself."""
    return picture is not None and (is_copy(drawn, picture, least=WHOLLY) or keeps_lines(drawn, picture))


def _of_copy(drawn: Pixels, picture: Image.Image | None) -> _Meaning:
    """Mark what differs from the picture, for a mask that is the picture with something painted over."""
    import cv2

    height, width = drawn.grey.shape
    if picture is None or picture.size != (width, height) or not is_copy(drawn, picture, least=MOSTLY):
        raise _unclear()
    differences = np.abs(drawn.colours.astype(np.int16) - np.asarray(picture.convert("RGB")))
    largest = channels_first(differences).max(axis=0)
    unlike = largest > UNLIKE
    is_saved_again = ((largest > 0) & ~unlike).mean() > _CHANGED
    least = max(_LEAST_PAINTED, _LEAST_SHARE * unlike.size * is_saved_again)
    # Single pixels come from saving the picture again; small gaps are where the picture had the colour of the paint.
    cleaned = cv2.medianBlur(unlike.astype(np.uint8), 5)
    painted = cv2.morphologyEx(cleaned, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)) > 0
    differing = cv2.medianBlur(unlike.astype(np.uint8), 3)
    if painted.sum() < least:
        raise _unmarked() if differing.sum() < least else _unclear()
    if is_erased(drawn, picture, differing):
        raise _unclear()
    return _Meaning(painted=painted, note=Message("mask.painted_over_is_redrawn"))


def _unclear() -> UserError:
    return UserError("mask.unclear")


def _unmarked() -> UserError:
    return UserError("mask.unmarked")
