"""Rendering a view as SVG, picture and masks."""

from __future__ import annotations

import io
import re
from typing import Literal

import resvg_py
from PIL import Image

from toybox.world.backdrop import backdrop
from toybox.world.figure import definitions, parts
from toybox.world.scene import Scene, View
from toybox.world.shapes import ellipse
from toybox.world.skeleton import GROUND, placement, skeleton

Layer = Literal["picture", "figure", "head", "shirt"]
_PAINT = re.compile(r'\b(fill|stroke)="(?!none)[^"]*"')
_GLASS = re.compile(r' (fill|stroke)-opacity="[^"]*"')


def _flat(shapes: str, color: str) -> str:
    return _GLASS.sub("", _PAINT.sub(rf'\1="{color}"', shapes))


def _shadow(view: View) -> str:
    ankles = [skeleton(view.scene).joints[name] for name in ("r_ankle", "l_ankle")]
    width = 44 if view.scene.pose == "jumping" else max(56, 30 + abs(ankles[0][0] - ankles[1][0]) / 2)
    center = (ankles[0][0] + ankles[1][0]) / 2
    soft = (
        '<radialGradient id="shadow"><stop offset="0" stop-color="#20142c" stop-opacity=".5"/>'
        '<stop offset=".6" stop-color="#20142c" stop-opacity=".28"/>'
        '<stop offset="1" stop-color="#20142c" stop-opacity="0"/></radialGradient>'
    )
    return soft + ellipse(center, GROUND, width, 12, fill="url(#shadow)")


def svg(view: View, *, layer: Layer = "picture") -> str:
    """Return the view as an SVG document of 256 x 256 units.

    Args:
        view: what to draw.
        layer: "picture", or a mask in white on black: the whole "figure", its visible "head" (with what is
            worn on it) or its visible "shirt".
    """
    scale, x, y = placement(view.scene)
    figure = parts(view.subject, skeleton(view.scene), pose=view.scene.pose)
    if layer == "picture":
        behind, under, shapes = backdrop(view.scene), _shadow(view), "".join(shape for _, shape in figure)
        behind = f"<defs>{definitions(view.subject)}</defs>{behind}"
    else:
        behind, under = '<rect width="256" height="256" fill="#000000"/>', ""
        shapes = "".join(_flat(shape, "#ffffff" if layer in ("figure", name) else "#000000") for name, shape in figure)
    return _document(f'{behind}<g transform="translate({x:.2f} {y:.2f}) scale({scale:.4f})">{under}{shapes}</g>')


def _document(shapes: str) -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="256" height="256" viewBox="0 0 256 256">{shapes}</svg>'


def _rasterise(document: str, size: int) -> Image.Image:
    data = resvg_py.svg_to_bytes(svg_string=document, width=size, height=size, skip_system_fonts=True)
    return Image.open(io.BytesIO(data))


def render(view: View, size: int) -> Image.Image:
    """Return the picture of a view: mode "RGB", `size` x `size` pixels; the same view gives the same pixels."""
    return _rasterise(svg(view), size).convert("RGB")


def render_place(scene: Scene, size: int) -> Image.Image:
    """Return the background of a scene without a figure: mode "RGB", `size` x `size` pixels."""
    return _rasterise(_document(backdrop(scene)), size).convert("RGB")


def render_mask(view: View, size: int, *, part: Literal["figure", "head", "shirt"] = "figure") -> Image.Image:
    """Return the silhouette of the figure or of a part: mode "L", `size` x `size`, 255 = part."""
    return _rasterise(svg(view, layer=part), size).convert("L")
