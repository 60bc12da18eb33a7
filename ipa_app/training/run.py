"""A whole training run: resume, train, measure, sample, save, publish."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator

from ipa_app.adapter.attention import install_processors
from ipa_app.adapter.files import load_adapter, read_adapter
from ipa_app.adapter.fitting import check_encoder
from ipa_app.adapter.ip_adapter import IPAdapter
from ipa_app.errors import UserError
from ipa_app.training.checkpoint import load_checkpoint, save_checkpoint
from ipa_app.training.components import Components
from ipa_app.training.config import TrainConfig
from ipa_app.training.examples import TrainingBatch
from ipa_app.training.heldout import HeldoutLoss
from ipa_app.training.loop import Trainer, learning_rate, make_accelerator, weight_dtype
from ipa_app.training.publish import publish
from ipa_app.training.reports import CheckpointReport, FinishedReport, Report, SampleReport, StepReport, logged
from ipa_app.training.sampling import Sample, Sampler, SampleSheet

RESAMPLER_HEADS = {"Stable Diffusion": 12, "SDXL": 20}
"""Heads of the Resampler in the published fine-grained adapters, by the title of the family."""


def train(
    config: TrainConfig,
    *,
    base: Components,
    batches: Iterator[TrainingBatch],
    heldout: Sequence[TrainingBatch] = (),
    samples: Sequence[Sample] = (),
    accelerator: Accelerator | None = None,
) -> Iterator[Report]:
    """Train an adapter, reporting as it goes; nothing happens but as far as the reports are taken.

    The run goes on from the latest checkpoint in ``config.output``. On a CPU a run that was stopped and resumed
    ends in the very same weights as one that was not, given the same batches. Everything is written there:
    checkpoints, ``samples-<step>.png``, ``log.jsonl`` and at last the adapter in the published layout.

    Args:
        config: of the run.
        base: the base model; it is frozen, moved to the training device and given our attention processors.
        batches: endless, beginning with number ``resume_step(config.output) * gradient_accumulation_steps`` of
            the run; the rows of each are ``config.batch_size`` by convention.
        heldout: examples for the held-out loss; without any it is not measured.
        samples: rows of the sample sheet; without any no sheet is drawn.
        accelerator: the caller's own, made by :func:`make_accelerator`.

    Yields:
        Reports; the last is a FinishedReport, when the file was read back and found to work. Processes other
        than the main one yield nothing.

    Raises:
        UserError: the output folder holds another run, or the loss is no longer a number.
        UnusableAdapterError: the finished file does not do what the trained adapter does.
    """
    accelerator = accelerator or make_accelerator(config)
    prepare_base(base, config, accelerator)
    checkpoint = load_checkpoint(config)
    trainer = Trainer(config, base=base, adapter=new_adapter(config, base), accelerator=accelerator)
    if checkpoint is not None:
        trainer.restore(checkpoint)
    run = _Run(
        config=config,
        trainer=trainer,
        accelerator=accelerator,
        sampler=Sampler(base, encoder=trainer.encoder, config=config),
        heldout=HeldoutLoss(heldout, encoder=trainer.encoder, schedule=trainer.schedule, seed=config.seed),
        samples=samples,
        seconds_before=0.0 if checkpoint is None else checkpoint.seconds,
    )
    reports = run.reports(batches, base)
    return logged(reports, config.output / "log.jsonl") if accelerator.is_main_process else reports


def prepare_base(base: Components, config: TrainConfig, accelerator: Accelerator) -> None:
    """Freeze a base model on the training device; done again it changes nothing."""
    base.freeze(accelerator.device, weight_dtype(config))
    install_processors(base.unet)


def new_adapter(config: TrainConfig, base: Components) -> IPAdapter:
    """The adapter a run starts from: a published file's, or K/V from the UNet's own and a random projection.

    Raises:
        UserError: the published file does not fit the base model, or is of another kind.
    """
    if config.pretrained is not None:
        return _pretrained_adapter(config.pretrained, config, base)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return IPAdapter.for_unet(
            base.unet,
            kind=config.adapter,
            clip_dim=base.clip_dim(config.adapter),
            num_tokens=config.num_tokens or None,
            depth=config.resampler_depth,
            heads=config.resampler_heads or RESAMPLER_HEADS[base.family.title],
            dim=config.resampler_dim or None,
        )


def _pretrained_adapter(path: Path, config: TrainConfig, base: Components) -> IPAdapter:
    adapter = load_adapter(path, base.unet)
    if adapter.kind != config.adapter:
        raise UserError(f"{path} is a {adapter.kind} adapter; train it with --adapter {adapter.kind}.")
    check_encoder(adapter, base.image_encoder.config)
    adapter = adapter.float()
    adapter.load_state_dict(dict(read_adapter(path).tensors))  # again, as a base model in bf16 would round them
    return adapter


@dataclass(kw_only=True)
class _Run:
    """A run in progress."""

    config: TrainConfig
    trainer: Trainer
    accelerator: Accelerator
    sampler: Sampler
    heldout: HeldoutLoss
    samples: Sequence[Sample]
    seconds_before: float

    def __post_init__(self) -> None:
        self._started = self._last_save = time.monotonic()
        self._interval = 0.0
        self._losses: list[torch.Tensor] = []
        self._sheet = SampleSheet(self.sampler, self.samples) if self.samples else None

    def reports(self, batches: Iterator[TrainingBatch], base: Components) -> Iterator[Report]:
        """The whole run, seen from the main process; the others only take part in training."""
        if self.trainer.step == 0 and self.config.eval_steps:
            yield from self._measure()
        yield from self._train(batches)
        yield from self._save()
        if self.config.eval_steps:
            yield from self._measure()
        yield from self._draw_sheet()
        if self.accelerator.is_main_process:
            yield self._publish(base)
        self.accelerator.wait_for_everyone()

    def _train(self, batches: Iterator[TrainingBatch]) -> Iterator[Report]:
        if self._is_over(self.seconds_before):  # by earlier sittings; a fresh run takes one step at least
            return
        began = time.monotonic()
        for loss in self.trainer.run(batches):
            self._losses.append(loss)
            self._interval += time.monotonic() - began
            over = self._is_over(self._seconds())
            if over or _due(self.trainer.step, self.config.log_steps):
                yield from self._progress()
            if over:
                return
            yield from self._at_intervals()
            began = time.monotonic()

    def _at_intervals(self) -> Iterator[Report]:
        if self._save_is_due():
            yield from self._save()
        if _due(self.trainer.step, self.config.eval_steps):
            yield from self._measure()
        if _due(self.trainer.step, self.config.sample_steps):
            yield from self._draw_sheet()

    def _is_over(self, seconds: float) -> bool:
        """Whether the steps or the minutes are used up; the main process decides for all of them."""
        if self.trainer.step >= self.config.max_steps:
            return True
        return self.config.max_minutes > 0 and self._agreed(seconds >= self.config.max_minutes * 60)

    def _save_is_due(self) -> bool:
        minutes = (time.monotonic() - self._last_save) / 60
        by_minutes = self.config.save_minutes > 0 and minutes >= self.config.save_minutes
        return by_minutes or _due(self.trainer.step, self.config.save_steps)

    def _seconds(self) -> float:
        """Time of the whole run, earlier sittings included."""
        return self.seconds_before + time.monotonic() - self._started

    def _agreed(self, over: bool) -> bool:
        if self.accelerator.num_processes == 1:
            return over
        vote = torch.tensor(float(over and self.accelerator.is_main_process), device=self.accelerator.device)
        return bool(self.accelerator.reduce(vote, reduction="sum").item())

    def _progress(self) -> Iterator[Report]:
        """The mean loss over all processes, told by the main one."""
        loss = self.accelerator.reduce(torch.stack(self._losses).mean(), reduction="mean").item()
        self._check_finite(loss)
        examples = self.config.batch_size * self.config.gradient_accumulation_steps * self.accelerator.num_processes
        report = StepReport(
            step=self.trainer.step,
            loss=loss,
            learning_rate=learning_rate(self.config, self.trainer.step - 1),
            examples_per_second=examples * len(self._losses) / max(self._interval, 1e-9),
        )
        self._losses, self._interval = [], 0.0
        if self.accelerator.is_main_process:
            yield report

    def _save(self) -> Iterator[Report]:
        self._last_save = time.monotonic()
        if not self.accelerator.is_main_process or self.trainer.step == 0:
            return
        self._check_finite(*(loss.item() for loss in self._losses))
        path = save_checkpoint(self.trainer.checkpoint(seconds=self._seconds()), self.config)
        yield CheckpointReport(step=self.trainer.step, path=path)

    def _measure(self) -> Iterator[Report]:
        if self.accelerator.is_main_process and len(self.heldout):
            yield self.heldout.measure(self.trainer.predict, step=self.trainer.step)

    def _draw_sheet(self) -> Iterator[Report]:
        if self.accelerator.is_main_process and self._sheet is not None:
            path = self.config.output / f"samples-{self.trainer.step:08d}.png"
            self._sheet.draw(self.trainer.adapter).save(path)
            yield SampleReport(step=self.trainer.step, path=path)

    def _publish(self, base: Components) -> FinishedReport:
        if self.samples:
            features = self.sampler.features(self.samples[0].reference)
        else:  # any features will do to compare two adapters
            features = torch.randn_like(self.trainer.encoder.empty_features)
        return publish(
            self.trainer.adapter,
            config=self.config,
            unet=base.unet,
            sampler=self.sampler,
            features=features,
            step=self.trainer.step,
        )

    def _check_finite(self, *losses: float) -> None:
        """Stop before a ruined adapter replaces a good checkpoint."""
        if not all(math.isfinite(loss) for loss in losses):
            raise UserError(
                f"The loss is no longer a number at step {self.trainer.step}: go on from the last checkpoint "
                "with a lower --learning-rate or with --mixed-precision bf16 or no."
            )


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
