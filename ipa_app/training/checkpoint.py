"""Checkpoints from which a run resumes exactly as if it had never stopped."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ipa_app.adapter.files import write_tensors
from ipa_app.errors import UserError
from ipa_app.training.config import TrainConfig, settings
from ipa_app.training.copies import content_digest

logger = logging.getLogger(__name__)

FREE_TO_CHANGE = frozenset(
    {"output", "max_steps", "max_minutes", "log_steps", "save_steps", "save_minutes", "keep_checkpoints"}
    | {"eval_steps", "sample_steps", "num_inference_steps", "guidance_scale", "save_precision", "pretrained"}
    | {"gradient_checkpointing", "batch_size", "gradient_accumulation_steps"}
)
"""Settings that do not affect what is learned, and so may change when a run is resumed. How the examples of a step are
split into batches does not affect it either, as long as their number stays the same."""
MOST_CHANGED = 0.5
"""Share of the inspected pictures that may have changed when a run is resumed; with more, it counts as other data."""
ADAPTER_FILE = "adapter.safetensors"
OPTIMIZER_FILE = "optimizer.pt"
STATE_FILE = "state.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state that a run carries from one step to the next.

    Noise, drops and the order of the data follow from the seed and the step number, so the step stands for the
    state of every random generator.

    Attributes:
        step: steps done.
        seconds: training time so far.
        adapter: the adapter's state dict, float32.
        optimization: see `Optimization.state`.
    """

    step: int
    seconds: float
    adapter: dict[str, Tensor]
    optimization: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a run learns from, besides its settings. None means unknown and is not compared.

    Attributes:
        base: see `Components.fingerprint`.
        preparation: see `Components.preparation`.
        configuration: see `Components.configuration`.
        data: see `Examples.digest`.
        files: see `Examples.looked_into`.
        pictures: number of pictures the data lists.
        found: number of training examples whose files exist; a change affects their order, and nothing else.
        size: side of the targets in pixels, as configured; 0 is the base model's own.
        heldout: number of examples to hold out.
        examples_per_step: over all processes.
        pretrained: see `digest_of_pretrained`.
    """

    base: str | None = None
    preparation: str | None = None
    configuration: str | None = None
    data: str | None = None
    files: Mapping[str, str] | None = None
    pictures: int | None = None
    found: int | None = None
    size: int | None = None
    heldout: int | None = None
    examples_per_step: int | None = None
    pretrained: str | None = None


def digest_of_pretrained(config: TrainConfig) -> str | None:
    """Return a content digest of the adapter file that a run starts from; None if there is none."""
    return None if config.pretrained is None else content_digest([config.pretrained])


def resume_step(output: Path) -> int:
    """Return the number of steps done by the latest whole checkpoint in an output folder; 0 if there is none.

    The loop must be fed from the next batch on: number `resume_step * gradient_accumulation_steps`.
    """
    folder = latest_checkpoint(output)
    return 0 if folder is None else int(folder.name.removeprefix("checkpoint-"))


def latest_checkpoint(output: Path) -> Path | None:
    """Return the folder of the latest whole checkpoint; None if there is none."""
    return next((folder for folder in reversed(_checkpoints(output)) if _is_whole(folder)), None)


def way_on(config: TrainConfig) -> str:
    """Return a phrase on how to train a finished run further."""
    folder = latest_checkpoint(config.output)
    if config.lr_schedule == "cosine" and folder is not None:  # the schedule has ended
        return f"another --output with --pretrained {folder / ADAPTER_FILE}"
    return "a larger --max-steps"


def save_checkpoint(checkpoint: Checkpoint, config: TrainConfig, origin: Origin) -> Path:
    """Write a checkpoint atomically: a kill at any moment leaves the old one or the new one, never half of either.

    Args:
        checkpoint: the state; not written again if it is on disk already.
        config: of the run.
        origin: of the run.

    Returns:
        The checkpoint's folder, `output/checkpoint-<step>`.

    Raises:
        OSError, SafetensorError, RuntimeError: it cannot be written; existing checkpoints stay.
    """
    folder = config.output / f"checkpoint-{checkpoint.step:08d}"
    if _is_whole(folder):
        return folder
    unfinished = config.output / f"unfinished-{folder.name}"
    for leftover in [*config.output.glob("unfinished-checkpoint-*"), folder]:
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        _write(checkpoint, config, origin, unfinished)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)  # free the space again if the disk is full
        raise
    remove_old_checkpoints(config.output, keep=config.keep_checkpoints)
    return folder


def remove_old_checkpoints(output: Path, *, keep: int) -> bool:
    """Delete all checkpoints but the latest whole ones; return whether any were deleted.

    Args:
        output: their folder.
        keep: how many to keep, at least 1.
    """
    found = _checkpoints(output)
    old = set(found) - set([folder for folder in found if _is_whole(folder)][-keep:])
    for folder in old:
        (folder / STATE_FILE).unlink(missing_ok=True)  # first, so that a half-deleted one does not count as whole
        shutil.rmtree(folder, ignore_errors=True)
    return bool(old)


def load_checkpoint(config: TrainConfig, origin: Origin) -> Checkpoint | None:
    """Load the latest whole checkpoint of the output folder; return None if there is none.

    Raises:
        UserError: it belongs to a run with other settings, on another base model or other data.
    """
    check_same_run(config, origin)
    folder = latest_checkpoint(config.output)
    if folder is None:
        return None
    for broken in _checkpoints(config.output):
        if broken.name > folder.name:
            logger.warning("%s is damaged and is ignored.", broken)
    state = _state(folder)
    for doubt in _doubts(Origin(**state.get("origin", {})), origin):
        logger.warning("%s", doubt)
    return Checkpoint(
        step=state["step"],
        seconds=state["seconds"],
        adapter=load_file(folder / ADAPTER_FILE),
        optimization=torch.load(folder / OPTIMIZER_FILE, map_location="cpu", weights_only=True),
    )


def _doubts(before: Origin, now: Origin) -> Iterator[str]:
    """Yield what the user should know about a run that is resumed with slightly different data."""
    if None not in (before.found, now.found) and before.found != now.found:
        yield f"The run had {before.found} examples so far and continues with {now.found}, in a different order."
    if other := _other_files(before, now):
        yield f"Pictures have changed since the run began: {len(other)} of those checked; the first is {other[0]}."
    unknown = {
        "files": "the pictures",
        "preparation": "the model's settings for pictures and texts",
        "configuration": "the other settings of the model's parts",
    }
    for name, what in unknown.items():
        if getattr(before, name) is None and getattr(now, name) is not None:
            yield f"The run does not say what {what} were when it began, so they may have changed."


def _other_files(before: Origin, now: Origin) -> list[str]:
    """Return the examples that were inspected both times and have changed."""
    then = before.files or {}
    return [name for name, digest in (now.files or {}).items() if then.get(name, digest) != digest]


def check_same_run(config: TrainConfig, origin: Origin) -> None:
    """Check that the run in the output folder, if any, is the one to resume.

    Raises:
        UserError: it is not; the message names the first difference.
    """
    folder = latest_checkpoint(config.output)
    if folder is None:
        return
    state = _state(folder)
    before = Origin(**state.get("origin", {}))
    _check_settings(state["config"], config)
    _check_pretrained(state["config"], config, before=before, now=origin)
    _check_examples_per_step(state["config"], config, before=before, now=origin)
    _check_origin(before, origin, folder=folder)


def _check_examples_per_step(old: dict[str, Any], config: TrainConfig, *, before: Origin, now: Origin) -> None:
    then, given = before.examples_per_step, now.examples_per_step
    if then is None or given is None:  # how many processes took part is not known
        then, given = old["batch_size"] * old["gradient_accumulation_steps"], config.examples_per_step
    if then != given:
        raise UserError.plain(
            f"{config.output} holds a run with {then} examples per step, not {given}; choose --batch-size, "
            f"--gradient-accumulation-steps and the number of processes so that their product is {then}, or name "
            "another output folder."
        )


def _check_settings(old: dict[str, Any], config: TrainConfig) -> None:
    # A run older than a setting used that setting's default.
    old = {item.name: item.default for item in fields(config) if item.default is not MISSING} | old
    new = settings(config)
    fixed = new.keys() - FREE_TO_CHANGE
    if config.lr_schedule == "cosine":
        fixed |= {"max_steps"}
    for name in sorted(fixed):
        if old[name] != new[name]:
            raise UserError.plain(
                f"{config.output} holds a run with {name} {old[name]}, not {new[name]}; "
                "continue it with its own settings or name another output folder."
            )


def _check_pretrained(old: dict[str, Any], config: TrainConfig, *, before: Origin, now: Origin) -> None:
    """Check that the run started from the file named now, wherever that lies."""
    if config.pretrained is None:
        return
    named = old.get("pretrained")
    is_same = has_its_name = Path(named or "").name == config.pretrained.name
    if None not in (before.pretrained, now.pretrained):  # earlier runs did not note it
        is_same = before.pretrained == now.pretrained
    if not is_same:
        start = f"from {named}" if named else "with a new adapter"
        start = "from another file of the same name" if has_its_name else start
        raise UserError.plain(
            f"{config.output} holds a run that began {start}, not from {config.pretrained}; leave out --pretrained to "
            "continue it, or name another output folder."
        )


def _check_origin(old: Origin, new: Origin, *, folder: Path) -> None:
    output = folder.parent
    differ = {name for name, value in asdict(new).items() if None not in (value, getattr(old, name))}
    differ = {name for name in differ if getattr(old, name) != getattr(new, name)}
    if "base" in differ:
        raise UserError.plain(
            f"{output} holds a run on another base model; continue it with its own --base and --image-encoder or name "
            "another output folder."
        )
    if "preparation" in differ:
        raise UserError.plain(
            f"{output} holds a run for which pictures or texts were prepared with other settings (of the image "
            "processor, a tokenizer or an encoder); continue it with the model as it was or name another output folder."
        )
    if "configuration" in differ:
        raise UserError.plain(
            f"{output} holds a run on the base model as it was before settings of it changed (in the config.json of a "
            "part, or of a tokenizer); continue it with the model as it was or name another output folder."
        )
    for name in ("size", "heldout"):
        if name in differ:
            raise UserError.plain(
                f"{output} holds a run with {name} {getattr(old, name)}, not {getattr(new, name)}; "
                "continue it with its own settings or name another output folder."
            )
    other = _other_files(old, new)
    if "data" in differ or len(other) > MOST_CHANGED * len(new.files or {}):
        counts = f"{old.pictures} pictures then, {new.pictures} now"
        what = "other names or texts" if old.pictures == new.pictures else counts
        what = what if "data" in differ else f"other pictures under the same names, such as {other[0]}"
        raise UserError.plain(
            f"{output} holds a run on other data ({what}); to train on the new data from what it has learned, name "
            f"another output folder and --pretrained {folder / ADAPTER_FILE}."
        )


def _write(checkpoint: Checkpoint, config: TrainConfig, origin: Origin, folder: Path) -> None:
    adapter = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.adapter.items()}
    write_tensors(adapter, folder / ADAPTER_FILE)
    torch.save(checkpoint.optimization, folder / OPTIMIZER_FILE)
    start, digest = _beginning(config, origin)
    state = {"step": checkpoint.step, "seconds": checkpoint.seconds}
    state |= {"config": settings(config) | {"pretrained": start}, "origin": asdict(origin) | {"pretrained": digest}}
    state |= {"sizes": {file.name: file.stat().st_size for file in folder.iterdir()}}
    (folder / STATE_FILE).write_text(json.dumps(state, indent=2), encoding="utf-8")
    for file in folder.iterdir():
        _flush(file)


def _beginning(config: TrainConfig, origin: Origin) -> tuple[str | None, str | None]:
    """Return the file that the run started from and its digest, so that it need not be named again on resuming."""
    folder = latest_checkpoint(config.output)
    if config.pretrained is not None or folder is None:
        return None if config.pretrained is None else str(config.pretrained), origin.pretrained
    state = _state(folder)
    return state["config"].get("pretrained"), state.get("origin", {}).get("pretrained")


def _checkpoints(output: Path) -> list[Path]:
    return sorted(output.glob("checkpoint-*"))


def _state(folder: Path) -> dict[str, Any]:
    return json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))


def _is_whole(folder: Path) -> bool:
    """Whether all files of a checkpoint exist with the sizes they were written with."""
    try:
        sizes = _state(folder).get("sizes", {ADAPTER_FILE: None, OPTIMIZER_FILE: None})
        return all(size in (None, (folder / name).stat().st_size) for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _flush(file: Path) -> None:
    """Flush a file to disk: otherwise a rename may reach it before the bytes do."""
    with file.open("r+b") as handle:  # Windows flushes only files opened for writing
        os.fsync(handle.fileno())
