"""Continuing a picture beyond its edges: by how many pixels, and how far that may go."""

from __future__ import annotations

from ipa_app.engine.requests import LARGEST_SIDE, GenerateRequest
from ipa_app.errors import UserError
from ipa_app.imaging.masks import Box
from ipa_app.messages import Message


def margins(request: GenerateRequest, size: tuple[int, int]) -> Box:
    """Count the pixels by which a request continues its picture.

    Args:
        request: for inpainting.
        size: (width, height) of the picture as it is before that.

    Returns:
        How many come to the left, on top, to the right and at the bottom. What is asked for at all is at least one.

    Raises:
        UserError: a side that is continued would become too long.
    """
    width, height = size
    left, right = (_pixels(percent, width) for percent in (request.extend_left, request.extend_right))
    top, bottom = (_pixels(percent, height) for percent in (request.extend_up, request.extend_down))
    for name, side, more in (
        (Message("direction.wide"), width, left + right),
        (Message("direction.high"), height, top + bottom),
    ):
        if more and side + more > LARGEST_SIDE:
            raise UserError("request.extended_too_far", pixels=side + more, direction=name, most=LARGEST_SIDE)
    return left, top, right, bottom


def _pixels(percent: float, side: int) -> int:
    return max(1, round(percent / 100 * side)) if percent else 0
