"""Draw the example pictures of the page: ``python -m ipa_app.toybox.make_examples`` writes assets/examples.

All of them show held-out subjects: characters that the bundled model has never seen.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from PIL import Image, ImageFilter

from ipa_app.toybox import world

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "examples"
SIDE = 512
MASK_MARGIN = 24
"""How far a mask reaches beyond the figure it covers, in pixels, so that another one has room."""

CHARACTERS = {f"toy-{number}": number for number in range(1, 13)}
"""File name of a picture to the seed its subject and scene are drawn from."""


def draw_view(seed: int) -> world.View:
    """The held-out subject and its scene that belong to a seed."""
    return world.sample_view(random.Random(f"example-{seed}"), held_out=True)


def mask_of(view: world.View) -> Image.Image:
    """White where the figure is, and a little beyond; mode L."""
    mask = world.render_mask(view, SIDE)
    return mask.filter(ImageFilter.MaxFilter(2 * MASK_MARGIN + 1)).point(lambda value: 255 if value > 127 else 0)


def main() -> None:
    """Write the pictures and the list of examples."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, seed in CHARACTERS.items():
        world.render(draw_view(seed), SIDE).save(FOLDER / f"{name}.png", optimize=True)
    (FOLDER / "examples.json").write_text(json.dumps(EXAMPLES, indent=1) + "\n", "utf-8")


EXAMPLES: list[dict[str, Any]] = []

if __name__ == "__main__":
    main()
