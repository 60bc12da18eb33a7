"""Draw skeletons as the pictures that OpenPose ControlNets were trained on."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from PIL import Image

from ipa_app.imaging.cropping import fit_padded, fitted_size
from ipa_app.pose.body import FACE_POINT_COLOUR, HAND_BONE_COLOURS, HAND_BONES, HAND_POINT_COLOUR
from ipa_app.pose.keypoints import Details, Points
from ipa_app.pose.sheet import PoseSheet
from ipa_app.pose.skeleton import Skeleton

# controlnet-aux draws sticks of a fixed number of pixels, and the published ControlNets were trained on
# skeletons drawn on pictures whose shorter side is 512.
_CANVAS_SHORT_SIDE = 512
# Does not ring around the sticks, and is smooth both when shrinking and when enlarging.
_RESAMPLE = Image.Resampling.BILINEAR


def draw_skeleton(skeleton: Skeleton, size: tuple[int, int]) -> Image.Image:
    """Draw a skeleton on black.

    Args:
        skeleton: the people to draw; 0..1 spans the whole picture.
        size: (width, height) in pixels. Sticks are always 9/512 of the shorter side thick.

    Returns:
        Mode "RGB".
    """
    # Imported here because it loads torch, which takes seconds, and the page must open at once.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # controlnet-aux registers unneeded models and warns about each
        from controlnet_aux.open_pose.util import draw_bodypose

    width, height = size
    unit = _CANVAS_SHORT_SIDE / min(size)
    canvas = np.zeros((round(height * unit), round(width * unit), 3), dtype=np.uint8)
    for person, details in skeleton.figures:
        keypoints: list[Any] = list(person)  # its annotation does not allow for missing points
        canvas = draw_bodypose(canvas, keypoints)
        _draw_details(canvas, details)
    return Image.fromarray(canvas).resize(size, _RESAMPLE)


def _draw_details(canvas: np.ndarray, details: Details) -> None:
    """Draw hands and face onto a canvas (H, W, 3), as controlnet-aux does.

    Its own drawing of hands needs matplotlib for twenty colours, and fails on missing points.
    """
    import cv2  # here for the same reason as above

    for hand in (details.left_hand, details.right_hand):
        spots = _spots(hand, canvas)
        for (first, second), colour in zip(HAND_BONES, HAND_BONE_COLOURS, strict=True):
            if first in spots and second in spots:
                cv2.line(canvas, spots[first], spots[second], colour, thickness=2)
        for spot in spots.values():
            cv2.circle(canvas, spot, 4, HAND_POINT_COLOUR, thickness=-1)
    for spot in _spots(details.face, canvas).values():
        cv2.circle(canvas, spot, 3, FACE_POINT_COLOUR, thickness=-1)


def _spots(points: Points | None, canvas: np.ndarray) -> dict[int, tuple[int, int]]:
    """Return the pixels of the visible points, by their indices."""
    height, width = canvas.shape[:2]
    seen = ((number, point) for number, point in enumerate(points or ()) if point is not None)
    return {number: (int(point.x * width), int(point.y * height)) for number, point in seen}


def draw_sheet(sheet: PoseSheet, size: tuple[int, int]) -> Image.Image:
    """Draw a sheet's skeleton for an output of `size` (width, height): whole, undistorted, on black, mode "RGB"."""
    fitted = fitted_size((sheet.width, sheet.height), size)
    return fit_skeleton_picture(draw_skeleton(sheet.skeleton, fitted), size)


def fit_skeleton_picture(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Fit a drawn skeleton (mode "RGB") to `size` (width, height): whole, undistorted, on black."""
    return fit_padded(picture, size, resample=_RESAMPLE)
