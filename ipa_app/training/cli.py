"""The command line: `python -m ipa_app.training --base DIR --data FILE_OR_FOLDER --output DIR ...`."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import torch
from accelerate import Accelerator
from transformers.utils import logging as transformers_logging

from ipa_app.adapter.ip_adapter import IPAdapter
from ipa_app.adapter.resampler import Resampler
from ipa_app.errors import UserError
from ipa_app.models.units import size_text
from ipa_app.options import options
from ipa_app.training.adapters import new_adapter, read_pretrained
from ipa_app.training.checkpoint import Origin, check_same_run, digest_of_pretrained
from ipa_app.training.components import load_components
from ipa_app.training.config import DataConfig, TrainConfig
from ipa_app.training.console import Console
from ipa_app.training.data import SMALLEST_SPLIT, read_examples
from ipa_app.training.dataset import SHEET_ROWS, Dataset
from ipa_app.training.estimate import estimate
from ipa_app.training.loop import make_accelerator, weight_dtype
from ipa_app.training.preflight import Room, claimed, needed_room
from ipa_app.training.reports import LOG_FILE, FinishedReport
from ipa_app.training.run import TrainingRun, prepare_base
from ipa_app.training.sampling import check_steps
from ipa_app.training.stopping import Stopped, StopSignals

logger = logging.getLogger(__name__)

BY_HEART = 1000
"""A picture seen this often is memorised, and nothing else is learned."""
READABLE_DEPTH = 4
"""Number of layers that diffusers assumes a Resampler to have."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Train an adapter as the arguments say.

    Args:
        arguments: of the command line; by default the process's own.

    Returns:
        The exit code: 0; 2 when something must be put right first; 128 plus the signal's number (130 for Ctrl-C) when
        a signal ended the run.
    """
    values = vars(_parser().parse_args(arguments))
    dry_run = values.pop("dry_run")
    rank = int(os.environ.get("RANK", "0"))
    logging.basicConfig(level=logging.INFO if rank == 0 else logging.ERROR, format="%(message)s")
    transformers_logging.disable_progress_bar()
    try:
        data = DataConfig(**{name: values[name] for name in options(DataConfig)})
        config = TrainConfig(**{name: values[name] for name in options(TrainConfig)})
        if dry_run:
            _estimate(config, data)
            return 0
        return _train(config, data)
    except UserError as error:
        print(f"error: {error}" if rank == 0 else f"error (process {rank}): {error}", file=sys.stderr)
        return 2
    except torch.OutOfMemoryError:
        print(
            "error: The GPU's memory is full. --gradient-checkpointing needs less, and so does half the --batch-size "
            "with twice the --gradient-accumulation-steps: with these, the run continues from what is saved. With "
            "another --output, --mixed-precision bf16 also needs less.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("stopped before anything was started", file=sys.stderr)
        return 130


def _estimate(config: TrainConfig, data: DataConfig) -> None:
    examples = read_examples(data, seed=config.seed)
    accelerator = make_accelerator(config)
    base = load_components(data.base, image_encoder=data.image_encoder, dtype=weight_dtype(config))
    check_steps(config, base)
    prepare_base(base, config, accelerator)
    dataset = Dataset(config, data, base, examples)
    adapter = new_adapter(config, base)
    found = estimate(config, base=base, adapter=adapter, dataset=dataset, accelerator=accelerator)
    room = _room(config, dataset, parameters=found.trained, encoded=found.cache_bytes)
    print(found, f"disk: about {size_text(room.total)} ({room})", sep="\n")
    for warning in _doubts(config, dataset, adapter, processes=accelerator.num_processes):
        print(f"warning: {warning}")


def _train(config: TrainConfig, data: DataConfig) -> int:
    accelerator = make_accelerator(config)
    is_main = accelerator.is_main_process
    stop = StopSignals(tell=is_main)
    with claimed(config.output) if is_main else contextlib.nullcontext():
        run, dataset = _check(config, data, accelerator, stop)
        console = Console(config, total=dataset.pictures)
        with stop, console.open():
            try:
                dataset.encode(accelerator, stop=stop, progress=console.encoding if is_main else None)
            except Stopped:
                console.say("stopped while encoding: what is encoded is kept; the same command continues from there")
                return stop.exit_code
            if skipped := dataset.examples.skipped:
                logger.warning("%s", skipped.summary(dataset.examples.listed))
            heldout = dataset.heldout_batches()
            if dataset.examples.heldout and not heldout:
                logger.warning("None of the held-out pictures can be opened, so nothing is measured.")
            batches = dataset.batches(accelerator, start=run.trainer.step * config.gradient_accumulation_steps)
            console.begin(run.trainer.step)
            finished = False
            for report in run.reports(batches, heldout=heldout, samples=dataset.samples()):
                console.tell(report)
                finished = isinstance(report, FinishedReport)
    return stop.exit_code if stop() and not finished else 0


def _check(
    config: TrainConfig, data: DataConfig, accelerator: Accelerator, stop: StopSignals
) -> tuple[TrainingRun, Dataset]:
    """Check everything that could go wrong later, cheapest checks first."""
    examples = read_examples(data, seed=config.seed)
    origin = Origin(
        data=examples.digest,
        files=examples.looked_into(),
        pictures=examples.listed,
        found=len(examples.train),
        size=data.size,
        heldout=data.split_off if data.heldout_data is None else None,
        examples_per_step=config.examples_per_step * accelerator.num_processes,
        pretrained=digest_of_pretrained(config),
    )
    check_same_run(config, origin)
    if config.pretrained is not None:
        read_pretrained(config.pretrained, config)
    logger.info("reading the base model %s", data.base)
    base = load_components(data.base, image_encoder=data.image_encoder, dtype=weight_dtype(config))
    run = TrainingRun(config, base=base, accelerator=accelerator, origin=origin, stop=stop)
    dataset = Dataset(config, data, base, examples)
    if accelerator.is_main_process:
        room = _room(config, dataset, parameters=run.parameters, encoded=dataset.missing_bytes(), step=run.trainer.step)
        room.check(config.output)
        for line in _outlook(config, dataset, run, room, processes=accelerator.num_processes):
            logger.info("%s", line)
        for warning in _doubts(config, dataset, run.trainer.adapter, processes=accelerator.num_processes):
            logger.warning("warning: %s", warning)
    return run, dataset


def _room(config: TrainConfig, dataset: Dataset, *, parameters: int, encoded: int, step: int = 0) -> Room:
    rows = min(SHEET_ROWS, len(dataset.examples.heldout or dataset.examples.train))
    return needed_room(config, parameters=parameters, encoded=encoded, step=step, rows=rows, side=dataset.sample_side)


def _outlook(config: TrainConfig, dataset: Dataset, run: TrainingRun, room: Room, *, processes: int) -> Iterator[str]:
    """Yield lines on what is going to happen."""
    examples = dataset.examples
    if run.trainer.step == 0 and (config.output / LOG_FILE).is_file():
        yield "starting again from step 0: the earlier run here saved nothing"
    yield f"training on {len(examples.train)} pictures, measuring on {len(examples.heldout)} held out"
    yield f"training {run.description}"
    yield (
        f"{config.max_steps} steps of {config.examples_per_step * processes} examples: "
        f"every picture is seen about {_times_seen(config, dataset, processes):.0f} times"
    )
    if not dataset.is_kept:
        size = size_text(dataset.encoded_bytes)
        yield f"encoded, all pictures would take {size}, more than --cache-gb allows, so each step encodes its own"
    yield f"writing to {config.output.resolve()} (about {size_text(room.total)}: {room})"


def _doubts(config: TrainConfig, dataset: Dataset, adapter: IPAdapter, *, processes: int) -> Iterator[str]:
    """Yield what the user would want to know before waiting for hours."""
    yield from dataset.examples.notes
    if cut := dataset.cut_texts():
        yield (
            f"Texts that are too long for the text encoder, so their ends are not read: {len(cut)}; the first is that "
            f"of {cut[0]}."
        )
    if isinstance(adapter.image_proj, Resampler) and len(adapter.image_proj.layers) != READABLE_DEPTH:
        yield f"Other programs only read fine-grained adapters whose Resampler has {READABLE_DEPTH} layers."
    times = _times_seen(config, dataset, processes)
    if times >= BY_HEART:
        yield (
            f"Every picture is seen about {times:.0f} times: so few are learned by heart, and the adapter may not work "
            "with others at all. More pictures or a smaller --max-steps will help."
        )
    if config.eval_steps and not dataset.examples.heldout:
        yield f"Nothing is held out, so nothing measures whether the picture helps. {_remedy(dataset)}"


def _remedy(dataset: Dataset) -> str:
    """Return how to get pictures held out when there are none."""
    if dataset.data.heldout == 0:
        return "Give a larger --heldout."
    few = len(dataset.examples.train) < SMALLEST_SPLIT
    return f"{f'Give {SMALLEST_SPLIT} pictures or more, or name' if few else 'Name'} some with --heldout-data."


def _times_seen(config: TrainConfig, dataset: Dataset, processes: int) -> float:
    return config.max_steps * config.examples_per_step * processes / len(dataset.examples.train)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ipa_app.training",
        description="Train an IP-Adapter for a frozen Stable Diffusion model. Run it again to resume after a stop.",
    )
    for config in (DataConfig, TrainConfig):
        _add_options(parser.add_argument_group("data" if config is DataConfig else "training"), config)
    parser.add_argument("--dry-run", action="store_true", help="time a few steps and estimate the whole run")
    return parser


def _add_options(group: argparse._ArgumentGroup, config: type[DataConfig] | type[TrainConfig]) -> None:
    for item in options(config).values():
        required = item.default is MISSING
        default = "" if required or item.default is None else f" (default: {item.default})"
        group.add_argument(
            f"--{item.name.replace('_', '-')}",
            required=required,
            default=None if required else item.default,
            help=f"{item.doc}{default}".replace("%", "%%"),
            **_parsing(item.type),
        )


def _parsing(hint: Any) -> dict[str, Any]:
    """Return the argparse settings that parse a value of this type."""
    if hint is bool:
        return {"action": "store_true"}
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    if hint in (Path, Path | None):
        return {"type": Path, "metavar": "PATH"}
    return {"type": int if hint == int | None else hint, "metavar": "N"}
