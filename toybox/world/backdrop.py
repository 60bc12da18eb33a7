"""Backgrounds: a soft picture behind the figure, 256 x 256 units, the ground at about y = 200."""

from __future__ import annotations

import random
from collections.abc import Callable

from toybox.world.palette import PALETTE, darker, lighter
from toybox.world.scene import Scene
from toybox.world.shapes import ellipse, path, rect


def _fade(name: str, top: str, bottom: str) -> str:
    return (
        f'<linearGradient id="{name}" x1="0" y1="0" x2="0" y2="1">'
        f'<stop offset="0" stop-color="{top}"/><stop offset="1" stop-color="{bottom}"/></linearGradient>'
    )


def _sky(top: str, bottom: str) -> str:
    return _fade("sky", top, bottom) + rect(0, 0, 256, 256, fill="url(#sky)")


def _ground(d: str, top: str, bottom: str, *, name: str = "ground") -> str:
    return _fade(name, top, bottom) + path(d, fill=f"url(#{name})")


def _cloud(x: float, y: float, *, color: str = "#ffffff") -> str:
    puffs = ((0, 0, 20, 11), (-15, 4, 13, 8), (15, 4, 14, 8))
    return "".join(ellipse(x + dx, y + dy, rx, ry, fill=color, opacity=0.9) for dx, dy, rx, ry in puffs)


def _clouds(rng: random.Random) -> str:
    return _cloud(rng.uniform(10, 60), rng.uniform(24, 60)) + _cloud(rng.uniform(196, 246), rng.uniform(20, 70))


def _wall(scene: Scene, _rng: random.Random) -> str:
    color = PALETTE[scene.background_color]
    tint = lighter(color, 0.5) if scene.background_color != "white" else "#f1ede4"
    floor = darker(tint, 0.16)
    return _sky(lighter(tint, 0.12), tint) + _ground("M0,208 H256 V256 H0 Z", floor, lighter(floor, 0.14))


def _meadow(_scene: Scene, rng: random.Random) -> str:
    flowers = "".join(
        ellipse(x, y, 3.4, 3.4, fill=rng.choice(("#ffffff", "#ffe066", "#ff8fab")))
        + ellipse(x, y, 1.2, 1.2, fill="#f59f00")
        for x, y in ((rng.uniform(6, 250), rng.uniform(200, 248)) for _ in range(9))
    )
    return (
        _sky("#7cc8f8", "#dff3fd") + ellipse(rng.choice((34, 222)), 36, 17, 17, fill="#ffe36e") + _clouds(rng)
        + path("M0,184 C50,140 110,160 150,178 C190,150 230,150 256,168 V256 H0 Z", fill="#9bd77c")
        + _ground("M0,196 C70,180 180,184 256,194 V256 H0 Z", "#7fca5c", "#56ab44") + flowers
    )  # fmt: skip


def _beach(_scene: Scene, rng: random.Random) -> str:
    side = rng.choice((0, 1))
    sun = 30 if side else 226
    palm_x = 232 if side else 24
    lean = -14 if side else 14
    trunk = path(f"M{palm_x},206 Q{palm_x},150 {palm_x + lean},104", line="#a8743f", width=9)
    leaves = "".join(
        path(f"M{palm_x + lean},104 q{dx * 0.5},{dy - 16} {dx},{dy}", line="#3f9d4b", width=8)
        for dx, dy in ((-34, 16), (34, 16), (-26, -8), (26, -8), (-12, 28), (12, 28))
    )
    return (
        _sky("#66c6f2", "#e6f7fb") + ellipse(sun, 38, 19, 19, fill="#ffd84d")
        + _ground("M0,140 H256 V206 H0 Z", "#2a9fd0", "#7fdbe0", name="sea")
        + path("M0,192 C40,184 80,200 128,192 C176,184 216,200 256,190 V256 H0 Z", fill="#ffffff", opacity=0.85)
        + _ground("M0,198 C40,190 80,206 128,198 C176,190 216,206 256,196 V256 H0 Z", "#f9e3a5", "#eac77c")
        + trunk + leaves
    )  # fmt: skip


def _triangle(x: float, base: float, half: float, top: float, color: str) -> str:
    return path(f"M{x - half:.1f},{base:.1f} L{x:.1f},{top:.1f} L{x + half:.1f},{base:.1f} Z", fill=color)


def _fir(x: float, y: float, size: float, color: str, *, snow: bool = False) -> str:
    tiers = "".join(
        _triangle(x, y - size * base, size * half, y - size * top, color)
        for half, base, top in ((0.5, 0.2, 1.1), (0.4, 0.65, 1.45), (0.3, 1.05, 1.75))
    )
    cap = _triangle(x, y - size * 1.35, size * 0.19, y - size * 1.75, "#ffffff") if snow else ""
    trunk = path(f"M{x:.1f},{y - size * 0.22:.1f} V{y:.1f}", line="#7a5230", width=size * 0.15)
    return trunk + tiers + cap


def _snow(_scene: Scene, rng: random.Random) -> str:
    flakes = "".join(ellipse(rng.uniform(0, 256), rng.uniform(0, 190), 2.6, 2.6, fill="#ffffff") for _ in range(16))
    return (
        _sky("#9cc3e6", "#e3eef8")
        + path("M0,190 C60,150 110,176 160,184 C200,160 236,164 256,176 V256 H0 Z", fill="#cfe0f0")
        + _fir(rng.uniform(14, 40), 204, 56, "#4f8a73", snow=True)
        + _fir(rng.uniform(216, 244), 202, 50, "#5b967d", snow=True)
        + _ground("M0,200 C70,188 180,190 256,200 V256 H0 Z", "#ffffff", "#dbe7f3") + flakes
    )  # fmt: skip


def _night(_scene: Scene, rng: random.Random) -> str:
    stars = "".join(
        ellipse(rng.uniform(4, 252), rng.uniform(4, 160), r, r, fill="#fff6c9") for r in (1.6, 1.8, 2.2, 2.4, 3) * 4
    )
    x = rng.choice((38, 218))
    moon = path(f"M{x},20 A21,21 0 1 0 {x + 20},48 A17,17 0 1 1 {x},20 Z", fill="#fdf3c4")
    return (
        _sky("#141c4d", "#3d4e9c") + stars + moon
        + path("M0,186 C60,158 120,176 170,182 C210,164 240,168 256,176 V256 H0 Z", fill="#2c3a78")
        + _ground("M0,202 C70,190 180,192 256,202 V256 H0 Z", "#3f5c72", "#2b4258")
    )  # fmt: skip


def _house(x: float, width: float, top: float, color: str) -> str:
    windows = "".join(
        rect(x + dx, top + dy, 9, 11, fill="#fff3b8")
        for dx in range(7, int(width) - 12, 17) for dy in range(10, int(190 - top), 22)
    )  # fmt: skip
    return rect(x, top, width, 206 - top, fill=color) + windows


def _city(_scene: Scene, rng: random.Random) -> str:
    colors = ["#e58f7a", "#7aa3d4", "#d9b36c", "#9d8bc4", "#7fb89c"]
    rng.shuffle(colors)
    slots = ((-6, 54), (50, 44), (96, 52), (150, 46), (198, 62))
    houses = "".join(_house(x, w, rng.choice((52, 70, 88, 106)), c) for (x, w), c in zip(slots, colors, strict=True))
    dashes = path("M-10,246 H266", line="#f5f0dc", width=4).replace("/>", ' stroke-dasharray="22 18"/>')
    return (
        _sky("#a8d5f0", "#f3f4e4") + houses + rect(0, 200, 256, 14, fill="#cfc9c2")
        + _ground("M0,212 H256 V256 H0 Z", "#868a96", "#6c707d") + dashes
    )  # fmt: skip


def _room(_scene: Scene, rng: random.Random) -> str:
    left = rng.random() < 0.5
    window_x, frame_x = (12, 200) if left else (188, 18)
    window = rect(window_x, 40, 56, 66, fill="#a9ddf8", line="#ffffff", round_=3).replace(
        'stroke-width="2.6"', 'stroke-width="7"'
    ) + path(f"M{window_x + 28},42 V104 M{window_x + 2},73 H{window_x + 54}", line="#ffffff", width=4)
    picture = rect(frame_x, 50, 38, 34, fill="#fff8e8", line="#8a5a33", round_=2) + path(
        f"M{frame_x + 4},80 L{frame_x + 15},62 L{frame_x + 24},74 L{frame_x + 29},68 L{frame_x + 35},80 Z",
        fill="#79b473",
    )
    boards = path(
        "M30,206 L0,240 M88,206 L64,256 M168,206 L192,256 M226,206 L256,240", line="#a8713f", width=2, opacity=0.6
    )
    return (
        _sky("#f8e3c8", "#f2d3ae") + window + picture + _ground("M0,204 H256 V256 H0 Z", "#c99560", "#b57f4c") + boards
        + rect(0, 198, 256, 7, fill="#fff6ea") + ellipse(128, 236, 104, 17, fill="#d96c6c", opacity=0.75)
    )  # fmt: skip


def _cactus(x: float, y: float) -> str:
    return (
        path(f"M{x},{y} V{y - 62}", line="#4c9a5b", width=15)
        + path(f"M{x},{y - 24} H{x - 18} V{y - 42}", line="#4c9a5b", width=10)
        + path(f"M{x},{y - 16} H{x + 18} V{y - 34}", line="#4c9a5b", width=10)
        + path(f"M{x - 3},{y - 4} V{y - 60}", line="#73b87c", width=2.4)
    )


def _desert(_scene: Scene, rng: random.Random) -> str:
    near, far = rng.choice(((30, 226), (226, 30)))
    return (
        _sky("#fbb26a", "#fde9c4") + ellipse(far, 50, 21, 21, fill="#fff2b0")
        + path("M0,180 C50,150 100,160 140,182 C180,156 226,152 256,170 V256 H0 Z", fill="#e9a968")
        + _ground("M0,198 C70,184 170,190 256,198 V256 H0 Z", "#efc181", "#dba35e") + _cactus(near, 212)
    )  # fmt: skip


def _tree(x: float, y: float, color: str) -> str:
    crown = ((0, -88, 34, 34), (-20, -70, 24, 24), (20, -70, 24, 24))
    return rect(x - 6, y - 60, 12, 60, fill="#80552f", round_=3) + "".join(
        ellipse(x + dx, y + dy, rx, ry, fill=color) for dx, dy, rx, ry in crown
    )


def _forest(_scene: Scene, rng: random.Random) -> str:
    back = "".join(_fir(x + rng.uniform(-6, 6), 196, 74, "#5f9f78") for x in (20, 70, 128, 186, 236))
    front = _tree(rng.uniform(8, 26), 214, "#3c8a4c") + _tree(rng.uniform(230, 248), 214, "#44965a")
    return (
        _sky("#bfe3d0", "#e8f4da")
        + back
        + _ground("M0,194 C70,186 180,186 256,194 V256 H0 Z", "#6fae55", "#4c8a41")
        + front
    )


_PLACES: dict[str, Callable[[Scene, random.Random], str]] = {
    "wall": _wall, "meadow": _meadow, "beach": _beach, "snow": _snow, "night": _night,
    "city": _city, "room": _room, "desert": _desert, "forest": _forest,
}  # fmt: skip


def backdrop(scene: Scene) -> str:
    """Return the scene's background; `scene.seed` fixes its small details."""
    # A separate random stream from the joints', so that a change to one does not change the other.
    return _PLACES[scene.background](scene, random.Random(scene.seed ^ 0x5EED))
