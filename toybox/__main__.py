"""Make the bundled model: ``python -m toybox --work DIR [--recipe cpu128] [stage ...]``.

The long stages can share the work: ``torchrun --nproc-per-node 2 -m toybox --work DIR vision controlnet``.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from accelerate import PartialState

from ipa_app.errors import UserError
from toybox.recipe import processes
from toybox.recipe.adapters import train_base_adapter, train_fine_adapter, train_plain_adapter
from toybox.recipe.baseline import train_baseline
from toybox.recipe.bundle import write_bundle
from toybox.recipe.clip import forget_token_ids, train_clip
from toybox.recipe.controlnet import train_controlnet
from toybox.recipe.dataset import ToyData, load_or_draw
from toybox.recipe.enlarge import enlarge
from toybox.recipe.judge import train_judge
from toybox.recipe.pose_reader import train_pose_reader
from toybox.recipe.quiet_words import train_quiet_words
from toybox.recipe.settings import RECIPES, Enlargement, Recipe, StageSettings
from toybox.recipe.start import start_from
from toybox.recipe.student import train_student
from toybox.recipe.text_teacher import train_base_teacher, train_fine_teacher
from toybox.recipe.tiny_vae import train_tiny_vae
from toybox.recipe.tokenizer import train_tokenizer
from toybox.recipe.trajectories import draw_trajectories
from toybox.recipe.unet import train_unet
from toybox.recipe.vae import refine_decoder, train_vae
from toybox.recipe.vision import train_vision
from toybox.recipe.widen import widen

Stage = Callable[[Recipe, ToyData, ToyData, Path], None]
Settings = TypeVar("Settings", Recipe, Enlargement, StageSettings)


def _tokenizer(recipe: Recipe, data: ToyData, _heldout: ToyData, folder: Path) -> None:
    captions = (text for texts in data.captions for text in texts)
    train_tokenizer(captions, folder, text_tokens=recipe.text_tokens)
    forget_token_ids(folder)


STAGES: dict[str, Stage] = {
    "tokenizer": _tokenizer,
    "vae": train_vae,
    "clip": train_clip,
    "vision": train_vision,
    "widen": widen,
    "quiet_words": train_quiet_words,
    "unet": train_unet,
    "base_teacher": train_base_teacher,
    "fine_teacher": train_fine_teacher,
    "base_adapter": train_base_adapter,
    "fine_adapter": train_fine_adapter,
    "controlnet": train_controlnet,
    "decoder": refine_decoder,
    "enlarge": enlarge,
    "pose_reader": train_pose_reader,
    "trajectories": draw_trajectories,
    "tiny_vae": train_tiny_vae,
    "student": train_student,
    "bundle": write_bundle,
}
"""In the order in which they need one another."""
FOR_BENCH: dict[str, Stage] = {
    "judge": train_judge,
    "baseline": train_baseline,
    "plain_adapter": train_plain_adapter,
}
"""What counts, and what the bundle's adapter is compared with by ``python -m bench.baseline``; no part of the bundle,
and trained only where it is named."""
SHARED_STAGES = ("vae", "vision", "widen", "unet", "controlnet")
"""Stages that several processes can train together."""


def main() -> None:
    """Run the stages that are not done yet, or those named."""
    parser = argparse.ArgumentParser(prog="python -m toybox", description=__doc__)
    parser.add_argument(
        "stages",
        nargs="*",
        metavar="stage",
        help=f"of {', '.join(STAGES)}; all unfinished by default. For the bench: {', '.join(FOR_BENCH)}",
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for data, checkpoints, sheets and results")
    parser.add_argument("--recipe", choices=RECIPES, default="cpu128")
    parser.add_argument(
        "--minutes", type=float, help="stop each stage after so many, unfinished; the same command goes on"
    )
    parser.add_argument("--samples", type=int, help="samples that each trained stage sees, in place of the recipe's")
    parser.add_argument("--subjects", type=int, help="subjects drawn to train on, in place of the recipe's")
    parser.add_argument("--other-view-share", type=float, help="of the adapters' pairs, in place of the recipe's")
    parser.add_argument("--start-from", type=Path, metavar="BUNDLE", help="go on from a bundle, such as assets/toybox")
    arguments = parser.parse_args()
    every = {**STAGES, **FOR_BENCH}
    unknown = set(arguments.stages) - set(every)
    if unknown:
        parser.error(f"no stage is called {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    if processes.join().num_processes > 1 and not (arguments.stages and set(arguments.stages) <= set(SHARED_STAGES)):
        parser.error(f"several processes can train only {', '.join(SHARED_STAGES)}; please name the stage")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    limits = {"minutes": arguments.minutes, "samples": arguments.samples}
    recipe = _limited(RECIPES[arguments.recipe], **{name: limit for name, limit in limits.items() if limit})
    changes = {"subjects": arguments.subjects, "other_view_share": arguments.other_view_share}
    recipe = dataclasses.replace(recipe, **{name: value for name, value in changes.items() if value is not None})
    try:
        if arguments.start_from:
            start_from(arguments.start_from, arguments.work, recipe)
        run(recipe, arguments.work, arguments.stages)
    except UserError as error:
        parser.exit(1, f"{error}\n")


def run(recipe: Recipe, folder: Path, stages: list[str]) -> None:
    """Run ``stages`` in order, or all that are unfinished but `FOR_BENCH`; each leaves ``done/<stage>``.

    Raises:
        UnfinishedError: a stage came to its limit of minutes; it has not left its mark, and goes on in the next run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "done").mkdir(exist_ok=True)
    data = load_or_draw(recipe, folder / "data", "train")
    heldout = load_or_draw(recipe, folder / "data", "heldout")
    for name, stage in {**STAGES, **FOR_BENCH}.items():
        marker = folder / "done" / name
        if name in stages or (not stages and name in STAGES and not marker.exists()):
            stage(recipe, data, heldout, folder)
            PartialState().wait_for_everyone()
            marker.touch()


def _limited(settings: Settings, **limits: float) -> Settings:
    """The same with other ``minutes`` or ``samples`` in every stage that trains."""
    if isinstance(settings, StageSettings):
        return dataclasses.replace(settings, **limits)
    parts = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    limited = {
        name: _limited(part, **limits) for name, part in parts.items() if isinstance(part, StageSettings | Enlargement)
    }
    return dataclasses.replace(settings, **limited)


if __name__ == "__main__":
    main()
