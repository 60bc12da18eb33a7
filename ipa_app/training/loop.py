"""The training loop itself: frozen UNet, trained adapter, one optimizer step after another."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from ipa_app.adapter.image_prompt import ImagePromptBatch, ImageTerm
from ipa_app.adapter.ip_adapter import IPAdapter
from ipa_app.training.checkpoint import Checkpoint
from ipa_app.training.components import Components
from ipa_app.training.config import TrainConfig
from ipa_app.training.distributed import new_accelerator
from ipa_app.training.encoding import FrozenEncoder
from ipa_app.training.examples import Draws, EncodedBatch, TrainingBatch, draw
from ipa_app.training.loss import clean_latents, mse, prediction_target
from ipa_app.training.optimization import Optimization, OptimizationConfig


class GuidedUNet(nn.Module):
    """The frozen UNet guided by the adapter: one forward pass of training."""

    def __init__(self, unet: UNet2DConditionModel, adapter: IPAdapter, *, scale: float = 1.0) -> None:
        """Join the UNet and the adapter.

        Args:
            unet: with our attention processors installed.
            adapter: made for this UNet.
            scale: of the image prompt, the paper's lambda.
        """
        super().__init__()
        self.unet = unet
        self.adapter = adapter
        self.scale = scale

    def forward(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        text_states: Tensor,
        features: Tensor | None,
        added: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Predict the noise or velocity of a batch.

        Args:
            noisy: (B, C, h, w) latents with noise.
            timesteps: (B,).
            text_states: (B, L, D).
            features: (B, ...) of the references; None predicts without pictures.
            added: added conditions of the UNet, see `FrozenEncoder.added`.

        Returns:
            (B, C, h, w), noise or velocity, whichever the UNet predicts.
        """
        prompt = None if features is None else {"image_prompt": self._image_prompt(features)}
        return self.unet(noisy, timesteps, text_states, cross_attention_kwargs=prompt, added_cond_kwargs=added).sample

    def _image_prompt(self, features: Tensor) -> ImagePromptBatch:
        """Build one dense term per layer with one picture per row, so that rows need not be split and stacked again."""
        tokens = self.adapter.tokens(features)
        rows = torch.arange(len(tokens), device=tokens.device)
        projections = zip(self.adapter.layer_names, self.adapter.ip_adapter.values(), strict=True)
        terms = {}
        for name, pair in projections:
            key, value = pair.to_k_ip(tokens), self.scale * pair.to_v_ip(tokens)
            terms[name] = [ImageTerm(rows=rows, key=key, value=value, steps=range(1))]
        return ImagePromptBatch(terms, num_rows=len(tokens))


def weight_dtype(config: TrainConfig) -> torch.dtype:
    """Return the precision of the frozen model."""
    return {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[config.mixed_precision]


def make_accelerator(config: TrainConfig) -> Accelerator:
    """Set up device, precision and processes of a run; see `new_accelerator`."""
    return new_accelerator(config.mixed_precision, gradient_accumulation_steps=config.gradient_accumulation_steps)


def optimization_config(config: TrainConfig) -> OptimizationConfig:
    """Return how a run optimizes the adapter's weights."""
    return OptimizationConfig(
        max_steps=config.max_steps,
        learning_rate=config.learning_rate,
        lr_schedule=config.lr_schedule,
        weight_decay=config.weight_decay,
    )


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the learning rate of the step that follows `step` steps."""
    return optimization_config(config).learning_rate_after(step)


class Trainer:
    """Owns what changes during a run: the adapter and the state of its optimization.

    Attributes:
        adapter: float32, on the accelerator's device.
        encoder: of the frozen base model.
        schedule: noise schedule of the base model.
    """

    def __init__(self, config: TrainConfig, *, base: Components, adapter: IPAdapter, accelerator: Accelerator) -> None:
        """Set up the optimizer.

        Args:
            config: of the run.
            base: frozen, on the accelerator's device, with our attention processors installed.
            adapter: to be trained.
            accelerator: see `make_accelerator`.
        """
        self._config = config
        self._accelerator = accelerator
        self.adapter = adapter.to(accelerator.device, torch.float32).train().requires_grad_(True)
        self.encoder = FrozenEncoder(base, kind=config.adapter)
        self.schedule = base.noise_schedule()
        if config.gradient_checkpointing:
            base.unet.enable_gradient_checkpointing()
        else:
            base.unet.disable_gradient_checkpointing()
        self._guided = GuidedUNet(base.unet, self.adapter, scale=config.scale)
        # With several processes the prepared model exchanges gradients; measuring must not, so it uses the bare one.
        self._optimization = Optimization(self._guided, optimization_config(config), accelerator=accelerator)

    @property
    def step(self) -> int:
        """Steps done."""
        return self._optimization.step

    def run(self, batches: Iterator[TrainingBatch]) -> Iterator[Tensor]:
        """Train endlessly, yielding the loss () after each step, still on the device.

        The adapter may be used, saved or measured between two steps. The caller stops when it has enough.

        Args:
            batches: starting after those of the steps done; `gradient_accumulation_steps` are taken per step.
        """
        parts = range(1, self._config.gradient_accumulation_steps)
        for first in batches:
            numbered = chain([(0, first)], zip(parts, batches, strict=False))
            losses = (partial(self._loss, batch, part) for part, batch in numbered)
            yield self._optimization.advance(losses)

    def predict(self, noisy: Tensor, timesteps: Tensor, batch: EncodedBatch, *, image: bool) -> Tensor:
        """Return what `GuidedUNet` predicts now, with or without the picture, in the precision of the run.

        For measuring; no gradients are exchanged between processes.
        """
        with self._accelerator.autocast():
            features = batch.features if image else None
            return self._guided(noisy, timesteps, batch.text_states, features, self.encoder.added(batch))

    def checkpoint(self, *, seconds: float) -> Checkpoint:
        """Return the state after the latest step.

        Args:
            seconds: training time so far.
        """
        return Checkpoint(
            step=self.step,
            seconds=seconds,
            adapter=self.adapter.state_dict(),
            optimization=self._optimization.state(),
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore a state; the following steps repeat those that followed it then."""
        self.adapter.load_state_dict(checkpoint.adapter)
        self._optimization.restore(checkpoint.optimization, step=checkpoint.step)

    def _loss(self, batch: TrainingBatch, part: int) -> Tensor:
        encoded = self.encoder.encode(batch)
        draws = self._draw(encoded.latents.shape, part).to(encoded.latents.device)
        latents = clean_latents(encoded, draws)
        noisy = self.schedule.add_noise(latents, draws.noise, draws.timesteps).to(encoded.latents.dtype)
        seen = encoded.without_text(draws.no_text, self.encoder.empty_text)
        seen = seen.without_image(draws.no_image, self.encoder.empty_features)
        added = self.encoder.added(seen)
        prediction = self._optimization.model(noisy, draws.timesteps, seen.text_states, seen.features, added)
        target = prediction_target(self.schedule, latents, noise=draws.noise, timesteps=draws.timesteps)
        return mse(prediction, target, encoded.loss_weights).mean()

    def _draw(self, shape: torch.Size, part: int) -> Draws:
        """Draw the random numbers of one batch's examples.

        Those of the n-th example of the run follow from the seed and n alone. So there is nothing to save, a resumed
        run is exact, and the run is the same whether its examples come in larger batches, in several batches per step
        or on several processes.
        """
        batch = self.step * self._config.gradient_accumulation_steps + part
        first = (batch * self._accelerator.num_processes + self._accelerator.process_index) * shape[0]
        return Draws.cat([self._draw_example(number, shape[1:]) for number in range(first, first + shape[0])])

    def _draw_example(self, number: int, shape: torch.Size) -> Draws:
        seed = int(np.random.SeedSequence([self._config.seed, number]).generate_state(1, np.uint64)[0] >> 1)
        return draw(
            torch.Size([1, *shape]),
            generator=torch.Generator().manual_seed(seed),
            num_train_timesteps=self.schedule.config["num_train_timesteps"],
            drop_text=self._config.drop_text,
            drop_image=self._config.drop_image,
            drop_both=self._config.drop_both,
            late=self._config.timestep_sampling == "late",
        )
