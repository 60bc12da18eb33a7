"""Stages: the base and the fine-grained adapter, trained by ipa_app.training on pairs from the drawn world."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal

import torch
from diffusers import DDIMScheduler
from PIL import Image
from transformers import CLIPImageProcessor

from ipa_app.adapter.features import encode_image
from ipa_app.models.families import SD1
from ipa_app.training.checkpoint import resume_step
from ipa_app.training.components import Components
from ipa_app.training.config import TrainConfig
from ipa_app.training.examples import TrainingBatch
from ipa_app.training.reports import CheckpointReport, FinishedReport, Report
from ipa_app.training.run import train
from ipa_app.training.sampling import Sample
from toybox.recipe.autoencoder import load_vae
from toybox.recipe.backends import tuned_backends
from toybox.recipe.cached import Captions, latents_of
from toybox.recipe.data import Split, ToyData
from toybox.recipe.denoiser import GUIDANCE_SCALE, NUM_INFERENCE_STEPS, load_unet
from toybox.recipe.images import clip_pixels, log_figures, on_device, pixels, take_rows
from toybox.recipe.loss_weights import loss_weights
from toybox.recipe.settings import Recipe, StageSettings
from toybox.recipe.tokenizer import load_tokenizer
from toybox.recipe.towers import as_seen, load_image_encoder, load_text_encoder
from toybox.recipe.training import UnfinishedError, mixed_precision, pick_device, precision, start_of

logger = logging.getLogger(__name__)

Kind = Literal["base", "plus"]
FILES: dict[Kind, str] = {"base": "ip-adapter_toybox.safetensors", "plus": "ip-adapter-plus_toybox.safetensors"}

SCENE_SHARE = 0.5
"""Share of texts that leave the subject to the reference picture."""
TRAINING_SCALES: dict[Kind, float] = {"base": 0.75, "plus": 1.0}
"""Scale of the image prompt in training. At 1 the base adapter then does more than it was trained to, as its four
tokens need."""
SAVE_MINUTES = 4.0
"""Most minutes between checkpoints."""


def train_adapter(kind: Kind, recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Train one adapter on the frozen base and write `folder/adapters/<published name>`."""
    start = start_of(folder, "adapters") / FILES[kind]
    settings = recipe.base_adapter if kind == "base" else recipe.fine_adapter
    config = train_config(
        kind, recipe, settings, folder / f"adapter-{kind}", pretrained=start if start.exists() else None
    )
    fit_adapter(config, recipe, data, heldout, folder, target=folder / "adapters" / FILES[kind])


def fit_adapter(
    config: TrainConfig, recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path, *, target: Path
) -> None:
    """Train an adapter on the pairs of the training split, and copy the finished file to `target`.

    Raises:
        UnfinishedError: the stage's time limit came first; nothing is lost.
    """
    train_pairs = Pairs(config.adapter, recipe, data, folder, "train")
    heldout_pairs = Pairs(config.adapter, recipe, heldout, folder, "heldout")
    settings = recipe.base_adapter if config.adapter == "base" else recipe.fine_adapter
    base = _components(folder)
    reports = train(
        config,
        base=base,
        batches=train_pairs.batches(config.batch_size, first=resume_step(config.output)),
        heldout=[heldout_pairs.whole_batch(torch.arange(min(64, len(heldout))))],
        samples=[_sample(heldout, row) for row in range(0, min(16, len(heldout)), 2)],
    )
    with tuned_backends(base.unet):
        for report in _within(reports, config, settings.minutes):
            logger.info("%s, %s", config.output.name, report)
            if isinstance(report, FinishedReport):
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(report.path, target)
                log_figures(folder, config.output.name, {"samples": report.step * config.batch_size})


def _within(reports: Iterator[Report], config: TrainConfig, minutes: float | None) -> Iterator[Report]:
    """Pass on a run's reports until its time limit, if any; then stop at a checkpoint."""
    started = time.monotonic()
    for report in reports:
        yield report
        is_over = minutes is not None and time.monotonic() - started >= 60 * minutes
        if is_over and isinstance(report, CheckpointReport) and report.step < config.max_steps:
            seen, samples = report.step * config.batch_size, config.max_steps * config.batch_size
            raise UnfinishedError(config.output.name, seen=seen, samples=samples, minutes=minutes)


train_base_adapter = partial(train_adapter, "base")
train_fine_adapter = partial(train_adapter, "plus")


def train_config(
    kind: Kind, recipe: Recipe, settings: StageSettings, output: Path, *, pretrained: Path | None
) -> TrainConfig:
    """Return the configuration of an adapter's training.

    Args:
        kind: of the adapter.
        recipe: of the model.
        settings: of the stage.
        output: folder for checkpoints, samples and log.
        pretrained: file to start from; None for a new adapter.
    """
    max_steps = max(1, settings.samples // settings.batch_size)
    between_looks = max(250, max_steps // 4)
    return TrainConfig(
        output=output,
        pretrained=pretrained,
        adapter=kind,
        max_steps=max_steps,
        batch_size=settings.batch_size,
        learning_rate=settings.lr,
        mixed_precision=precision(),
        lr_schedule="cosine",
        scale=TRAINING_SCALES[kind],
        timestep_sampling="late",
        resampler_heads=max(1, recipe.text_hidden // 64),
        resampler_dim=recipe.text_hidden,
        log_steps=50,
        save_minutes=min(SAVE_MINUTES, settings.minutes or SAVE_MINUTES),
        eval_steps=between_looks,
        sample_steps=between_looks,
        num_inference_steps=NUM_INFERENCE_STEPS,
        guidance_scale=GUIDANCE_SCALE,
        seed=recipe.seed,
    )


def _components(folder: Path) -> Components:
    return Components(
        family=SD1,
        unet=load_unet(folder).to(memory_format=torch.channels_last),
        vae=load_vae(folder),
        text_encoder=load_text_encoder(folder),
        tokenizer=load_tokenizer(folder),
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
        image_encoder=load_image_encoder(folder),
        image_processor=CLIPImageProcessor.from_pretrained(folder / "feature_extractor"),
    )


def _sample(heldout: ToyData, row: int) -> Sample:
    """Return a held-out subject with the text for the scene of its other view."""
    return Sample(reference=Image.fromarray(heldout.images[row]), text=heldout.scene_captions[row + 1])


class Pairs:
    """Reference and target pictures of one split, encoded beforehand by all frozen parts."""

    def __init__(self, kind: Kind, recipe: Recipe, data: ToyData, folder: Path, split: Split) -> None:
        self._latents = latents_of(data, folder, split)
        self._captions = Captions(data, folder, split)
        self._features = features_of(kind, recipe, data, folder, split)
        self._device = pick_device()
        self._keypoints = on_device(data.keypoints, self._device)
        self._other_view_share = recipe.other_view_share

    def batches(self, size: int, *, first: int) -> Iterator[TrainingBatch]:
        """Yield batches endlessly; the draws of batch n depend on n alone, so that a run can be resumed."""
        for number in count(first):
            yield self.draw(size, torch.Generator().manual_seed(number))

    def draw(self, size: int, generator: torch.Generator) -> TrainingBatch:
        """Draw `size` random pairs, weighted by `loss_weights`."""
        rows = torch.randint(len(self._features), (size,), generator=generator)
        shape = torch.Size((size, *self._latents.mean.shape[1:]))
        weights = loss_weights(take_rows(self._keypoints, rows, self._device), shape)
        return replace(self._batch(rows, generator), loss_weights=weights)

    def whole_batch(self, rows: torch.Tensor) -> TrainingBatch:
        """Return a fixed batch for `rows`, with uniform loss weights."""
        return self._batch(rows, torch.Generator().manual_seed(0))

    def _batch(self, rows: torch.Tensor, generator: torch.Generator) -> TrainingBatch:
        other = torch.rand(len(rows), generator=generator) < self._other_view_share
        # Pictures 2 i and 2 i + 1 show the same subject.
        references = torch.where(other, rows ^ 1, rows)
        return TrainingBatch(
            latents=take_rows(self._latents.mean, rows, self._device).float(),
            latents_std=take_rows(self._latents.deviation, rows, self._device).float(),
            input_ids=self._captions.draw(rows, generator, drop=0, scene=SCENE_SHARE)[:, None],  # one text encoder
            features=take_rows(self._features, references, self._device).float(),
        )


@torch.no_grad()
def features_of(kind: Kind, recipe: Recipe, data: ToyData, folder: Path, split: Split) -> torch.Tensor:
    """Return the image encoder's features of every picture of a split, float16, on the device."""
    encoder, device = load_image_encoder(folder), pick_device()
    parts, pictures = [], as_seen(recipe, data, folder, split)
    for rows in torch.arange(len(data)).split(64):
        batch = clip_pixels(pixels(pictures, rows, device), recipe.vision_size)
        with mixed_precision():
            parts.append(encode_image(encoder, batch, kind).cond.half())
    return torch.cat(parts)


@torch.no_grad()
def features_of_nothing(kind: Kind, recipe: Recipe, folder: Path) -> torch.Tensor:
    """Return the features of "no picture", as `features_of` returns them for one picture; float32."""
    encoder, side = load_image_encoder(folder), recipe.vision_size
    return encode_image(encoder, torch.zeros(1, 3, side, side), kind).uncond[0]
