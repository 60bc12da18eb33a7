"""A UNet that was fine-tuned on image embeddings, asked in the app's words and drawn with by plain diffusers."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionPipeline
from PIL import Image
from torch import nn

from bench.baseline_training import Baseline
from ipa_app.adapter.features import encode_image
from ipa_app.engine.requests import GenerateRequest, Reference
from ipa_app.models.entry import ModelEntry


class FineTuned:
    """The model of a catalogue entry with the baseline in place of its UNet; everything else is the model's own.

    The baseline can be told words only beside its image token, in one sequence: it has neither a second attention nor
    a scale. The ControlNet sees empty words, as in the app, so that it meets nothing new but the UNet.
    """

    def __init__(self, entry: ModelEntry, baseline: Baseline) -> None:
        """Load everything on the CPU in single precision."""
        pipeline: Any = StableDiffusionPipeline.from_pretrained(
            entry.location, unet=baseline.unet, dtype=torch.float32, local_files_only=True
        )
        controlnet = ControlNetModel.from_pretrained(entry.controlnet("pose").path, dtype=torch.float32)
        components = {**pipeline.components, "controlnet": controlnet}
        self._pipeline = pipeline
        self._pose_pipeline: Any = StableDiffusionControlNetPipeline(**components, requires_safety_checker=False)
        for each in (self._pipeline, self._pose_pipeline):
            each.set_progress_bar_config(disable=True)
        self._entry = entry
        self._baseline = baseline
        self._empty = self._words("")
        controlnet.register_forward_pre_hook(self._show_empty_words, with_kwargs=True)

    @property
    def trained_numbers(self) -> int:
        """How many numbers training may change."""
        return sum(weights.numel() for part in vars(self._baseline).values() for weights in part.parameters())

    @torch.inference_mode()
    def draw(self, request: GenerateRequest) -> Image.Image:
        """Draw one picture after words, references or both, in a pose where one is asked for."""
        sides = [self._words(request.prompt)] if request.prompt else []
        sides += [self._token(reference) for reference in request.references]
        states, negative_states = torch.cat(sides, dim=1).chunk(2)
        is_pose = request.task == "pose"
        pipeline = self._pose_pipeline if is_pose else self._pipeline
        return pipeline(
            prompt_embeds=states,
            negative_prompt_embeds=negative_states,
            num_inference_steps=request.steps or self._entry.steps,
            guidance_scale=request.guidance_scale or self._entry.guidance_scale,
            generator=torch.Generator().manual_seed(request.seed),
            **({"image": request.pose} if is_pose else {}),
        ).images[0]

    @torch.no_grad()
    def _words(self, prompt: str) -> torch.Tensor:
        """States of a text and of the empty one, (2, L, text_hidden)."""
        return torch.cat(self._pipeline.encode_prompt(prompt, "cpu", 1, True, negative_prompt=""))

    def _token(self, reference: Reference) -> torch.Tensor:
        """The image token and that of no picture, (2, 1, text_hidden)."""
        pixel_values = self._pipeline.feature_extractor(images=reference.image, return_tensors="pt").pixel_values
        features = encode_image(self._pipeline.image_encoder, pixel_values, "base")
        return self._baseline.token(torch.cat(features))

    def _show_empty_words(self, _module: nn.Module, arguments: tuple, named: dict[str, Any]) -> tuple[tuple, dict]:
        return arguments, {**named, "encoder_hidden_states": self._empty}
