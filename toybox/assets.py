"""Draw the page's example pictures and poses: `python -m toybox.assets` writes assets/examples and assets/poses.

All examples show held-out subjects, which the bundled model has never seen.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image, ImageFilter

from ipa_app.pose.draw import draw_skeleton
from ipa_app.pose.keypoints import Keypoint
from ipa_app.pose.presets import POSES_FOLDER, preset_file
from ipa_app.pose.sheet import PoseSheet
from ipa_app.pose.skeleton import Skeleton
from toybox import world

FOLDER = Path(__file__).resolve().parents[1] / "assets" / "examples"
SIDE = 512
"""Side of examples and skeletons in pixels."""
MASK_MARGIN = 24
"""Pixels by which a mask extends beyond the figure it covers, so that another figure has room."""

CHARACTERS = {
    "mouse": 1,
    "dog": 9,
    "beach-rabbit": 12,
    "pink-rabbit": 31,
    "frog": 33,
}
"""File names of pictures, and the seeds that their subjects and scenes are drawn from."""

MASKED = "dog"
"""The character that the inpainting example replaces."""

EXAMPLES: list[dict[str, Any]] = [
    {"tab": "variation", "file": "mouse.png", "adapter": "fine"},
    {"tab": "variation", "file": "dog.png", "adapter": "fine"},
    {"tab": "variation", "file": "pink-rabbit.png", "adapter": "fine"},
    {"tab": "variation", "file": "frog.png", "adapter": "fine"},
    {"tab": "mix", "file": "mouse.png", "adapter": "fine", "prompt": "a toy jumping in the snow"},
    {"tab": "mix", "file": "beach-rabbit.png", "adapter": "fine", "prompt": "a toy waving at night"},
    {"tab": "mix", "file": "dog.png", "adapter": "base", "prompt": "a toy sitting on the beach"},
    {
        "tab": "inpaint",
        "file": "mouse.png",
        "adapter": "fine",
        "image": f"{MASKED}.png",
        "mask": f"{MASKED}-mask.png",
        "prompt": "a toy in the forest",
    },
    {"tab": "pose", "file": "mouse.png", "adapter": "fine", "pose": "arms up"},
    {"tab": "pose", "file": "frog.png", "adapter": "fine", "pose": "arms out"},
]


def draw_view(seed: int) -> world.View:
    """Return the held-out subject and scene of a seed."""
    return world.sample_view(random.Random(f"example-{seed}"), held_out=True)


def mask_of(view: world.View) -> Image.Image:
    """Return a mask of mode L, white where the figure is and a little beyond."""
    mask = world.render_mask(view, SIDE)
    return mask.filter(ImageFilter.MaxFilter(2 * MASK_MARGIN + 1)).point([0] * 128 + [255] * 128)


def main() -> None:
    """Write all assets."""
    argparse.ArgumentParser(prog="python -m toybox.assets", description=__doc__).parse_args()
    write_examples()
    write_poses()


def write_examples() -> None:
    """Write the pictures and the list of examples."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, seed in CHARACTERS.items():
        world.render(draw_view(seed), SIDE).save(FOLDER / f"{name}.png", optimize=True)
    mask_of(draw_view(CHARACTERS[MASKED])).save(FOLDER / f"{MASKED}-mask.png", optimize=True)
    (FOLDER / "examples.json").write_text(json.dumps(EXAMPLES, indent=1) + "\n", "utf-8")


def write_poses() -> None:
    """Write an OpenPose file and its drawn picture for every pose of the toy world."""
    POSES_FOLDER.mkdir(parents=True, exist_ok=True)
    for name in world.POSES:
        path = preset_file(name)
        path.write_text(json.dumps(_openpose([name]), indent=1) + "\n", "utf-8")
        # Drawn from the written file, so that file and picture agree to the pixel.
        written = PoseSheet.from_json(path.read_text("utf-8"))
        draw_skeleton(written.skeleton, (SIDE, SIDE)).save(path.with_suffix(".png"), optimize=True)


def body_poses() -> dict[str, Any]:
    """Return OpenPose's data of every pose, from which the app measures the proportions of the world's one body."""
    return _openpose(world.POSES)


def _openpose(names: Iterable[str]) -> dict[str, Any]:
    people = [tuple(Keypoint(x, y) for x, y in world.pose_keypoints(name)) for name in names]
    return Skeleton(tuple(people)).to_openpose(SIDE, SIDE)


if __name__ == "__main__":
    main()
