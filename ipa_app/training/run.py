"""A whole training run: resume, train, evaluate, sample, save, publish."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from ipa_app.adapter.attention import install_processors
from ipa_app.adapter.files import read_adapter
from ipa_app.adapter.resampler import Resampler
from ipa_app.errors import UserError
from ipa_app.training.adapters import adapter_of, new_adapter, shape_of
from ipa_app.training.assessment import Assessment
from ipa_app.training.checkpoint import (
    ADAPTER_FILE,
    Origin,
    digest_of_pretrained,
    latest_checkpoint,
    load_checkpoint,
    way_on,
)
from ipa_app.training.components import Components
from ipa_app.training.config import TrainConfig
from ipa_app.training.distributed import Ballot
from ipa_app.training.examples import TrainingBatch
from ipa_app.training.loop import Trainer, make_accelerator, weight_dtype
from ipa_app.training.pace import Pace
from ipa_app.training.reports import LOG_FILE, CheckpointReport, Report, ResumedReport, StoppedReport, logged
from ipa_app.training.sampling import Sample, check_steps
from ipa_app.training.saving import DivergedAdapterError, Saver
from ipa_app.training.stopping import Stop, Stopped, never

logger = logging.getLogger(__name__)

REMEDY = "a lower --learning-rate or with --mixed-precision bf16 or no."
"""Advice for a run whose numbers overflow."""


def train(
    config: TrainConfig,
    *,
    base: Components,
    batches: Iterator[TrainingBatch],
    heldout: Sequence[TrainingBatch] = (),
    samples: Sequence[Sample] = (),
    accelerator: Accelerator | None = None,
) -> Iterator[Report]:
    """Train an adapter and yield reports; being a generator, it works only as far as the reports are consumed.

    The run resumes from the latest checkpoint in `config.output`. On a CPU, a run that was stopped and resumed
    ends with exactly the same weights as an uninterrupted one, given the same batches. Everything is written to
    that folder: checkpoints, `samples-<step>.png`, `log.jsonl` and finally the adapter in the published layout.

    Args:
        config: of the run.
        base: the base model; it is frozen, moved to the training device and given our attention processors.
        batches: endless, starting at batch `resume_step(config.output) * gradient_accumulation_steps` of the
            run; each has `config.batch_size` rows by convention.
        heldout: examples for the held-out loss; it is not measured without any.
        samples: rows of the sample sheet; no sheet is drawn without any.
        accelerator: the caller's own, made by `make_accelerator`.

    Yields:
        Reports; the last is a FinishedReport, once the file was read back and found to work. Only the main process
        yields any.

    Raises:
        UserError: the output folder holds another run, the loss is no longer finite, or the trained weights are too
            large to be used.
        UnusableAdapterError: the finished file does not do what the trained adapter does.
    """
    run = TrainingRun(config, base=base, accelerator=accelerator or make_accelerator(config))
    return run.reports(batches, heldout=heldout, samples=samples)


def prepare_base(base: Components, config: TrainConfig, accelerator: Accelerator) -> None:
    """Freeze a base model on the training device; idempotent."""
    base.freeze(accelerator.device, weight_dtype(config))
    install_processors(base.unet)


class TrainingRun:
    """A run that is checked and ready to start or resume.

    Attributes:
        trainer: holds the state of the training.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        base: Components,
        accelerator: Accelerator,
        origin: Origin | None = None,
        stop: Stop = never,
    ) -> None:
        """Check everything that can be checked before the first step, and read the latest checkpoint.

        Args:
            config: of the run.
            base: see `train`.
            accelerator: of the run.
            origin: what else the run must have in common with the one in the output folder.
            stop: polled after every step, and while measuring and drawing; true means save and end.

        Raises:
            UserError: the output folder holds another run, or an adapter file or the sampling steps do not fit.
        """
        check_steps(config, base)
        prepare_base(base, config, accelerator)
        origin = _whole_origin(origin or Origin(pretrained=digest_of_pretrained(config)), config, base, accelerator)
        checkpoint, folder = load_checkpoint(config, origin), latest_checkpoint(config.output)
        if checkpoint is None or folder is None:
            adapter = new_adapter(config, base)
        else:  # in the checkpoint's shape, whatever a new one would have now
            adapter = adapter_of(read_adapter(folder / ADAPTER_FILE), base)
        self.trainer = Trainer(config, base=base, adapter=adapter, accelerator=accelerator)
        if checkpoint is not None:
            self.trainer.restore(checkpoint)
        self._config, self._base, self._accelerator, self._stop = config, base, accelerator, stop
        self._seconds_before = 0.0 if checkpoint is None else checkpoint.seconds
        self._saver = Saver(config, origin)
        self._ballot = Ballot(accelerator)
        if len(set(gather_object([self.trainer.step]))) > 1:
            raise UserError.plain(
                f"The processes do not see the same checkpoints; give them all the same {config.output}."
            )

    @property
    def parameters(self) -> int:
        """Number of trained weights."""
        return sum(weight.numel() for weight in self.trainer.adapter.parameters())

    @property
    def description(self) -> str:
        """What is trained, as text for the user."""
        adapter = self.trainer.adapter
        size = f"a {adapter.kind} adapter of {self.parameters / 1e6:.1f} million weights"
        if not isinstance(adapter.image_proj, Resampler):
            return size
        shape = shape_of(adapter.state_dict())
        return f"{size}, its Resampler {shape.dim} wide with {shape.heads} heads"

    def reports(
        self, batches: Iterator[TrainingBatch], *, heldout: Sequence[TrainingBatch], samples: Sequence[Sample]
    ) -> Iterator[Report]:
        """Train to the end or until told to stop, yielding reports; see `train`."""
        assessment = Assessment(
            self._config, base=self._base, trainer=self.trainer, heldout=heldout, samples=samples, stop=self._stop
        )
        reports = self._reports(batches, assessment)
        if self._accelerator.is_main_process:
            return logged(reports, self._config.output / LOG_FILE)
        return (report for report in reports if False)  # takes part, but reports nothing

    def _reports(self, batches: Iterator[TrainingBatch], assessment: Assessment) -> Iterator[Report]:
        began_at = self.trainer.step
        if began_at:
            yield ResumedReport(step=began_at, max_steps=self._config.max_steps, more=way_on(self._config))
        elif self._config.eval_steps:
            yield from self._unless_stopped(assessment.measure())
        try:
            stopped = yield from self._train(batches, assessment)
        except FloatingPointError as error:
            raise self._ruined() from error
        if not stopped:
            try:
                yield from self._finish(assessment, has_learned=self.trainer.step > began_at)
            except Stopped:
                stopped = True
        self._accelerator.wait_for_everyone()
        if stopped:
            yield StoppedReport(step=self.trainer.step, path=latest_checkpoint(self._config.output))

    def _train(self, batches: Iterator[TrainingBatch], assessment: Assessment) -> Generator[Report, None, bool]:
        """Take all steps and return whether they were ended early."""
        config, is_main = self._config, self._accelerator.is_main_process
        pace = Pace(config, processes=self._accelerator.num_processes, seconds_before=self._seconds_before)
        # Earlier sessions may have done all steps; a fresh run takes at least one.
        if self.trainer.step >= config.max_steps or (self.trainer.step and pace.is_time_up):
            return False
        pace.begin()
        for loss in self.trainer.run(batches):
            pace.count(loss)
            step = self.trainer.step
            stop, is_time_up, is_late = self._ballot.any(
                self._stop(), is_main and pace.is_time_up, is_main and pace.is_report_due
            )
            if stop:  # before reporting anything: nobody may be left to listen
                yield from self._save(pace, must=True)
                return True
            over = is_time_up or step >= config.max_steps
            if over or is_late or _due(step, config.log_steps):
                loss = self._accelerator.reduce(pace.mean_loss(), reduction="mean")
                self._check_finite(loss)
                yield pace.report(step=step, loss=loss.item())
            if over or self._saver.is_due(step):
                yield from self._save(pace)
            if over:
                break
            yield from self._look(assessment)
            pace.begin()
        return False

    def _look(self, assessment: Assessment) -> Iterator[Report]:
        """Measure and draw when due; the other processes wait at the next step."""
        if _due(self.trainer.step, self._config.eval_steps):
            yield from self._unless_stopped(assessment.measure())
        if _due(self.trainer.step, self._config.sample_steps):
            yield from self._unless_stopped(assessment.draw())

    def _unless_stopped(self, reports: Iterator[Report]) -> Iterator[Report]:
        """Abandon measuring or drawing once stopped; all processes stop together after the next step."""
        with contextlib.suppress(Stopped):
            if self._accelerator.is_main_process:
                yield from reports

    def _finish(self, assessment: Assessment, *, has_learned: bool) -> Iterator[Report]:
        if not self._accelerator.is_main_process:
            return
        if has_learned and self._config.eval_steps:
            yield from assessment.measure()
        if has_learned or not assessment.is_drawn:
            yield from assessment.draw()
        try:
            finished = assessment.publish()
        except DivergedAdapterError as error:
            raise UserError.plain(f"{error} Please run it again in another --output with {REMEDY}") from error
        yield finished

    def _save(self, pace: Pace, *, must: bool = False) -> Iterator[Report]:
        """Write a checkpoint; if that fails, a run that need not end continues and retries later."""
        if not self._accelerator.is_main_process:
            return
        checkpoint = self.trainer.checkpoint(seconds=pace.seconds)
        self._check_finite(*pace.losses, *checkpoint.adapter.values())
        try:
            path = self._saver.save(checkpoint)
        except UserError as error:
            if must:
                raise
            logger.warning("%s The run continues and tries again later.", error)
            return
        yield CheckpointReport(step=self.trainer.step, path=path)

    def _check_finite(self, *tensors: Tensor) -> None:
        """Raise before a ruined adapter replaces a good checkpoint."""
        if not all(tensor.isfinite().all() for tensor in tensors):
            raise self._ruined()

    def _ruined(self) -> UserError:
        folder = latest_checkpoint(self._config.output)
        start = "run it again" if folder is None else f"name another --output and --pretrained {folder / ADAPTER_FILE}"
        return UserError.plain(f"The loss is no longer a number at step {self.trainer.step}: {start} with {REMEDY}")


def _whole_origin(origin: Origin, config: TrainConfig, base: Components, accelerator: Accelerator) -> Origin:
    examples_per_step = config.examples_per_step * accelerator.num_processes
    return replace(
        origin,
        base=base.fingerprint(),
        preparation=base.preparation(),
        configuration=base.configuration(),
        examples_per_step=examples_per_step,
    )


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
