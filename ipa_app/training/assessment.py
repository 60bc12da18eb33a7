"""Evaluate a run's adapter during training and at the end: held-out loss, sample sheets, the finished file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ipa_app.runtime import written_whole
from ipa_app.training.components import Components
from ipa_app.training.config import TrainConfig
from ipa_app.training.examples import EncodedBatch, TrainingBatch
from ipa_app.training.loop import Trainer
from ipa_app.training.loss import HeldoutLoss
from ipa_app.training.reports import FinishedReport, HeldoutReport, SampleReport
from ipa_app.training.sampling import Sample, Sampler, SampleSheet
from ipa_app.training.saving import publish
from ipa_app.training.stopping import Stop, Stopped

logger = logging.getLogger(__name__)


class Assessment:
    """Measures and draws with the adapter as it is now; it changes nothing, so it may be abandoned at any moment."""

    def __init__(
        self,
        config: TrainConfig,
        *,
        base: Components,
        trainer: Trainer,
        heldout: Sequence[TrainingBatch],
        samples: Sequence[Sample],
        stop: Stop,
    ) -> None:
        """Encode once what is measured and drawn repeatedly.

        Args:
            config: of the run.
            base: frozen, with our attention processors installed.
            trainer: owns the adapter.
            heldout: examples to measure on; nothing is measured without any.
            samples: rows of the sample sheet; nothing is drawn without any.
            stop: polled during the work.
        """
        self._config = config
        self._base = base
        self._trainer = trainer
        self._stop = stop
        self._heldout = HeldoutLoss(heldout, encoder=trainer.encoder, schedule=trainer.schedule, seed=config.seed)
        self._sampler = Sampler(base, encoder=trainer.encoder, config=config, between_steps=self._end_if_asked)
        self._samples = samples
        self._sheet = SampleSheet(self._sampler, samples) if samples else None

    def measure(self) -> Iterator[HeldoutReport]:
        """Measure the held-out loss if there are held-out examples.

        Raises:
            Stopped: the work was stopped.
        """
        if len(self._heldout):
            yield self._heldout.measure(self._predict, step=self._trainer.step)

    def draw(self) -> Iterator[SampleReport]:
        """Draw and write a sample sheet if there are samples.

        Raises:
            Stopped: the work was stopped.
        """
        if self._sheet is None:
            return
        path = self._config.output / f"samples-{self._trainer.step:08d}.png"
        sheet = self._sheet.draw(self._trainer.adapter)
        try:
            with written_whole(path) as part:
                sheet.save(part, format="PNG")
        except OSError as error:
            logger.warning("%s cannot be written (%s); the run continues without it.", path, error.strerror)
            return
        yield SampleReport(step=self._trainer.step, path=path)

    @property
    def is_drawn(self) -> bool:
        """Whether this step's sheet is written."""
        return (self._config.output / f"samples-{self._trainer.step:08d}.png").is_file()

    def publish(self) -> FinishedReport:
        """Write the finished file; see `ipa_app.training.saving.publish`.

        Raises:
            UserError: it cannot be written.
            Stopped: its check was stopped.
        """
        if self._samples:
            features = self._sampler.features(self._samples[0].reference)
        else:  # any features will do to compare two adapters
            features = torch.randn_like(self._trainer.encoder.empty_features)
        return publish(
            self._trainer.adapter,
            config=self._config,
            unet=self._base.unet,
            sampler=self._sampler,
            features=features,
            step=self._trainer.step,
        )

    def _predict(self, noisy: Tensor, timesteps: Tensor, batch: EncodedBatch, *, image: bool) -> Tensor:
        self._end_if_asked()
        return self._trainer.predict(noisy, timesteps, batch, image=image)

    def _end_if_asked(self) -> None:
        if self._stop():
            raise Stopped
