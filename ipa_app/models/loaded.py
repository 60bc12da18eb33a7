"""A base model in memory: one set of weights under all pipelines, and its adapters."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from ipa_app.adapter import ImagePrompt, IPAdapter, encode_image
from ipa_app.errors import UserError
from ipa_app.models.hashing import picture_hash
from ipa_app.models.precision import in_float32

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from PIL import Image
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    from ipa_app.models.catalog import ModelEntry
    from ipa_app.models.families import PipelineTask
    from ipa_app.models.memory_use import MemoryUse
    from ipa_app.models.safety import SafetyChecker

CACHED_PROMPTS = 64
"""Most image prompts kept per model."""
_CACHED_BYTES = 256 * 2**20


class PromptCache:
    """The image prompts used last, by the picture's content and the adapter. Safe to share between threads."""

    def __init__(self, limit: int = CACHED_PROMPTS) -> None:
        """Keep at most `limit` prompts."""
        self._limit = limit
        self._prompts: OrderedDict[tuple[str, str], ImagePrompt] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Count the prompts that are kept."""
        return len(self._prompts)

    def get(self, key: tuple[str, str]) -> ImagePrompt | None:
        """Give a prompt, which becomes the latest used, or None."""
        with self._lock:
            if key in self._prompts:
                self._prompts.move_to_end(key)
            return self._prompts.get(key)

    def put(self, key: tuple[str, str], prompt: ImagePrompt) -> None:
        """Keep a prompt; the one unused for longest goes when there are too many."""
        with self._lock:
            self._prompts[key] = prompt
            self._prompts.move_to_end(key)
            while len(self._prompts) > self._limit:
                self._prompts.popitem(last=False)


def cache_limit(adapters: Iterable[IPAdapter], dtype: torch.dtype) -> int:
    """Say how many image prompts of a model's adapters may be kept.

    One of 16 tokens takes 1 MB in half precision for SD 1.5 with its 16 layers, 11 MB for SDXL with its 70.
    """
    largest = max((adapter.prompt_numbers for adapter in adapters), default=1) * dtype.itemsize
    return max(4, min(CACHED_PROMPTS, _CACHED_BYTES // largest))


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A base model ready to draw. Nothing in it changes from call to call, except the cache of image prompts.

    Attributes:
        entry: what the catalogue says of it.
        pipelines: one per task, all over the same components. Take them from `pipeline`.
        adapters: by what requests call them, "base" and "fine".
        image_encoder: the CLIP vision tower of the adapters.
        image_processor: the picture preparation of that tower.
        device: where the weights are, or where they move when it is their turn.
        dtype: of the weights.
        safety: looks at finished pictures; None where the model brings no safety checker.
        memory: where the model runs and what was done to save memory, for people.
    """

    entry: ModelEntry
    pipelines: Mapping[PipelineTask, DiffusionPipeline]
    adapters: Mapping[str, IPAdapter]
    image_encoder: CLIPVisionModelWithProjection | None
    image_processor: CLIPImageProcessor | None
    device: torch.device
    dtype: torch.dtype
    memory: MemoryUse
    safety: SafetyChecker | None = None
    prompt_cache: PromptCache = field(default_factory=PromptCache)

    @property
    def latent_cell(self) -> int:
        """Side of the square of pixels that one latent stands for."""
        pipeline: Any = self.pipelines["text_to_image"]
        return pipeline.vae_scale_factor

    def latent_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height of the latents of a picture of this width and height in pixels."""
        return size[0] // self.latent_cell, size[1] // self.latent_cell

    def pipeline(self, task: PipelineTask) -> DiffusionPipeline:
        """Give a pipeline for one call.

        It shares the weights, and has a scheduler of its own: what a call leaves in either is seen by no other.

        Raises:
            UserError: the model cannot do this task.
        """
        if task not in self.pipelines:
            raise UserError(f"The model {self.entry.title} has no ControlNet for poses; please choose another model.")
        pipeline = copy.copy(self.pipelines[task])
        pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
        return pipeline

    @contextmanager
    def in_float32(self) -> Iterator[None]:
        """Draw in single precision for a while; for the thread that draws alone."""
        components = {id(part): part for pipeline in self.pipelines.values() for part in pipeline.components.values()}
        with in_float32(part for part in components.values() if isinstance(part, torch.nn.Module)):
            yield

    def adapter(self, name: str) -> IPAdapter:
        """Give an adapter by what requests call it.

        Raises:
            UserError: the model has none of this name.
        """
        if name not in self.adapters:
            has = " and ".join(self.adapters) or "none"
            raise UserError(f"The model {self.entry.title} has no adapter {name!r} (it has {has}).")
        return self.adapters[name]

    def encode(self, image: Image.Image, adapter: str) -> ImagePrompt:
        """Turn a picture into an image prompt of scale 1, or give the one made earlier.

        Args:
            image: a square picture, mode "RGB"; of another one the processor takes the centre.
            adapter: "base" or "fine".

        Raises:
            UserError: the model has no such adapter.
        """
        ip_adapter = self.adapter(adapter)
        key = (picture_hash(image), adapter)
        prompt = self.prompt_cache.get(key)
        if prompt is None:
            with torch.inference_mode():
                pixel_values = self.image_processor(images=image, return_tensors="pt").pixel_values
                features = encode_image(self.image_encoder, pixel_values, ip_adapter.kind)
                prompt = ip_adapter.image_prompt(features.cond, features.uncond)
            self.prompt_cache.put(key, prompt)
        return prompt
