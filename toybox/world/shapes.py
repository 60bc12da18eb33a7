"""The few SVG shapes that everything is drawn with; lengths are in 256ths of the picture."""

from __future__ import annotations

OUTLINE_WIDTH = 2.6


def _paint(fill: str, line: str | None, width: float, opacity: float = 1.0) -> str:
    stroke = f' stroke="{line}" stroke-width="{width}" stroke-linejoin="round"' if line else ""
    # Not `opacity`: for it the renderer would blend a separate layer.
    glass = f' fill-opacity="{opacity}" stroke-opacity="{opacity}"' if opacity < 1 else ""
    return f'fill="{fill}"{stroke}{glass}'


def ellipse(
    x: float, y: float, rx: float, ry: float, *, fill: str, line: str | None = None, turn: float = 0.0,
    width: float = OUTLINE_WIDTH, opacity: float = 1.0,
) -> str:  # fmt: skip
    """Return a filled ellipse about (x, y), turned by `turn` degrees."""
    place = f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn else ""
    return f'<ellipse cx="{x:.1f}" cy="{y:.1f}" rx="{rx}" ry="{ry}" {_paint(fill, line, width, opacity)}{place}/>'


def path(
    d: str, *, fill: str = "none", line: str | None = None, width: float = OUTLINE_WIDTH, opacity: float = 1.0
) -> str:
    """Return a path with round joins and ends."""
    return f'<path d="{d}" {_paint(fill, line, width, opacity)} stroke-linecap="round"/>'


def rect(
    x: float, y: float, width: float, height: float, *, fill: str, line: str | None = None, round_: float = 0.0
) -> str:
    """Return a rectangle with rounded corners."""
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{round_}" {_paint(fill, line, OUTLINE_WIDTH)}/>'
    )


def mirrored(shape: str) -> str:
    """Return the shape and its mirror image about x = 0."""
    return f'{shape}<g transform="scale(-1 1)">{shape}</g>'


def group(shapes: str, *, at: tuple[float, float], turn: float = 0.0) -> str:
    """Return the shapes moved to a point and turned about it by `turn` degrees."""
    return f'<g transform="translate({at[0]:.2f} {at[1]:.2f}) rotate({turn:.2f})">{shapes}</g>'


STAR = "M0,-15 L4.4,-5.2 15,-4.4 7,2.6 9.4,13 0,7.4 -9.4,13 -7,2.6 -15,-4.4 -4.4,-5.2 Z"
HEART = "M0,13 C-6,7 -15,2 -15,-5.5 C-15,-13.5 -4,-15 0,-7 C4,-15 15,-13.5 15,-5.5 C15,2 6,7 0,13 Z"
