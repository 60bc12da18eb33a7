"""Open untrusted pictures: any file becomes an upright sRGB picture or one clear error message.

Only the header is decoded until the size is known to be acceptable, only the formats of `formats` are tried
(no PostScript, no vector formats), and every error a decoder can raise on a damaged file becomes a
`UserError`. Anything that may not be what the user intended leaves a note.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ipa_app.errors import UserError
from ipa_app.imaging.colour import colour_space, to_srgb
from ipa_app.imaging.depth import (
    DeepPicture,
    deep_grey,
    fractions,
    has_mixed_planes,
    is_deep,
    is_negative,
    read_deep_tiff,
)
from ipa_app.imaging.formats import MAX_PIXELS, format_names, format_of, open_header
from ipa_app.imaging.truncated import Completed, complete, has_end
from ipa_app.messages import Message

PictureSource = str | Path | bytes | Image.Image | np.ndarray
Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)
# The mean that CLIP subtracts, (0.48145466, 0.4578275, 0.40821073), in bytes: the tower sees this colour as zero.
CLIP_MEAN: Colour = (123, 117, 104)

_LOSSY = ("JPEG", "MPO", "WEBP", "AVIF", "HEIF")
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's decoders raise on damaged files besides OSError: they are written for speed, not for hostile input.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    AttributeError,
    AssertionError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A picture in its own mode.

    Attributes:
        image: loaded and upright, of an 8-bit mode.
        levels: mode "F", 0 (black) to 1 (white): the finer values of a grey picture with more than eight bits.
        turn: the transposition that made it upright; None if it already was.
        profile: its ICC profile; None if it has none.
        is_lossy: whether the file's compression is lossy.
        notes: sentences on what the user may not have intended.
    """

    image: Image.Image
    levels: Image.Image | None = None
    turn: Image.Transpose | None = None
    profile: bytes | None = None
    is_lossy: bool = False
    notes: tuple[Message, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A picture ready for use.

    Attributes:
        image: upright sRGB without metadata: mode "RGB", or "RGBA" if any part is transparent.
        turn: as in `Decoded`.
        notes: as in `Decoded`.
    """

    image: Image.Image
    turn: Image.Transpose | None = None
    notes: tuple[Message, ...] = ()


def open_image(
    source: PictureSource,
    *,
    max_pixels: int = MAX_PIXELS,
    min_side: int = 8,
    background: Colour = WHITE,
) -> Image.Image:
    """Open a picture of any common kind as upright RGB.

    Args:
        source: a file's path, its bytes, a Pillow picture, or a uint8 array (H, W) or (H, W, 1 to 4).
        max_pixels: most pixels allowed; larger files are rejected before decoding.
        min_side: fewest pixels allowed on either side.
        background: what shows through transparent parts, RGB 0..255.

    Returns:
        The picture, or the first frame of an animation: mode "RGB" in sRGB, turned by its EXIF orientation, without
        metadata.

    Raises:
        UserError: it is not a picture, damaged, too small, too large, or transparent all over.
    """
    image = read_image(source, max_pixels=max_pixels, min_side=min_side).image
    check_visible(image)
    return flatten(image, background=background)


def read_image(
    source: PictureSource, *, name: str = Message("upload.this"), max_pixels: int = MAX_PIXELS, min_side: int = 8
) -> Opened:
    """Open a picture of any common kind with its transparency, and note what the user may not have intended.

    Args:
        source: as for `open_image`.
        name: what the picture is called in a note.
        max_pixels: as for `open_image`.
        min_side: as for `open_image`.

    Raises:
        UserError: it is not a picture, damaged, too small or too large.
    """
    decoded = decode(source, name=name, max_pixels=max_pixels, min_side=min_side)
    image, notes = in_srgb(decoded, name=name)
    return Opened(image=image, turn=decoded.turn, notes=(*decoded.notes, *notes))


def decode(
    source: PictureSource, *, name: str = Message("upload.this"), max_pixels: int = MAX_PIXELS, min_side: int = 8
) -> Decoded:
    """Open a picture upright and in its own mode, including transparency.

    Args:
        source: as for `open_image`.
        name: as for `read_image`.
        max_pixels: as for `open_image`.
        min_side: as for `open_image`.

    Raises:
        UserError: as for `read_image`.
    """
    if isinstance(source, Image.Image | np.ndarray):
        image = source if isinstance(source, Image.Image) else _from_array(source)
        _check_size(image.size, max_pixels=max_pixels, min_side=min_side)
        try:
            image.load()
        except _DAMAGED as error:
            raise _damaged() from error
        return _upright(image, orientation=_orientation(image), profile=image.info.get("icc_profile"), name=name)
    try:
        # Read completely, so that no file stays open behind a picture that is rejected or animated.
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise _no_picture() from error
    return _decode_file(data, name=name, max_pixels=max_pixels, min_side=min_side)


def in_srgb(decoded: Decoded, *, name: str) -> tuple[Image.Image, list[Message]]:
    """Convert a decoded picture to sRGB, as `to_srgb` does.

    Raises:
        UserError: its colours cannot be read.
    """
    try:
        return to_srgb(decoded.image, decoded.profile, name=name)
    except _DAMAGED as error:
        raise UserError("picture.unknown_colours", mode=decoded.image.mode) from error


def check_visible(image: Image.Image) -> None:
    """Check that a picture of mode "RGB" or "RGBA" is not invisible.

    Raises:
        UserError: it is transparent all over.
    """
    if image.mode == "RGBA" and image.getchannel("A").getbbox() is None:
        raise UserError("picture.invisible")


def flatten(image: Image.Image, *, background: Colour = WHITE) -> Image.Image:
    """Return a new picture of mode "RGB" with `background` (RGB, 0..255) under the transparent parts of an sRGB one."""
    flat = Image.new("RGB", image.size, background)
    flat.paste(image, mask=image.getchannel("A") if image.mode == "RGBA" else None)
    return flat


def _decode_file(data: bytes, *, name: str, max_pixels: int, min_side: int) -> Decoded:
    kind = format_of(data)

    def load(file: bytes) -> Image.Image:
        image = open_header(file)
        _check_size(image.size, max_pixels=max_pixels, min_side=min_side)
        if has_mixed_planes(image):
            raise UnidentifiedImageError("Pillow mixes up the planes of this TIFF")
        if kind == "JPEG" and not has_end(file):
            raise OSError("the end of this JPEG is missing")
        image.load()
        if image.mode == "P" and image.palette is None:
            raise OSError("the palette of this picture is missing")
        if image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getbbox() is None:
            # Windows' own programs write such files and use only the colours.
            return image.convert("RGB")
        return image

    notes: list[Message] = []
    try:
        image = load(data)
        header = open_header(data)
    except Image.DecompressionBombError as error:
        raise _too_large(max_pixels) from error
    except _DAMAGED as error:
        if kind == "TIFF" and isinstance(error, UnidentifiedImageError):
            return _decode_deep_tiff(data, name=name, max_pixels=max_pixels, min_side=min_side)
        completed = _completed(data, kind, load, max_pixels=max_pixels)
        if completed is None:
            is_known = kind is not None or not isinstance(error, UnidentifiedImageError)
            raise _damaged() if is_known else _no_picture() from error
        image, header = completed.image, open_header(completed.data)
        if completed.missing:
            notes.append(Message("picture.cut_off", name=name))
    space = colour_space(header, data, name=name)
    return _upright(
        image,
        # Loading a TIFF turns it and drops the orientation.
        orientation=_orientation(header),
        is_turned=header.format == "TIFF",
        profile=space.profile,
        name=name,
        notes=(*notes, *_note_of_frames(header, name=name), *space.notes),
    )


def _decode_deep_tiff(data: bytes, *, name: str, max_pixels: int, min_side: int) -> Decoded:
    try:
        deep = read_deep_tiff(data, max_pixels=max_pixels)
    except _DAMAGED as error:
        raise _damaged() from error
    _check_size(deep.values.shape[1::-1], max_pixels=max_pixels, min_side=min_side)
    return _upright(deep, orientation=deep.orientation, profile=deep.profile, name=name)


def _upright(
    picture: Image.Image | DeepPicture,
    *,
    orientation: int,
    is_turned: bool = False,
    profile: bytes | None,
    name: str,
    notes: tuple[Message, ...] = (),
) -> Decoded:
    """Convert a decoded picture to eight bits and apply its orientation, unless already applied."""
    levels, guessed = None, []
    if isinstance(picture, Image.Image):
        image = picture
        if is_deep(picture):
            image, levels, guessed = _in_eight_bits(deep_grey(picture), name, negative=is_negative(picture))
    else:
        image, levels, guessed = _in_eight_bits(picture.values, name, negative=picture.is_negative)
    turn = _UPRIGHT.get(orientation)
    if turn is not None and not is_turned:
        image, levels = image.transpose(turn), levels.transpose(turn) if levels else None
    is_lossy = getattr(picture, "format", None) in _LOSSY
    return Decoded(image=image, levels=levels, turn=turn, profile=profile, is_lossy=is_lossy, notes=(*notes, *guessed))


def _in_eight_bits(
    values: np.ndarray, name: str, *, negative: bool
) -> tuple[Image.Image, Image.Image | None, list[Message]]:
    """Convert values of any type, (H, W) or (H, W, channels), to eight bits; keep the finer levels of grey too."""
    has_alpha = values.ndim == 3 and values.shape[2] in (2, 4)
    colours, notes = fractions(values[..., :-1] if has_alpha else values, name=name)
    colours = 1 - colours if negative else colours
    if has_alpha:
        opacity, _ = fractions(values[..., -1:], name=name)
        colours = np.concatenate([colours, opacity], axis=2)
    colours = colours[..., 0] if colours.ndim == 3 and colours.shape[2] == 1 else colours
    image = Image.fromarray(np.rint(colours * 255).astype(np.uint8))
    return image, Image.fromarray(colours) if colours.ndim == 2 else None, notes


def _completed(
    data: bytes, kind: str | None, load: Callable[[bytes], Image.Image], *, max_pixels: int
) -> Completed | None:
    try:
        return complete(data, kind, decode=load, max_pixels=max_pixels)
    except _DAMAGED:
        return None


def _check_size(size: tuple[int, int], *, max_pixels: int, min_side: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise UserError("picture.too_large", width=width, height=height, megapixels=f"{max_pixels / 1e6:g}")
    if min(width, height) < min_side:
        raise UserError("picture.too_small", width=width, height=height, least=min_side)


def _from_array(array: np.ndarray) -> Image.Image:
    """Interpret a uint8 array (H, W) or (H, W, channels) as grey, grey with alpha, RGB or RGBA."""
    pixels = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    readable = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (2, 3, 4))
    if not readable or pixels.dtype != np.uint8 or pixels.size == 0:
        raise UserError("picture.not_an_array_of_bytes", shape=str(tuple(array.shape)), type=array.dtype)
    return Image.fromarray(np.ascontiguousarray(pixels))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1..8; damaged EXIF data counts as upright, as in browsers."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DAMAGED:
        return 1
    return value if isinstance(value, int) else 1


def _note_of_frames(image: Image.Image, *, name: str) -> list[Message]:
    """Return a note on which of a file's several pictures is used; extras that phones append to a JPEG do not count."""
    if image.format == "MPO":
        return []
    try:
        is_one = not getattr(image, "is_animated", False)
    except _DAMAGED:
        is_one = False
    if is_one:
        return []
    if image.format == "HEIF":
        return [Message("picture.several_pictures", name=name)]
    return [Message("picture.several_frames", name=name)]


def _no_picture() -> UserError:
    return UserError("picture.unknown_format", formats=format_names())


def _damaged() -> UserError:
    return UserError("picture.damaged")


def _too_large(max_pixels: int) -> UserError:
    return UserError("picture.far_too_large", megapixels=f"{max_pixels / 1e6:g}")
