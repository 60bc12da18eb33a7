"""The safety checker that Stable Diffusion 1.x comes with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from PIL import Image
    from transformers import CLIPImageProcessor


@dataclass(frozen=True, kw_only=True)
class SafetyChecker:
    """Looks at every finished picture.

    Attributes:
        network: the model's own checker.
        processor: its picture preparation.
    """

    network: StableDiffusionSafetyChecker
    processor: CLIPImageProcessor

    @torch.inference_mode()
    def flags(self, image: Image.Image) -> bool:
        """Say whether a picture (mode "RGB") is to be withheld, by the same rule as diffusers.

        Source: diffusers pipelines/stable_diffusion/safety_checker.py, which blackens the picture it is handed.
        """
        weight = next(self.network.parameters())
        pixel_values = self.processor(images=image, return_tensors="pt").pixel_values
        _, flagged = self.network(images=[np.zeros((1, 1, 3))], clip_input=pixel_values.to(weight))
        return bool(flagged[0])
