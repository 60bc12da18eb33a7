"""Holes in held-out drawings, to be filled without a prompt, from their surroundings alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from bench.asks import HOLE, RIM, Case, HoleKind, Measure, Row, with_margin
from ipa_app.engine.requests import GenerateRequest
from toybox import world

NAMES: dict[HoleKind, str] = {
    "beside": "hole beside the figure",
    "part": "hole in the figure",
    "whole": "hole for the figure",
}
_RADII = 22 / 256, 40 / 256
"""Smallest and largest radius, as shares of the drawing's side."""
_LEAST_OF_FIGURE = 0.35
"""Least share of the figure in a hole that counts as being in the figure."""


@dataclass(frozen=True, kw_only=True)
class Hole:
    """A drawing with a hole.

    Attributes:
        picture: the drawing; the hole is white, or shows the figure to be removed.
        mask: the area to redraw: the hole extended by `MARGIN`.
        drawing: the target.
    """

    picture: Image.Image
    mask: Image.Image
    drawing: Image.Image


def make_hole(case: Case, kind: HoleKind, side: int) -> Hole:
    """Make a hole in the drawing of a case's view, the same in every run.

    Args:
        case: its `view` is drawn.
        kind: a round hole beside the figure, one of which at least a third is the figure, or the whole figure, to
            reveal the background.
        side: side of the drawing in pixels.
    """
    drawing, figure = world.render(case.view, side), world.render_mask(case.view, side)
    if kind == "whole":
        hole, picture = figure, drawing
        # The silhouette's soft edge belongs to the figure too.
        drawing = Image.composite(
            world.render_place(case.view.scene, side), drawing, figure.filter(ImageFilter.MaxFilter(3))
        )
    else:
        hole = _disc(case, kind, figure)
        picture = Image.composite(Image.new("RGB", drawing.size, "white"), drawing, hole)
    return Hole(picture=picture, mask=with_margin(hole), drawing=drawing)


def hole_rows(*, side: int) -> Iterator[Row]:
    """Yield every kind of hole, without and with use of its surroundings."""
    for kind in NAMES:
        for surroundings in (False, True):
            yield _row(kind, side, surroundings=surroundings)


def _row(kind: HoleKind, side: int, *, surroundings: bool) -> Row:
    def ask(case: Case) -> GenerateRequest:
        hole = make_hole(case, kind, side)
        return GenerateRequest(
            task="inpaint", image=hole.picture, mask=hole.mask, surroundings=surroundings, seed=case.seed
        )

    measures = tuple(Measure(name=name, kind=name, hole=kind) for name in (*HOLE, *RIM))
    return Row(name=f"{NAMES[kind]}, {'surroundings' if surroundings else 'nothing'}", ask=ask, measures=measures)


def _disc(case: Case, kind: HoleKind, figure: Image.Image) -> Image.Image:
    """Draw a round hole at a place that its kind allows: mode "L", 0 or 255."""
    side, rng = figure.width, random.Random(f"hole {kind} {case.seed}")
    radius, joints = rng.uniform(*_RADII) * side, world.keypoints(case.view)
    while True:
        x, y = rng.choice(joints) if kind == "part" else (rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9))
        x, y = (value * side + rng.uniform(-6, 6) for value in (x, y))
        disc = Image.new("L", figure.size)
        ImageDraw.Draw(disc).ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        hidden = np.asarray(figure)[np.asarray(disc) > 0] > 0
        share = hidden.mean() if hidden.size else 1.0
        if share > _LEAST_OF_FIGURE if kind == "part" else share == 0:
            return disc
