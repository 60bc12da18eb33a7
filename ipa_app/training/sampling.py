"""Sample sheets with fixed seeds: the only honest way to see how training is going."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import SchedulerMixin
from PIL import Image, ImageDraw
from torch import Tensor

from ipa_app.adapter.image_prompt import ImagePrompt, ImagePromptBatch
from ipa_app.adapter.ip_adapter import IPAdapter
from ipa_app.errors import UserError
from ipa_app.imaging.cropping import square_for_clip
from ipa_app.models.latents import decode
from ipa_app.models.schedule import can_do_steps
from ipa_app.training.components import Components
from ipa_app.training.config import TrainConfig
from ipa_app.training.encoding import FrozenEncoder

GAP = 4
HEADER = 14
ENOUGH_STEPS = 20
ROWS_AT_A_TIME = 4
"""Pictures drawn per pipeline call; bounded, as a whole sheet may not fit in memory."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A reference picture and the text that goes with it, one row of the sheet."""

    reference: Image.Image
    text: str


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of the sheet: a way of using a sample.

    Attributes:
        scale: of the image prompt; 0 omits it.
        text: whether to use the sample's text or the empty one.
    """

    title: str
    scale: float
    text: bool


COLUMNS = (
    Column(title="text", scale=0.0, text=True),
    Column(title="picture", scale=1.0, text=False),
    Column(title="both, 0.6", scale=0.6, text=True),
)


def check_steps(config: TrainConfig, base: Components) -> None:
    """Check that samples can be drawn in the requested number of steps.

    Raises:
        UserError: the base model's scheduler does not support so many (some would silently draw nonsense), or an
            adapter cannot be trained on what it predicts.
    """
    steps, most = config.num_inference_steps, base.noise_schedule().config["num_train_timesteps"]

    def can_do(number: int) -> bool:
        return number <= most and can_do_steps(base.scheduler, number)

    if not can_do(steps):
        name = type(base.scheduler).__name__
        enough = next(filter(can_do, range(ENOUGH_STEPS, 0, -1)))  # every scheduler has been tried with three
        bound = "more" if steps > enough else "fewer"
        raise UserError.plain(
            f"num_inference_steps is {steps}, {bound} than the base model's {name} allows; {enough} are enough."
        )


def _like(scheduler: SchedulerMixin) -> Any:
    return type(scheduler).from_config(scheduler.config)


class Sampler:
    """Draws with an adapter through the standard diffusers pipeline, as the app does."""

    def __init__(
        self,
        base: Components,
        *,
        encoder: FrozenEncoder,
        config: TrainConfig,
        between_steps: Callable[[], None] = lambda: None,
    ) -> None:
        """Build the pipeline around the frozen parts; nothing is copied.

        Args:
            base: frozen, with our attention processors installed.
            encoder: of the same base model.
            config: steps, guidance and seed of the samples.
            between_steps: called after every denoising step; an exception it raises ends the drawing.
        """
        self._encoder = encoder
        self._config = config
        self._between_steps = between_steps
        self._scheduler = base.scheduler
        self._vae = base.vae
        self._pipe: Any = base.pipeline()

    def features(self, reference: Image.Image) -> Tensor:
        """Return the image encoder's features of a reference, (1, ...)."""
        return self._encoder.image_features(self._encoder.clip_pixels([reference])).cond

    @torch.no_grad()
    def prompt(self, adapter: IPAdapter, features: Tensor, *, scale: float) -> ImagePrompt:
        """Return the image prompt that an adapter makes from features (1, ...)."""
        return adapter.image_prompt(features, self._encoder.empty_features, scale=scale)

    def draw(self, texts: Sequence[str], prompts: Sequence[ImagePrompt]) -> list[Image.Image]:
        """Draw one picture per text and image prompt; picture i of a call always starts from the same noise.

        Args:
            texts: the text prompts.
            prompts: the image prompts, one per text.
        """
        return [self._decode(latents) for latents in self.draw_latents(texts, prompts).split(1)]

    @torch.no_grad()
    def draw_latents(self, texts: Sequence[str], prompts: Sequence[ImagePrompt]) -> Tensor:
        """Draw as `draw` does, but return the latents (B, C, h, w) before the VAE."""
        guidance = self._config.guidance_scale > 1
        steps = self._config.num_inference_steps
        # The pipeline modifies its scheduler's timesteps in place; the base model's own must stay as loaded.
        self._pipe.scheduler = _like(self._scheduler)
        batch = ImagePromptBatch.stack([[prompt] for prompt in prompts], guidance=guidance, steps=steps)
        return self._pipe(
            list(texts),
            num_inference_steps=steps,
            guidance_scale=self._config.guidance_scale,
            generator=[torch.Generator().manual_seed(self._config.seed + row) for row in range(len(texts))],
            cross_attention_kwargs={"image_prompt": batch},
            output_type="latent",
            callback_on_step_end=self._after_step,
        ).images

    def _after_step(self, _pipe: object, _step: int, _timestep: Tensor, inputs: dict[str, Any]) -> dict[str, Any]:
        self._between_steps()
        return inputs

    @torch.no_grad()
    def _decode(self, latents: Tensor) -> Image.Image:
        """Decode one picture from latents (1, C, h, w), in the decoder's own precision."""
        return self._pipe.image_processor.postprocess(decode(self._vae, latents))[0]


class SampleSheet:
    """The same samples every time, one per row: the reference, text alone, picture alone, both."""

    def __init__(self, sampler: Sampler, samples: Sequence[Sample]) -> None:
        """Encode the references once.

        Args:
            sampler: draws the pictures.
            samples: at least one.
        """
        self._sampler = sampler
        self._samples = samples
        self._features = [sampler.features(sample.reference) for sample in samples]

    def draw(self, adapter: IPAdapter) -> Image.Image:
        """Draw the whole sheet, mode RGB."""
        columns = [self._column(adapter, column) for column in COLUMNS]
        side = columns[0][0].width
        references = [square_for_clip(sample.reference).resize((side, side)) for sample in self._samples]
        titles = ["reference", *(column.title for column in COLUMNS)]
        return _sheet(titles, [references, *columns], side)

    def _column(self, adapter: IPAdapter, column: Column) -> list[Image.Image]:
        pictures: list[Image.Image] = []
        for first in range(0, len(self._samples), ROWS_AT_A_TIME):
            rows = range(first, min(first + ROWS_AT_A_TIME, len(self._samples)))
            texts = [self._samples[row].text if column.text else "" for row in rows]
            prompts = [self._sampler.prompt(adapter, self._features[row], scale=column.scale) for row in rows]
            pictures.extend(self._sampler.draw(texts, prompts))
        return pictures


def _sheet(titles: Sequence[str], columns: Sequence[Sequence[Image.Image]], side: int) -> Image.Image:
    cell = side + GAP
    sheet = Image.new("RGB", (cell * len(columns) + GAP, cell * len(columns[0]) + GAP + HEADER), "white")
    pen = ImageDraw.Draw(sheet)
    for x, (title, column) in enumerate(zip(titles, columns, strict=True)):
        pen.text((GAP + x * cell, 2), title, fill="black")
        for y, picture in enumerate(column):
            sheet.paste(picture, (GAP + x * cell, HEADER + GAP + y * cell))
    return sheet
