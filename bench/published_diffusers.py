"""Plain diffusers, used as documented: the reference for the app."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image

from bench.published import Hub

_PIPELINES = {
    "sd15": (StableDiffusionPipeline, StableDiffusionInpaintPipeline, StableDiffusionControlNetPipeline),
    "sdxl": (StableDiffusionXLPipeline, StableDiffusionXLInpaintPipeline, StableDiffusionXLControlNetPipeline),
}


class Diffusers:
    """The three pipelines of a family, sharing weights, with one adapter loaded at a time."""

    def __init__(self, family: str, places: Hub, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        """Load everything, starting with the base adapter.

        Args:
            family: "sd15" or "sdxl".
            places: paths of its files.
            device: a torch device.
            dtype: of all weights.
        """
        text_to_image, inpaint, pose = _PIPELINES[family]
        pipeline: Any = text_to_image.from_pretrained(
            places.model, variant="fp16", dtype=dtype, local_files_only=True
        ).to(device)
        controlnet: Any = ControlNetModel.from_pretrained(
            places.controlnet, variant="fp16", dtype=dtype, local_files_only=True
        )
        controlnet.to(device)
        self._places = places
        self._adapter = ""
        self._load_adapter(pipeline, "base")
        self._pipelines: dict[str, Any] = {
            "text_to_image": pipeline,
            "inpaint": inpaint(**pipeline.components),
            "pose": pose(**pipeline.components, controlnet=controlnet),
        }
        for each in self._pipelines.values():
            each.set_progress_bar_config(disable=True)

    def draw(self, task: str, adapter: str, scale: float, **arguments: Any) -> Image.Image:
        """Draw one picture; load the adapter first if it is not the last one used."""
        pipeline = self._pipelines[task]
        self._load_adapter(pipeline, adapter)
        pipeline.set_ip_adapter_scale(scale)
        return pipeline(**arguments).images[0]

    def _load_adapter(self, pipeline: Any, adapter: str) -> None:
        if adapter == self._adapter:
            return
        folder, _, name = getattr(self._places, adapter).partition("/")
        pipeline.load_ip_adapter(
            str(self._places.adapters),
            subfolder=folder,
            weight_name=name,
            image_encoder_folder="models/image_encoder",
            local_files_only=True,
        )
        pipeline.image_encoder.to(pipeline.unet.dtype)
        self._adapter = adapter
