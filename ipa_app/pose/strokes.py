"""Find the coloured strokes and dots of a drawing by hue, on any background.

Grey has no hue, and colours blended with grey keep theirs, so black, white, grey and transparent backgrounds are all
treated alike. Knows nothing of bodies.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from PIL import Image

from ipa_app.imaging.colour import channels_first
from ipa_app.pose.palettes import HUES

# Lines one pixel wide must survive; larger pictures only cost time.
_LONGEST_SIDE = 2048
# The coloured part is enlarged to this, so that dots of a few pixels have a centre.
_COMFORTABLE_SIDE = 800
_LARGEST_GROWTH = 4.0
# Least difference, of 255, between strongest and weakest channel: JPEG's noise in grey stays below.
_LEAST_CHROMA = 30
# Least share of the coloured part's typical chroma: a hairline of a bone's colour keeps this much at its steps.
_CHROMA_SHARE = 0.29
# Thin lines leave most of a drawing empty; photos and paintings do not.
_LARGEST_SHARE = 0.35
_MOST_PIECES = 4000
# Share by which the length of a dot may differ from the usual one, and its area in shares of a circle's.
_DOT_TOLERANCE, _DOT_SHARES = 0.1, (0.6, 1.15)


@dataclass(frozen=True)
class ColouredPart:
    """The coloured part of a picture, enlarged if small.

    Attributes:
        hues: (height, width), hue of each pixel (see `palettes`), -1 for none.
        corner: position of its upper left corner in the picture, in the picture's pixels.
        unit: number of its pixels per pixel of the picture.
    """

    hues: np.ndarray
    corner: np.ndarray
    unit: float

    def in_picture(self, points: np.ndarray) -> np.ndarray:
        """Convert points (..., 2) from its pixels to the picture's, where whole numbers are pixel corners."""
        return (points + 0.5) / self.unit + self.corner


def coloured_part(picture: Image.Image) -> ColouredPart | None:
    """Cut out the coloured part of a picture (mode "RGB"); None if it is empty, or too large for a drawing."""
    shrink = min(1.0, _LONGEST_SIDE / max(picture.size))
    if shrink < 1:
        width, height = (max(1, round(side * shrink)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BOX)
    pixels = np.asarray(picture)
    chroma = _chroma(pixels)
    coloured = chroma > _LEAST_CHROMA
    if not 0 < coloured.mean() <= _LARGEST_SHARE:
        return None
    least = max(_LEAST_CHROMA, _CHROMA_SHARE * float(np.percentile(chroma[coloured], 75)))
    rows, columns = (np.flatnonzero((chroma > least).any(axis=axis)) for axis in (1, 0))
    window = pixels[_with_margin(rows), _with_margin(columns)]
    # Enlarge by a whole number, as a hairline between two pixels would be half as strong on both.
    growth = float(np.clip(np.ceil(_COMFORTABLE_SIDE / max(window.shape)), 1.0, _LARGEST_GROWTH))
    if growth > 1:
        window = cv2.resize(window, None, fx=growth, fy=growth, interpolation=cv2.INTER_LINEAR)
    corner = np.array([_with_margin(columns).start, _with_margin(rows).start]) / shrink
    return ColouredPart(hues=_hues(window, least=least), corner=corner, unit=growth * shrink)


def _chroma(pixels: np.ndarray) -> np.ndarray:
    channels = channels_first(pixels)
    return channels.max(axis=0).astype(np.int16) - channels.min(axis=0)


def _with_margin(seen: np.ndarray) -> slice:
    return slice(max(0, int(seen[0]) - 6), int(seen[-1]) + 7)


def _hues(pixels: np.ndarray, *, least: float) -> np.ndarray:
    """Return the hue of every pixel, averaged over its neighbours weighted by chroma, as JPEG spoils single pixels."""
    chroma = _chroma(pixels).astype(np.float32)
    angle = np.deg2rad(cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)[..., 0])
    across, down = (cv2.blur(chroma * part(angle), (3, 3)) for part in (np.cos, np.sin))
    hues = np.rint(np.arctan2(down, across) * (HUES / (2 * np.pi))).astype(np.int16) % HUES
    return np.where(chroma > least, hues, -1)


@dataclass(frozen=True)
class Stroke:
    """A straight piece of one hue: a line, or a dot.

    Attributes:
        hue: index of its hue.
        area: in pixels.
        mean: (2,), x and y of its centre.
        spread: (2, 2), the covariance of its pixels' x and y.
        ends: (2, 2), x and y of both ends of its long axis.
    """

    hue: int
    area: float
    mean: np.ndarray
    spread: np.ndarray
    ends: np.ndarray

    @cached_property
    def length(self) -> float:
        """Distance from end to end in pixels."""
        return float(np.linalg.norm(self.ends[1] - self.ends[0])) + 1

    @cached_property
    def width(self) -> float:
        """Width across the long axis in pixels; bent strokes count as wide."""
        # The width of an ellipse is 4 standard deviations, that of a rectangle 3.5.
        return max(1.0, 3.8 * float(np.sqrt(max(0.0, np.linalg.eigvalsh(self.spread)[0]))))

    @property
    def axis(self) -> np.ndarray:
        """(2,), unit vector from the first end to the second."""
        return (self.ends[1] - self.ends[0]) / max(1e-6, self.length - 1)

    def joined(self, other: Stroke) -> Stroke:
        """Return the union of this stroke and another piece of it."""
        area = self.area + other.area
        mean = (self.area * self.mean + other.area * other.mean) / area
        parts = (each.area * (each.spread + np.outer(each.mean - mean, each.mean - mean)) for each in (self, other))
        spread = np.sum(list(parts), axis=0) / area
        axis = np.linalg.eigh(spread)[1][:, 1]
        along = (np.concatenate([self.ends, other.ends]) - mean) @ axis
        return Stroke(self.hue, area, mean, spread, mean + np.outer([along.min(), along.max()], axis))


def find_strokes(part: ColouredPart) -> list[Stroke] | None:
    """Find the straight pieces of all hues; None if there are far more than in a drawing of skeletons."""
    found: list[Stroke] = []
    for hue in range(HUES):
        count, labels = cv2.connectedComponents((part.hues == hue).astype(np.uint8), connectivity=8)
        if len(found) + count > _MOST_PIECES:
            return None
        found += _fitted(labels, count, hue=hue)
    return found


def _fitted(labels: np.ndarray, count: int, *, hue: int) -> list[Stroke]:
    """Fit a line to every piece in a picture of labels (0 is none)."""
    at = np.flatnonzero(labels > 0)  # on booleans, which takes a tenth of the time
    (rows, columns), label = np.divmod(at, labels.shape[1]), labels.ravel()[at]
    area = np.maximum(1, np.bincount(label, minlength=count)).astype(float)
    points = np.stack([columns, rows], axis=1).astype(float)
    mean = np.stack([np.bincount(label, points[:, axis], count) for axis in (0, 1)], axis=1) / area[:, None]
    off = points - mean[label]
    xx, xy, yy = (np.bincount(label, off[:, a] * off[:, b], count) / area for a, b in ((0, 0), (0, 1), (1, 1)))
    angle = 0.5 * np.arctan2(2 * xy, xx - yy)
    axis = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    along = (off * axis[label]).sum(axis=1)
    low, high = np.zeros(count), np.zeros(count)
    np.minimum.at(low, label, along)
    np.maximum.at(high, label, along)
    return [
        Stroke(
            hue,
            area[i],
            mean[i],
            np.array([[xx[i], xy[i]], [xy[i], yy[i]]]),
            mean[i] + np.outer([low[i], high[i]], axis[i]),
        )
        for i in range(1, count)
    ]


def line_width(strokes: Iterable[Stroke]) -> float | None:
    """Return the typical width of the lines, weighted by length; None if there are none."""
    lines = [stroke for stroke in strokes if stroke.length >= max(10, 4 * stroke.width)]
    if not lines:
        return None
    widths = np.array([stroke.area / stroke.length for stroke in lines])
    order = widths.argsort()
    lengths = np.cumsum(np.array([stroke.length for stroke in lines])[order])
    # A tapered line has less area than a rectangle.
    return float(1.1 * widths[order][np.searchsorted(lengths, lengths[-1] / 2)])


def dot_width(strokes: Iterable[Stroke], *, line: float) -> float | None:
    """Return the typical width of the dots; None if there are hardly any."""
    dots = [
        stroke.length
        for stroke in strokes
        if _is_round(stroke) and stroke.length >= 0.7 * line and stroke.area >= 0.5 * line**2
    ]
    return float(np.median(dots)) if len(dots) >= 3 else None


def without_gaps(strokes: Iterable[Stroke], part: ColouredPart, *, line: float, dot: float) -> list[Stroke]:
    """Join the pieces of lines that others cross, but no line to the dot of a joint nearby."""
    joined: list[Stroke] = []
    by_hue: dict[int, list[Stroke]] = {}
    for stroke in strokes:
        by_hue.setdefault(stroke.hue, []).append(stroke)
    for pieces in by_hue.values():
        pieces.sort(key=lambda piece: -piece.length)
        done: list[Stroke] = []
        while pieces:
            first = pieces.pop(0)
            behind = (each for each in pieces if not _is_whole_dot(each, dot=dot))
            other = next((each for each in behind if _continues(first, each, part, line=line, dot=dot)), None)
            if other is None:
                done.append(first)
            else:
                pieces = [first.joined(other), *(each for each in pieces if each is not other)]
        joined += done
    return joined


def _is_whole_dot(stroke: Stroke, *, dot: float) -> bool:
    """Whether a stroke is as round as a dot and as long, even if the bones that end there cover some of it."""
    is_as_long = abs(stroke.length / dot - 1) <= _DOT_TOLERANCE
    least, most = _DOT_SHARES
    # A square piece of a line has more area than a circle.
    return _is_round(stroke) and is_as_long and bool(least <= stroke.area / (math.pi / 4 * dot**2) <= most)


def _is_round(stroke: Stroke) -> bool:
    return stroke.length < 1.5 * stroke.width + 1


def _continues(first: Stroke, other: Stroke, part: ColouredPart, *, line: float, dot: float) -> bool:
    """Whether a stroke continues another behind something coloured."""
    if first.length < 1.5 * line:
        return False
    pairs = [(math.dist(one, another), one, another) for one in first.ends for another in other.ends]
    gap, here, there = min(pairs, key=lambda pair: pair[0])
    if gap > 3.5 * max(line, dot):
        return False
    both = first.joined(other)
    if both.width > 1.25 * max(first.width, min(other.width, line)) + 0.5:
        return False
    if both.length < first.length + 0.3 * other.length:
        return False
    between = np.linspace(here, there, 9)
    return bool((hues_at(part, between) >= 0).mean() >= 0.7)


def hues_at(part: ColouredPart, points: np.ndarray) -> np.ndarray:
    """Return the hues at points (N, 2); beyond the edges, those of the nearest pixel."""
    height, width = part.hues.shape
    columns, rows = np.rint(points).astype(int).T
    return part.hues[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
