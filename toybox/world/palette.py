"""The colours of the world, and functions to mix them."""

from __future__ import annotations

PALETTE: dict[str, str] = {
    "red": "#e5383b",
    "orange": "#f8891c",
    "yellow": "#fcd530",
    "green": "#41b34d",
    "blue": "#2f7be6",
    "purple": "#8b46c9",
    "pink": "#fa86ba",
    "white": "#faf8f2",
    "brown": "#94592f",
    "gray": "#8d97a6",
}
FUR_COLORS: tuple[str, ...] = ("brown", "gray", "white", "yellow", "orange", "pink", "blue", "green")
CLOTHES_COLORS: tuple[str, ...] = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
INK = "#33292b"


def mix(color: str, other: str, share: float) -> str:
    """Blend two `#rrggbb` colours; `share` in [0, 1] is the share of `other`."""
    pairs = zip(bytes.fromhex(color[1:]), bytes.fromhex(other[1:]), strict=True)
    return "#" + bytes(round(a + (b - a) * share) for a, b in pairs).hex()


def lighter(color: str, share: float) -> str:
    """Blend with white."""
    return mix(color, "#ffffff", share)


def darker(color: str, share: float) -> str:
    """Blend with a warm near-black, which keeps shades from turning grey."""
    return mix(color, "#2a1420", share)


def gradient(name: str, color: str, *, depth: float = 1.0) -> str:
    """Return the SVG definition `g-<name>`: a soft light from the upper left, over the bounding box of the shape."""
    return (
        f'<radialGradient id="g-{name}" cx=".38" cy=".26" r=".85">'
        f'<stop offset="0" stop-color="{lighter(color, 0.26 * depth)}"/>'
        f'<stop offset=".5" stop-color="{color}"/>'
        f'<stop offset="1" stop-color="{darker(color, 0.24 * depth)}"/></radialGradient>'
    )
