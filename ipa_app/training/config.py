"""Every setting of a training run, with its default and the text its command-line flag shows."""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ipa_app.adapter.kinds import KINDS
from ipa_app.errors import UserError

TRAINED_KINDS = ("base", "plus")
"""The kinds of adapter that can be trained."""


def _option(help_text: str, **default: Any) -> Any:
    return field(metadata={"help": help_text}, **default)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What the training loop itself needs: the same for a data file on disk and for batches made in memory.

    The defaults are those of the IP-Adapter reference implementation where it has one. A step is one update of
    the weights: it sees ``batch_size * gradient_accumulation_steps`` examples on every process.

    Raises:
        UserError: a value is outside what is allowed.
    """

    output: Path = _option("folder for the adapter, checkpoints, sample sheets and log.jsonl")
    adapter: Literal["base", "plus"] = _option(
        "base: 4 tokens from the pooled picture embedding; plus: fine-grained, tokens from all patches",
        default="base",
    )
    max_steps: int = _option("steps (weight updates) in all", default=10_000)
    max_minutes: float = _option("stop after so many minutes, keeping what was learned; 0 = no limit", default=0.0)
    batch_size: int = _option("examples per batch and process", default=8)
    gradient_accumulation_steps: int = _option("batches per step", default=1)
    learning_rate: float = _option("AdamW learning rate", default=1e-4)
    lr_schedule: Literal["constant", "cosine"] = _option(
        "cosine: fall to a twentieth of the learning rate by the last step", default="constant"
    )
    weight_decay: float = _option("AdamW weight decay", default=1e-2)
    drop_text: float = _option("share of examples trained without their text", default=0.05)
    drop_image: float = _option("share of examples trained without their picture", default=0.05)
    drop_both: float = _option("share of examples trained without either", default=0.05)
    timestep_sampling: Literal["uniform", "late"] = _option(
        "late: train more on noisy timesteps, where layout and main colours are decided", default="uniform"
    )
    num_tokens: int = _option("image tokens; 0 = 4 for base, 16 for plus", default=0)
    resampler_depth: int = _option("plus only: layers of the Resampler", default=4)
    resampler_heads: int = _option(
        "plus only: attention heads of the Resampler, 64 channels each; 0 = those of the base model's own fine-grained "
        "adapter, else as published (12, for SDXL 20), else what suits the width of its text tokens",
        default=0,
    )
    resampler_dim: int = _option("plus only: width of the Resampler; 0 = chosen as its heads are", default=0)
    pretrained: Path | None = _option("start from this published adapter file", default=None)
    mixed_precision: Literal["no", "fp16", "bf16"] = _option(
        "arithmetic of the forward pass; the adapter's own weights stay float32", default="no"
    )
    gradient_checkpointing: bool = _option(
        "compute parts of the UNet twice instead of keeping them: slower, in much less memory", default=False
    )
    save_precision: Literal["fp16", "fp32"] = _option("precision of the finished adapter file", default="fp16")
    seed: int = _option("decides the first weights, the order of the data, noise and drops", default=0)
    log_steps: int = _option("steps between lines of progress; where steps are slow, they come more often", default=10)
    save_steps: int = _option("steps between checkpoints; 0 = by minutes alone", default=0)
    save_minutes: float = _option(
        "minutes between checkpoints, more where writing one takes long; 0 = by steps alone", default=2.0
    )
    keep_checkpoints: int = _option("checkpoints kept in the output folder", default=2)
    eval_steps: int = _option("steps between measurements of the held-out loss; 0 = never", default=500)
    sample_steps: int = _option("steps between sample sheets; 0 = at the end alone", default=500)
    num_inference_steps: int = _option("denoising steps of a sample", default=20)
    guidance_scale: float = _option("guidance of a sample", default=5.0)

    @property
    def examples_per_step(self) -> int:
        """Examples that one process sees in a step."""
        return self.batch_size * self.gradient_accumulation_steps

    def __post_init__(self) -> None:
        """Refuse values that would only fail, or quietly train nonsense, hours later."""
        _check_choices(self, adapter=TRAINED_KINDS, lr_schedule=("constant", "cosine"))
        _check_choices(self, timestep_sampling=("uniform", "late"))
        _check_choices(self, mixed_precision=("no", "fp16", "bf16"), save_precision=("fp16", "fp32"))
        _check_at_least(self, 1, "max_steps", "batch_size", "gradient_accumulation_steps", "resampler_depth")
        _check_at_least(self, 1, "log_steps", "keep_checkpoints", "num_inference_steps")
        _check_at_least(
            self, 0, "max_minutes", "weight_decay", "num_tokens", "resampler_heads", "resampler_dim", "seed"
        )
        _check_at_least(self, 0, "save_steps", "save_minutes")
        _check_at_least(self, 0, "eval_steps", "sample_steps", "guidance_scale", "drop_text", "drop_image", "drop_both")
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"learning_rate is {self.learning_rate}; it must be a number above 0.")
        if self.drop_text + self.drop_image + self.drop_both > 1:
            raise UserError("drop_text, drop_image and drop_both must not add up to more than 1.")
        kind = KINDS[self.adapter]
        if kind.has_fixed_tokens and self.num_tokens not in (0, kind.num_tokens):
            raise UserError(
                f"num_tokens is {self.num_tokens}, but a {kind.name} adapter has {kind.num_tokens}: other programs "
                "read every file as such."
            )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the frozen base model and the examples come from.

    Raises:
        UserError: a value is outside what is allowed.
    """

    base: Path = _option("frozen base model: a folder in diffusers layout, or one .safetensors file")
    data: Path = _option(
        'JSON list or lines of {"image_file", "text", "reference_file" (optional: image_file)}, a .csv with such '
        "columns, or a folder of pictures with a metadata file or with captions (.txt, .caption) beside them"
    )
    data_root: Path | None = _option(
        "folder the file names start from; default: the data file's, or the data folder", default=None
    )
    image_encoder: Path | None = _option("folder of the CLIP vision tower, where the base has none", default=None)
    heldout_data: Path | None = _option(
        "examples only to measure on, in any form that --data takes; default: some of the data", default=None
    )
    heldout: int = _option("examples to measure on, never trained on", default=16)
    size: int = _option("side of the training pictures in pixels; 0 = the base model's own", default=0)
    cache_gb: float = _option(
        "keep all encoded pictures and texts in memory and in the output folder when they need no more than this",
        default=8.0,
    )
    workers: int = _option("threads that open pictures", default=4)

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        _check_at_least(self, 0, "heldout", "size", "cache_gb")
        _check_at_least(self, 1, "workers")


def settings(config: TrainConfig | DataConfig) -> dict[str, str | int | float | None]:
    """The configuration as plain JSON values, for logs and checkpoints."""
    values = {item.name: getattr(config, item.name) for item in fields(config)}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def options(config: type[TrainConfig] | type[DataConfig]) -> tuple[Field[Any], ...]:
    """The fields of a configuration; ``metadata["help"]`` says what each is for."""
    return fields(config)


def _check_at_least(config: TrainConfig | DataConfig, low: int, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not low <= value < math.inf:
            raise UserError(f"{name} is {value}; it must be a number of at least {low}.")


def _check_choices(config: TrainConfig, **choices: tuple[str, ...]) -> None:
    for name, allowed in choices.items():
        if getattr(config, name) not in allowed:
            raise UserError(f"{name} is {getattr(config, name)!r}; choose one of {', '.join(allowed)}.")
