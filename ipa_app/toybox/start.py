"""Going on from a bundle: its finished parts are taken over, the others train on from where they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from accelerate import PartialState

from ipa_app.errors import UserError
from ipa_app.toybox.settings import Recipe

FINISHED = {
    "tokenizer": ("tokenizer",),
    "vae": ("vae",),
    "clip": ("text_encoder", "feature_extractor"),
    "vision": ("image_encoder",),
    "quiet_words": ("text_encoder",),
    "unet": ("unet", "scheduler"),
    "pose_reader": ("pose_reader",),
}
"""Stages that count as done, and what they leave."""
ADDED = {"tiny_vae": ("vae_tiny",)}
"""Stages that count as done likewise, where the bundle has what they leave: the first bundles have not."""
CONTINUED = ("controlnet", "adapters")
"""Parts that their own stages start from."""


def start_from(bundle: Path, folder: Path, recipe: Recipe) -> None:
    """Lay out a work folder so that the recipe goes on from a bundle; one that is begun already is left alone.

    A stage of `FINISHED` runs only where it is named, and then trains its part on. UNet and text tower learn on in the
    stage `controlnet` anyway.

    Args:
        bundle: a folder that the recipe wrote, such as assets/toybox.
        folder: the work folder.
        recipe: trains on pictures of the size that the bundle draws.

    Raises:
        UserError: the bundle lacks a part, or draws pictures of another size.
    """
    wanted = [part for parts in FINISHED.values() for part in parts] + list(CONTINUED)
    missing = [part for part in wanted if not (bundle / part).is_dir()]
    if missing:
        raise UserError.plain(f"{bundle} is no bundle of the recipe: it has no {', '.join(missing)}.")
    side = json.loads((bundle / "vae" / "config.json").read_text("utf-8"))["sample_size"]
    if side != recipe.size:
        raise UserError.plain(
            f"{bundle} draws pictures of {side} pixels, and the recipe {recipe.name} learns on such of {recipe.size}: "
            "please name a recipe of the bundle's size."
        )
    with PartialState().main_process_first():  # of several that train together, the others find it laid out
        _lay_out(bundle, folder)


def _lay_out(bundle: Path, folder: Path) -> None:
    (folder / "done").mkdir(parents=True, exist_ok=True)
    added = {stage: parts for stage, parts in ADDED.items() if all((bundle / part).is_dir() for part in parts)}
    for stage, parts in {**FINISHED, **added}.items():
        if not (folder / "done" / stage).exists():
            for part in parts:
                shutil.copytree(bundle / part, folder / part, dirs_exist_ok=True)
            (folder / "done" / stage).touch()
    for part in CONTINUED:
        if not start_of(folder, part).exists():
            shutil.copytree(bundle / part, start_of(folder, part))


def start_of(folder: Path, part: str) -> Path:
    """Where a part lies that training starts from; there only when the recipe goes on from a bundle."""
    return folder / "start" / part


def part_of(folder: Path, part: str) -> Path:
    """Where a finished part lies: what the recipe has made of it, or what it starts from where it has made nothing."""
    made = folder / part
    return made if made.exists() else start_of(folder, part)
