"""Every setting of a training run, with its default and the text its command-line flag shows."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf
from pathlib import Path
from typing import Literal, get_args

from ipa_app.adapter.kinds import KINDS, RESAMPLER_DIM_HEAD
from ipa_app.adapter.shapes import MOST_TOKENS
from ipa_app.errors import UserError
from ipa_app.options import check_options, option

TrainedKind = Literal["base", "plus"]
TRAINED_KINDS = get_args(TrainedKind)
"""The kinds of adapter that can be trained."""
LARGEST_SEED = 2**63 - 1
"""The largest seed that every generator accepts."""
MOST_HEADS = 64
MOST_LAYERS = 64
"""Most layers of a Resampler: with more, its file would exceed the number of tensors that the app reads."""
HELDOUT = 16
"""Examples held out of the data by default."""
MixedPrecision = Literal["no", "fp16", "bf16"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of the training loop, whether batches come from a data file on disk or are made in memory.

    Defaults are those of the IP-Adapter reference implementation where it has one. A step is one update of the
    weights: it sees `batch_size * gradient_accumulation_steps` examples on every process.

    Raises:
        UserError: a value is outside what is allowed.
    """

    output: Path = option(doc="folder for the adapter, checkpoints, sample sheets and log.jsonl")
    adapter: TrainedKind = option(
        "base", doc="base: 4 tokens from the pooled picture embedding; plus: fine-grained, tokens from all patches"
    )
    max_steps: int = option(10_000, between=(1, inf), doc="steps (weight updates) in all")
    max_minutes: float = option(0.0, doc="stop after this many minutes and keep what was learned; 0 = no limit")
    batch_size: int = option(8, between=(1, inf), doc="examples per batch and process")
    gradient_accumulation_steps: int = option(1, between=(1, inf), doc="batches per step")
    learning_rate: float = option(1e-4, doc="AdamW learning rate")
    lr_schedule: Literal["constant", "cosine"] = option(
        "constant", doc="cosine: fall to a twentieth of the learning rate by the last step"
    )
    weight_decay: float = option(1e-2, doc="AdamW weight decay")
    drop_text: float = option(0.05, doc="share of examples trained without their text")
    drop_image: float = option(0.05, doc="share of examples trained without their picture")
    drop_both: float = option(0.05, doc="share of examples trained without either")
    scale: float = option(
        1.0,
        between=(0.1, 1.5),
        doc="scale of the picture in training; below 1, the adapter does more at 1 than its examples asked for",
    )
    timestep_sampling: Literal["uniform", "late"] = option(
        "uniform", doc="late: train more on noisy timesteps, where layout and main colours are decided"
    )
    num_tokens: int = option(0, between=(0, MOST_TOKENS), doc="image tokens; 0 = 4 for base, 16 for plus")
    resampler_depth: int = option(4, between=(1, MOST_LAYERS), doc="plus only: layers of a new Resampler")
    resampler_heads: int = option(
        0,
        between=(0, MOST_HEADS),
        doc=(
            "plus only: attention heads of the Resampler, 64 channels each; 0 = those of the base model's own "
            "fine-grained adapter, else as published (12, for SDXL 20), else as suits the width of its text tokens"
        ),
    )
    resampler_dim: int = option(
        0,
        between=(0, MOST_HEADS * RESAMPLER_DIM_HEAD),
        doc="plus only: width of the Resampler; 0 = chosen in the same way as its heads",
    )
    pretrained: Path | None = option(None, doc="start from this published adapter file")
    mixed_precision: MixedPrecision = option(
        "no", doc="arithmetic of the forward pass; the adapter's own weights stay float32"
    )
    gradient_checkpointing: bool = option(
        False, doc="compute parts of the UNet twice instead of keeping them: slower, but uses much less memory"
    )
    save_precision: Literal["fp16", "fp32"] = option("fp16", doc="precision of the finished adapter file")
    seed: int = option(
        0, between=(0, LARGEST_SEED), doc="decides the initial weights, the order of the data, the noise and the drops"
    )
    log_steps: int = option(
        10, between=(1, inf), doc="steps between progress lines; if steps are slow, lines come more often"
    )
    save_steps: int = option(0, doc="steps between checkpoints; 0 = only by minutes")
    save_minutes: float = option(
        2.0, doc="minutes between checkpoints, more if writing one takes long; 0 = only by steps"
    )
    keep_checkpoints: int = option(2, between=(1, inf), doc="checkpoints kept in the output folder")
    eval_steps: int = option(500, doc="steps between measurements of the held-out loss; 0 = never")
    sample_steps: int = option(500, doc="steps between sample sheets; 0 = only at the end")
    num_inference_steps: int = option(20, between=(1, inf), doc="denoising steps of a sample")
    guidance_scale: float = option(5.0, doc="guidance of a sample")

    @property
    def examples_per_step(self) -> int:
        """Number of examples that one process sees per step."""
        return self.batch_size * self.gradient_accumulation_steps

    def __post_init__(self) -> None:
        """Reject values that would fail, or silently train nonsense, hours later."""
        if not 0 < self.learning_rate < inf:
            raise UserError.plain(f"learning_rate is {self.learning_rate}; it must be a number above 0.")
        check_options(self)
        if self.drop_text + self.drop_image + self.drop_both > 1:
            raise UserError.plain("drop_text, drop_image and drop_both must not add up to more than 1.")
        kind = KINDS[self.adapter]
        if kind.has_fixed_tokens and self.num_tokens not in (0, kind.num_tokens):
            raise UserError.plain(
                f"num_tokens is {self.num_tokens}, but a {kind.name} adapter has {kind.num_tokens}, as "
                "other programs expect."
            )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the frozen base model and the examples come from.

    Raises:
        UserError: a value is outside what is allowed.
    """

    base: Path = option(doc="frozen base model: a folder in diffusers layout, or one .safetensors file")
    data: Path = option(
        doc=(
            'JSON list or lines of {"image_file", "text", "reference_file" (optional: image_file)}, a .csv with such '
            "columns, or a folder of pictures with a metadata file or with captions (.txt, .caption) beside them"
        )
    )
    data_root: Path | None = option(
        None, doc="folder that file names are relative to; default: the data file's folder, or the data folder"
    )
    image_encoder: Path | None = option(None, doc="folder of the CLIP vision tower, if the base model has none")
    heldout_data: Path | None = option(
        None, doc="examples used only for measuring, in any form that --data takes; default: some of the data"
    )
    heldout: int | None = option(
        None, doc=f"number of examples to measure on, never trained on; default: {HELDOUT}, or all in --heldout-data"
    )
    size: int = option(0, doc="side of the training pictures in pixels; 0 = the base model's own")
    cache_gb: float = option(
        8.0,
        doc="keep all encoded pictures and texts in memory and in the output folder if they need no more GB than this",
    )
    workers: int = option(4, between=(1, inf), doc="threads that open pictures")

    @property
    def split_off(self) -> int:
        """Number of examples to hold out of the training data when no held-out data is named."""
        return HELDOUT if self.heldout is None else self.heldout

    def __post_init__(self) -> None:
        """Reject impossible numbers."""
        check_options(self)


def settings(config: TrainConfig | DataConfig) -> dict[str, str | int | float | None]:
    """Return the configuration as plain JSON values, for logs and checkpoints."""
    values = {item.name: getattr(config, item.name) for item in fields(config)}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
