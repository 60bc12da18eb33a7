"""Train the bundled model: `python -m toybox --work DIR [stage ...]`.

The long stages can share the work: `torchrun --nproc-per-node 2 -m toybox --work DIR vision controlnet`.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path

from ipa_app.errors import UserError
from toybox.recipe.settings import RECIPES
from toybox.recipe.stages import STAGES, run, start_from
from toybox.recipe.training import recipe_accelerator


def arguments_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(prog="python -m toybox", description=__doc__)
    parser.add_argument(
        "stages",
        nargs="*",
        metavar="stage",
        help=f"one or more of {', '.join(STAGES)}; by default all unfinished ones that the bundle needs",
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for data, checkpoints, samples and results")
    parser.add_argument(
        "--recipe",
        choices=RECIPES,
        default="full",
        help="tiny: everything on very little data, in minutes, to try it out",
    )
    parser.add_argument("--budget", type=float, default=1.0, help="multiply the samples that every stage sees by this")
    parser.add_argument(
        "--minutes", type=float, help="stop each stage after this long, even unfinished; the same command continues"
    )
    parser.add_argument("--subjects", type=int, help="number of subjects to draw for training, instead of the recipe's")
    parser.add_argument(
        "--other-view-share",
        type=float,
        help="share of adapter training pairs with another view as reference, instead of the recipe's",
    )
    parser.add_argument("--start-from", type=Path, metavar="BUNDLE", help="start from a bundle, such as assets/toybox")
    return parser


def main() -> None:
    """Run the named stages, or all that are not done yet."""
    parser = arguments_parser()
    arguments = parser.parse_args()
    unknown = set(arguments.stages) - set(STAGES)
    if unknown:
        parser.error(f"no stage is called {', '.join(sorted(unknown))}; the stages are {', '.join(STAGES)}")
    if arguments.budget <= 0:
        parser.error("--budget must be more than 0")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    recipe = RECIPES[arguments.recipe].limited(budget=arguments.budget, minutes=arguments.minutes)
    changes = {"subjects": arguments.subjects, "other_view_share": arguments.other_view_share}
    recipe = dataclasses.replace(recipe, **{name: value for name, value in changes.items() if value is not None})
    shared = [name for name, stage in STAGES.items() if stage.can_be_shared]
    try:
        if recipe_accelerator().num_processes > 1 and not (arguments.stages and set(arguments.stages) <= set(shared)):
            parser.error(f"several processes can train only {', '.join(shared)}; please name one of these")
        if arguments.start_from:
            start_from(arguments.start_from, arguments.work, recipe)
        run(recipe, arguments.work, arguments.stages)
    except UserError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
