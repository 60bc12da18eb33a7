"""Skeletons uploaded as pictures: recognised on any background, and redrawn where that helps.

A picture on black, in the colours that ControlNets know and with lines thick enough for them, is used unchanged. In all
others the joints are read and the bodies redrawn; fingers and faces, which have too many points to be distinguished in
a picture, are kept as drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from ipa_app.imaging.colour import channels_first
from ipa_app.messages import Message
from ipa_app.pose.body import BONES, JOINT_NAMES, WRISTS
from ipa_app.pose.draw import draw_sheet, fit_skeleton_picture
from ipa_app.pose.keypoints import Keypoint
from ipa_app.pose.palettes import HUES
from ipa_app.pose.sheet import PoseSheet
from ipa_app.pose.skeleton import Person
from ipa_app.pose.skeleton_reader import Drawing, read_drawing
from ipa_app.pose.strokes import coloured_part

DARK = 40
"""Largest level, of 255, of black after JPEG compression."""

_WHITE = 160  # of 255: least level of white after JPEG compression, even of shrunken small points
_SIDE = 256  # longest side in pixels that a first look at a picture needs
_BLACK_GROUND = 0.97
# Least thickness relative to this app's, 9/512 of the shorter side; ControlNets do not follow much thinner lines.
_THICK_ENOUGH = 0.6
# Least thickness in pixels at which the palette can be recognised; thinner lines blur into one another.
_TELLING = 2.0
_READ_WHOLE = 0.9
# Longest side of details that are kept as drawn; no output is larger.
_LONGEST_SIDE = 2048


@dataclass(frozen=True)
class DrawnPose:
    """A drawn skeleton.

    Attributes:
        picture: as uploaded, mode "RGB".
        sheet: its joints; None if they cannot be read reliably.
        details: its fingers and faces, on black; None if it has none.
        is_usable: whether it can be used unchanged.
    """

    picture: Image.Image
    sheet: PoseSheet | None = None
    details: Image.Image | None = None
    is_usable: bool = True

    def fitted(self, fit: Callable[[PoseSheet], PoseSheet]) -> DrawnPose:
        """Return the pose with its joints fitted to a model; if nothing changes, it stays as drawn."""
        sheet = self.sheet and fit(self.sheet)
        return self if sheet is self.sheet else DrawnPose(self.picture, sheet, is_usable=False)

    @property
    def notes(self) -> tuple[Message, ...]:
        """How the drawing was interpreted, if it is redrawn."""
        return () if self.sheet is None or self.is_usable else self.sheet.notes

    def for_output(self, size: tuple[int, int]) -> Image.Image:
        """Return the picture for an output of `size` (width, height): whole, undistorted, on black, mode "RGB"."""
        if self.sheet is None or self.is_usable:
            return fit_skeleton_picture(self.picture, size)
        drawn = draw_sheet(self.sheet, size)
        if self.details is None:
            return drawn
        details = fit_skeleton_picture(self.details, size)
        return Image.fromarray(np.maximum(np.asarray(drawn), np.asarray(details)))


def drawn_pose(picture: Image.Image) -> DrawnPose | None:
    """Recognise a drawn OpenPose skeleton; None for a photo, and for a drawing of anything else.

    Args:
        picture: mode "RGB".
    """
    drawing = read_drawing(picture)
    if drawing is None:
        return DrawnPose(picture) if _is_like_skeleton(picture) else None
    notes = [] if drawing.explained >= _READ_WHOLE else [Message("pose.lines_left_out")]
    sheet = PoseSheet(drawing.skeleton, *picture.size, notes=tuple(notes))
    closer = sheet.brought_closer()
    thickness = drawing.thickness / (9 / 512 * min(picture.size))
    may_be_ours = drawing.is_in_our_colours or drawing.thickness < _TELLING
    is_drawn_so = may_be_ours and thickness >= _THICK_ENOUGH and _is_on_black(picture)
    details = _details(picture, drawing)
    if details is not None and closer is not sheet:
        details = details.resize(details.size, Image.Resampling.BILINEAR, box=_scaled(sheet.window, picture, details))
    return DrawnPose(picture, closer, details, is_usable=is_drawn_so and closer is sheet)


def _glance(picture: Image.Image) -> np.ndarray:
    """Return the pixels (N, 3) of the picture, shrunk."""
    return np.asarray(picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)).reshape(-1, 3)


def _is_on_black(picture: Image.Image) -> bool:
    pixels = _glance(picture)
    grey = pixels[pixels.max(axis=1) - pixels.min(axis=1) <= DARK]
    return bool((grey.max(axis=1) <= DARK).mean() >= _BLACK_GROUND)


def _is_like_skeleton(picture: Image.Image) -> bool:
    """Whether a picture is mostly black, with lines of many pure colours and perhaps white dots."""
    pixels = _glance(picture)
    brightest, weakest = pixels.max(axis=1), pixels.min(axis=1)
    lit = brightest > DARK
    if not 0.001 <= lit.mean() <= 0.4:
        return False
    pure = 1 - weakest[lit] / brightest[lit] > 0.6
    # JPEG makes edges greyer.
    if pure.mean() < 0.3 or (pure | (weakest[lit] > _WHITE)).mean() < 0.75:
        return False
    part = coloured_part(picture)
    if part is None or not _are_lines(lit.reshape(_SIDE, _SIDE)):
        return False
    shares = np.bincount(part.hues[part.hues >= 0], minlength=HUES) / max(1, (part.hues >= 0).sum())
    return bool((shares > 0.01).sum() >= 4)


def _are_lines(lit: np.ndarray) -> bool:
    """Whether most of the lit pixels (H, W) belong to parts far longer than thick: lines, not discs or shapes."""
    count, found = cv2.connectedComponents(lit.astype(np.uint8), connectivity=8)
    labels = np.asarray(found, dtype=np.int64)
    depth = cv2.distanceTransform(lit.astype(np.uint8), cv2.DIST_L2, 5)
    rows, columns = np.nonzero(lit)
    label = labels[rows, columns]
    thick, low, high = np.zeros(count), np.full((count, 2), np.inf), np.zeros((count, 2))
    np.maximum.at(thick, label, 2 * depth[rows, columns])
    np.minimum.at(low, label, np.stack([columns, rows], axis=1))
    np.maximum.at(high, label, np.stack([columns, rows], axis=1))
    is_line = np.hypot(*(high - low).T) >= 4 * thick
    return bool(is_line[label].mean() >= 0.5)


def _details(picture: Image.Image, drawing: Drawing) -> Image.Image | None:
    """Cut out what is drawn around hands and heads besides the bodies: on black, in the intended colours."""
    small = picture.copy()
    small.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.BOX)
    pixels, thickness = np.asarray(small), drawing.thickness * small.width / picture.width
    weakest = channels_first(pixels).min(axis=0)
    # A pure colour has one channel of 0; anything above that comes from the background.
    colours = pixels - weakest[..., None]
    chroma = channels_first(colours).max(axis=0)
    strongest = max(1.0, float(np.percentile(chroma[chroma > DARK], 95))) if (chroma > DARK).any() else 255.0
    colours = np.clip(colours * np.float32(255 / strongest), 0, 255).astype(np.uint8)
    dots = (chroma <= DARK) & (weakest > _WHITE)
    if dots.mean() < 0.1:  # otherwise the background is white
        colours[dots] = 255
    about = np.zeros(chroma.shape, dtype=np.uint8)
    bodies = np.zeros_like(about)
    for person in drawing.skeleton.people:
        _mark(about, bodies, person, thickness=thickness)
    shown = (about > 0) & (bodies == 0) & ((chroma > DARK) | (channels_first(colours).min(axis=0) == 255))
    if shown.sum() < 8 * thickness**2:
        return None
    return Image.fromarray(np.where(shown[..., None], colours, 0).astype(np.uint8))


def _scaled(
    window: tuple[int, int, int, int], whole: Image.Image, small: Image.Image
) -> tuple[float, float, float, float]:
    """Return the position of a picture's window in a smaller copy."""
    across, down = small.width / whole.width, small.height / whole.height
    left, top, right, bottom = window
    return left * across, top * down, right * across, bottom * down


def _mark(about: np.ndarray, bodies: np.ndarray, person: Person, *, thickness: float) -> None:
    """Mark where a person's hands and head may be, and what their body's lines and dots cover."""
    height, width = about.shape

    def spot(point: Keypoint) -> tuple[int, int]:
        return int(point.x * width), int(point.y * height)

    def far(first: Keypoint, second: Keypoint) -> float:
        return float(np.hypot((first.x - second.x) * width, (first.y - second.y) * height))

    nose, neck = person[JOINT_NAMES.index("nose")], person[JOINT_NAMES.index("neck")]
    if nose is not None and neck is not None:
        cv2.circle(about, spot(nose), int(1.2 * far(nose, neck)), 1, thickness=-1)
    for wrist, elbow in ((person[joint], person[joint - 1]) for joint in WRISTS.values()):
        if wrist is not None and elbow is not None:
            cv2.circle(about, spot(wrist), int(0.9 * far(wrist, elbow)), 1, thickness=-1)
    for first, second in ((person[first], person[second]) for first, second in BONES):
        if first is not None and second is not None:
            cv2.line(bodies, spot(first), spot(second), 1, thickness=max(3, round(2 * thickness)))
    for point in person:
        if point is not None:
            cv2.circle(bodies, spot(point), max(2, round(1.5 * thickness)), 1, thickness=-1)
