"""The command line: ``python -m ipa_app.training --base DIR --data FILE --output DIR …``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ipa_app.errors import UserError
from ipa_app.training.checkpoint import resume_step
from ipa_app.training.components import load_components
from ipa_app.training.config import DataConfig, TrainConfig, options
from ipa_app.training.dataset import open_dataset
from ipa_app.training.estimate import estimate
from ipa_app.training.loop import make_accelerator, weight_dtype
from ipa_app.training.run import prepare_base, train


def main(arguments: Sequence[str] | None = None) -> int:
    """Train an adapter as the arguments say.

    Args:
        arguments: of the command line; the process's own by default.

    Returns:
        The exit code: 0, or 2 when something must be put right first.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    values = vars(_parser().parse_args(arguments))
    dry_run = values.pop("dry_run")
    try:
        data = DataConfig(**{item.name: values[item.name] for item in options(DataConfig)})
        config = TrainConfig(**{item.name: values[item.name] for item in options(TrainConfig)})
        _run(config, data, dry_run=dry_run)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(config: TrainConfig, data: DataConfig, *, dry_run: bool) -> None:
    accelerator = make_accelerator(config)
    base = load_components(data.base, image_encoder=data.image_encoder, dtype=weight_dtype(config))
    prepare_base(base, config, accelerator)
    dataset = open_dataset(config, data, base)
    if dry_run:
        print(estimate(config, base=base, dataset=dataset, accelerator=accelerator))
        return
    done = resume_step(config.output) * config.gradient_accumulation_steps
    reports = train(
        config,
        base=base,
        batches=dataset.batches(accelerator, start=done),
        heldout=dataset.heldout_batches(),
        samples=dataset.samples(),
        accelerator=accelerator,
    )
    for report in reports:
        print(report, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ipa_app.training",
        description="Train an IP-Adapter for a frozen Stable Diffusion model. Run again to go on after a stop.",
    )
    for config in (DataConfig, TrainConfig):
        _add_options(parser.add_argument_group("data" if config is DataConfig else "training"), config)
    parser.add_argument("--dry-run", action="store_true", help="print what the run would cost, from a few timed steps")
    return parser


def _add_options(group: argparse._ArgumentGroup, config: type[DataConfig] | type[TrainConfig]) -> None:
    hints = get_type_hints(config)
    for item in options(config):
        required = item.default is MISSING
        default = "" if required or item.default is None else f" (default: {item.default})"
        group.add_argument(
            f"--{item.name.replace('_', '-')}",
            required=required,
            default=None if required else item.default,
            help=f"{item.metadata['help']}{default}".replace("%", "%%"),
            **_parsing(hints[item.name]),
        )


def _parsing(hint: Any) -> dict[str, Any]:
    """How argparse reads a value of this type."""
    if hint is bool:
        return {"action": "store_true"}
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    if hint in (Path, Path | None):
        return {"type": Path, "metavar": "PATH"}
    return {"type": hint, "metavar": "N"}
