"""Which part of a picture is redrawn, how far it is extended, how soft the edge is, and what the model sees of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageDraw

from ipa_app.engine.tasks.task import LARGEST_SIDE
from ipa_app.errors import UserError
from ipa_app.imaging.cropping import Box, cut_window, fitted_size, is_huge, keeps_shape, part_inside, place_in
from ipa_app.imaging.masks import cover_cells, feather, fit_mask, grow, mask_box
from ipa_app.imaging.transparency import in_colour, note_of_transparency, off_white, on_white, opacity_of
from ipa_app.messages import Message

if TYPE_CHECKING:
    from ipa_app.engine.plan import Plan
    from ipa_app.engine.requests import GenerateRequest

# At softness 1 the new part fades in over one part in this many of the drawn width: 2 pixels at 128, 8 at 512.
_FEATHER = 64

# Of 255: opacity below this counts as none.
_BARELY_SEEN = 16

# In percent of the masked part's size. Surroundings that alone determine what is drawn must show what the part belongs
# to: seen close up, a toy's belly is filled with another toy's face.
_SEEN_OF_SURROUNDINGS = 200

_TINT = (255, 45, 120)
_TINT_SHARE = 0.6
_FRAME = (255, 255, 255)
_FRAME_EDGE = (20, 20, 20)


@dataclass(frozen=True, kw_only=True)
class Transparency:
    """The transparency of a picture to be changed. It is kept, except where nothing was visible before.

    Attributes:
        colours: the picture without white under it, mode "RGB": transparent pixels have colours, too.
        opacity: mode "L", of the same size.
        appears: mode "L", 255 where what is drawn is opaque: beyond the picture's old edges, and in the masked part if
            `is_filled`.
        is_filled: whether a part of the old picture is masked, and all of that was transparent.
    """

    colours: Image.Image
    opacity: Image.Image
    appears: Image.Image
    is_filled: bool


@dataclass(frozen=True, kw_only=True)
class Area:
    """The part of a picture that is redrawn.

    Attributes:
        picture: the whole picture, mode "RGB", extended if requested, of the size of the result. Transparent parts are
            put on white.
        mask: of the same size, 255 where it changes.
        window: (left, top, right, bottom) of what the model sees, in the model's shape; may extend beyond the edges.
        feather_mask: mode "L", at the model's size: how much of what is drawn shows, rising inwards from the mask's
            edge.
        transparency: of the picture; None if it is opaque everywhere.
        stretched: a message that the picture was stretched to another shape; None if it kept its own.
    """

    picture: Image.Image
    mask: Image.Image
    window: Box
    feather_mask: Image.Image
    transparency: Transparency | None = None
    stretched: Message | None = None

    @property
    def box(self) -> Box:
        """The part of the window that is inside the picture."""
        return part_inside(self.window, self.picture.size)

    @cached_property
    def box_feather_mask(self) -> Image.Image:
        """The feather mask within `box`, of its size."""
        return self.to_box(self.feather_mask, Image.Resampling.BILINEAR)

    @cached_property
    def blend_mask(self) -> Image.Image:
        """How much of what is drawn shows, of the picture's size: mode "L", 0 outside the mask."""
        blend_mask = Image.new("L", self.picture.size)
        blend_mask.paste(self.box_feather_mask, self.box)
        return ImageChops.multiply(blend_mask, self.mask)

    @property
    def notes(self) -> tuple[Message, ...]:
        """Messages on how the picture was used."""
        return tuple(note for note in (self.stretched, self._note_of_transparency) if note)

    @property
    def _note_of_transparency(self) -> Message | None:
        if self.transparency is None:
            return None
        if self.transparency.is_filled:
            return Message("picture.redrawn_opaque")
        return note_of_transparency(Message("upload.image"))

    def with_transparency(self, result: Image.Image) -> Image.Image:
        """Return a result, drawn on white, with the picture's transparency; outside the mask it is the picture."""
        if self._kept is None:
            return result
        return Image.composite(off_white(result, self._kept.getchannel("A")), self._kept, self.mask)

    @cached_property
    def _kept(self) -> Image.Image | None:
        """The picture with the transparency that all results have, mode "RGBA"; None if it is opaque."""
        if self.transparency is None:
            return None
        opacity, appears = self.transparency.opacity, self.transparency.appears
        kept = self.transparency.colours.copy()
        kept.putalpha(Image.composite(ImageChops.screen(opacity, self.blend_mask), opacity, appears))
        return kept

    def to_box(self, view: Image.Image, resample: Image.Resampling) -> Image.Image:
        """Scale an image of the window from the model's size to the picture's, and crop it to `box`."""
        left, top, right, bottom = self.window
        if is_huge(self.window):
            size = self.box[2] - self.box[0], self.box[3] - self.box[1]
            return view.resize(size, resample, box=place_in(self.window, self.box, view.size))
        inside = (self.box[0] - left, self.box[1] - top, self.box[2] - left, self.box[3] - top)
        return view.resize((right - left, bottom - top), resample).crop(inside)


def mark_area(plan: Plan) -> Area:
    """Prepare the picture and the mask of an inpainting request according to its options.

    Where the picture is extended, its outermost pixels are repeated. Drawing starts from pure noise there, so they do
    not influence the model; they show only where the new part fades in, and avoid a visible seam.

    Args:
        plan: of an inpainting.

    Raises:
        UserError: nothing is masked.
    """
    request = plan.request
    if request.image is None:
        raise ValueError("This is not a plan for inpainting.")
    picture = in_colour(request.image)
    if picture.size != (plan.width, plan.height):
        picture = picture.resize((plan.width, plan.height), Image.Resampling.LANCZOS)
    left, top, right, bottom = margins(request, picture.size)
    extended = (-left, -top, picture.width + right, picture.height + bottom)
    masked = _masked(request, picture.size)
    mask = Image.new("L", (left + picture.width + right, top + picture.height + bottom), 255)
    mask.paste(masked, (left, top))
    window = _window(plan, mask)
    return Area(
        picture=cut_window(on_white(picture), extended),
        mask=mask,
        window=window,
        feather_mask=_feather_mask(plan, mask, window),
        transparency=_transparency(picture, masked, extended),
        stretched=_note_of_shape(request.image.size, picture.size),
    )


def _note_of_shape(before: tuple[int, int], after: tuple[int, int]) -> Message | None:
    """Return a message if a picture's shape has changed noticeably."""
    if keeps_shape(before, after):
        return None
    sizes = zip(("width", "height", "new_width", "new_height"), (*before, *after), strict=True)
    return Message("inpaint.stretched", **dict(sizes))


def margins(request: GenerateRequest, size: tuple[int, int]) -> Box:
    """Return the number of pixels by which a request extends its picture.

    Args:
        request: for inpainting.
        size: (width, height) of the picture before that.

    Returns:
        The pixels added at the left, top, right and bottom; at least one wherever an extension is requested.

    Raises:
        UserError: an extended side would become too long.
    """
    width, height = size
    left, right = (_pixels(percent, width) for percent in (request.extend_left, request.extend_right))
    top, bottom = (_pixels(percent, height) for percent in (request.extend_up, request.extend_down))
    sides = ((Message("direction.wide"), width, left + right), (Message("direction.high"), height, top + bottom))
    for name, side, more in sides:
        if more and side + more > LARGEST_SIDE:
            raise UserError("request.extended_too_far", pixels=side + more, direction=name, most=LARGEST_SIDE)
    return left, top, right, bottom


def swapped(mask: Image.Image, request: GenerateRequest) -> Image.Image:
    """Return a request's mask (mode "L", 0 or 255): what is painted, or with Swap everything else.

    If nothing is painted there is nothing to swap: a picture that is only extended must stay as it is.
    """
    return ImageChops.invert(mask) if request.mask_invert and mask.getbbox() else mask


def show_area(area: Area, *, longest: int = 1024) -> Image.Image:
    """Draw an area for users: tinted as strongly as the new part will show, with a frame around what the model sees.

    Args:
        area: of any size.
        longest: most pixels on the longer side of the returned picture.

    Returns:
        Mode "RGB", no larger than the picture.
    """
    size = area.picture.size
    if max(size) > longest:
        size = fitted_size(size, (longest, longest))
    blend_mask = area.blend_mask.resize(size, Image.Resampling.BOX)
    blend_mask = blend_mask.point([round(level * _TINT_SHARE) for level in range(256)])
    picture = area.picture.resize(size, Image.Resampling.LANCZOS)
    shown = Image.composite(Image.new("RGB", size, _TINT), picture, blend_mask)
    scale = size[0] / area.picture.width, size[1] / area.picture.height
    left, top, right, bottom = (round(edge * scale[index % 2]) for index, edge in enumerate(area.box))
    drawing = ImageDraw.Draw(shown)
    drawing.rectangle((left, top, right - 1, bottom - 1), outline=_FRAME_EDGE, width=3)
    if right - left > 3 and bottom - top > 3:
        drawing.rectangle((left + 1, top + 1, right - 2, bottom - 2), outline=_FRAME, width=1)
    return shown


def _pixels(percent: float, side: int) -> int:
    return max(1, round(percent / 100 * side)) if percent else 0


def _masked(request: GenerateRequest, size: tuple[int, int]) -> Image.Image:
    """Return the mask of the picture itself, of `size`, after swapping and growing; mode "L", 0 or 255."""
    if request.mask is None:
        return Image.new("L", size)
    mask = swapped(fit_mask(request.mask, size, may_be_empty=request.extends), request)
    mask = grow(mask, request.mask_grow / 100 * max(size))
    if mask.getbbox() is None and not request.extends:
        raise UserError("mask.nothing_left")
    return mask


def _transparency(picture: Image.Image, masked: Image.Image, extended: Box) -> Transparency | None:
    """Return the transparency of a picture that is extended to a box; the mask is that of the picture before."""
    opacity = opacity_of(picture)
    if opacity is None:
        return None
    is_seen = any(ImageChops.multiply(opacity, masked).histogram()[_BARELY_SEEN:])
    is_filled = masked.getbbox() is not None and not is_seen
    appears = Image.new("L", (extended[2] - extended[0], extended[3] - extended[1]), 255)
    appears.paste(masked if is_filled else Image.new("L", picture.size), (-extended[0], -extended[1]))
    return Transparency(
        colours=cut_window(picture.convert("RGB"), extended),
        opacity=cut_window(opacity, extended),
        appears=appears,
        is_filled=is_filled,
    )


def _window(plan: Plan, mask: Image.Image) -> Box:
    """Choose what the model sees, in its own shape, for which it may extend beyond the picture's edges."""
    size, request = plan.canvas_size, plan.request
    aspect = size[0] / size[1]
    box = (0, 0, *mask.size)
    if request.area == "masked":
        padding = request.mask_padding
        if plan.makes_reference:
            padding = max(padding, _SEEN_OF_SURROUNDINGS)
        # Beyond the edges of an extended picture there is nothing that would be worth the loss of resolution.
        box = mask_box(mask, padding=padding / 100, aspect=aspect, min_side=max(size), inside=request.extends)
    return _reach_aspect(box, aspect=aspect)


def _feather_mask(plan: Plan, mask: Image.Image, window: Box) -> Image.Image:
    """Feather the mask at the drawn size: there one width suits all pictures, however many pixels they have."""
    size, softness = plan.canvas_size, plan.request.mask_feather
    if softness == 0:
        # Scaled up to the picture, even a hard edge at the drawn size would be soft; the mask itself has a hard one.
        return Image.new("L", size, 255)
    covered = cover_cells(mask, size, cell=1, window=window)
    return feather(covered, max(1, round(size[0] // _FEATHER * softness)))


def _reach_aspect(box: Box, *, aspect: float) -> Box:
    """Widen a box about its centre to an aspect ratio, beyond the picture's edges if necessary."""
    left, top, right, bottom = box
    width = max(right - left, round((bottom - top) * aspect))
    height = max(bottom - top, round((right - left) / aspect))
    left -= (width - (right - left)) // 2
    top -= (height - (bottom - top)) // 2
    return left, top, left + width, top + height
