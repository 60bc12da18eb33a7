"""A base model in memory: one set of weights shared by all pipelines, and its adapters."""

from __future__ import annotations

import copy
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from diffusers.models.resnet import ResnetBlock2D

from ipa_app.adapter import ImagePrompt, IPAdapter, attention_layers, encode_image, read_adapter
from ipa_app.adapter.files import build_adapter
from ipa_app.adapter.kinds import USUAL_NAMES
from ipa_app.models.adapters import AdapterBase, file_stamp
from ipa_app.models.caches import PromptCache
from ipa_app.models.entry import adapter_gone
from ipa_app.models.hashing import file_hash, picture_hash
from ipa_app.models.latents import in_float32
from ipa_app.models.parts import check_finite
from ipa_app.runtime import BUILD_LOCK, COMPILE_LOCK, held

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from pathlib import Path

    from diffusers import AutoencoderKL, AutoencoderTiny, DiffusionPipeline
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from PIL import Image
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    from ipa_app.adapter.kinds import VisionWidths
    from ipa_app.models.compiling import UNetCompiler
    from ipa_app.models.controlnet import ResidentControlNets
    from ipa_app.models.entry import AdapterEntry, ControlNetEntry, ModelEntry
    from ipa_app.models.families import Family, PipelineTask
    from ipa_app.models.fast_way import ResidentFastWay
    from ipa_app.models.offloading import Offloading
    from ipa_app.models.state import MemoryUse


@dataclass(frozen=True, kw_only=True)
class SafetyChecker:
    """Checks every finished picture.

    Attributes:
        network: the model's own checker.
        processor: its image processor.
    """

    network: StableDiffusionSafetyChecker
    processor: CLIPImageProcessor

    @torch.inference_mode()
    def flags(self, image: Image.Image) -> bool:
        """Whether a picture (mode "RGB") must be withheld, by the same rule as in diffusers.

        Source: diffusers pipelines/stable_diffusion/safety_checker.py, which blackens the picture it is handed.
        """
        weight = next(self.network.parameters())
        pixel_values = self.processor(images=image, return_tensors="pt").pixel_values
        _, flagged = self.network(images=[np.zeros((1, 1, 3))], clip_input=pixel_values.to(weight))
        return bool(flagged[0])


_LEAST_ROOM = 512 * 2**20
_BLOCKS = AutoencoderTinyBlock, BasicTransformerBlock, ResnetBlock2D


class Checks:
    """Callbacks run before each block of networks, one per thread. The networks keep the hooks for them."""

    def __init__(self) -> None:
        """Call nothing yet."""
        self._own = threading.local()
        self._hooked: WeakSet[torch.nn.Module] = WeakSet()

    @contextmanager
    def by(self, check: Callable[[], None], networks: Iterable[torch.nn.Module]) -> Iterator[None]:
        """Have this thread call `check` in these networks inside the `with` block."""
        for network in networks:
            if network not in self._hooked:
                self._hooked.add(network)
                for block in filter(lambda part: isinstance(part, _BLOCKS), network.modules()):
                    block.register_forward_pre_hook(self._before)
        self._own.check = check
        try:
            yield
        finally:
            del self._own.check

    def __deepcopy__(self, _: object) -> Checks:
        """Return itself: a network that shares another's weights is called by the same threads."""
        return self

    def _before(self, *_: object) -> None:
        if (check := getattr(self._own, "check", None)) is not None:
            check()


class ResidentAdapter(NamedTuple):
    """An adapter in memory, with the SHA-256 of the file that it was read from."""

    network: IPAdapter
    sha256: str


class ResidentAdapters:
    """The adapters of a base model that are in memory. All methods may be called from any thread.

    Each is read when it is first requested, and again when its file has changed; the least recently used are evicted to
    make room. An adapter whose file is gone is dropped, except for a model's usual ones.
    """

    def __init__(
        self, unet: UNet2DConditionModel, tower: VisionWidths | None, *, place: torch.device, room: int
    ) -> None:
        """Hold no adapter yet.

        Args:
            unet: the base model.
            tower: the widths of its image encoder; None if it has none.
            place: the device where adapters are held.
            room: bytes that all of them together may take; a single one may take more.
        """
        self._unet = unet
        self._base = AdapterBase(layers=attention_layers(unet), tower=tower)
        self._place = place
        self._room = max(room, _LEAST_ROOM)
        self._held: OrderedDict[Path, _Held] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, adapter: AdapterEntry) -> bool:
        """Whether an adapter is in memory, as its file is now."""
        held = self._held.get(adapter.file)
        return held is not None and held.is_current()

    def __len__(self) -> int:
        """Count the adapters in memory."""
        return len(self._held)

    def get(self, adapter: AdapterEntry) -> ResidentAdapter:
        """Return an adapter, which becomes the most recently used.

        Raises:
            UserError: its file is gone or damaged, holds values that are not finite, or was made for another model.
        """
        with self._lock:
            self._held = OrderedDict((path, held) for path, held in self._held.items() if held.is_current())
            if adapter.file not in self._held:
                self._held[adapter.file] = self._read(adapter)
            self._held.move_to_end(adapter.file)
            return self._held[adapter.file].resident

    def _read(self, adapter: AdapterEntry) -> _Held:
        if not adapter.file.is_file():
            raise adapter_gone(adapter.name)
        while True:
            stamp = file_stamp(adapter.file)
            resident = ResidentAdapter(self._network(adapter), file_hash(adapter.file))
            # A file that was replaced meanwhile is read again: prompts are cached by its SHA-256.
            if file_stamp(adapter.file) == stamp:
                return _Held(adapter, stamp, resident)

    def _network(self, adapter: AdapterEntry) -> IPAdapter:
        with BUILD_LOCK:
            file = read_adapter(adapter.file)
            self._base.check(file)
            self._make_room(file.numel * self._unet.dtype.itemsize)
            network = build_adapter(file, self._unet)
            check_finite(network, adapter.file.name)
            return network.to(self._place)

    def _make_room(self, size: int) -> None:
        while self._held and size + sum(held.num_bytes for held in self._held.values()) > self._room:
            self._held.popitem(last=False)


class _Held(NamedTuple):
    """An adapter in memory, and the stamp of its file when it was read."""

    adapter: AdapterEntry
    stamp: tuple[int, int]
    resident: ResidentAdapter

    def is_current(self) -> bool:
        """Whether the file is unchanged; a usual adapter no longer needs its file."""
        if not self.adapter.file.is_file():
            return self.adapter.name in USUAL_NAMES
        return file_stamp(self.adapter.file) == self.stamp

    @property
    def num_bytes(self) -> int:
        """Bytes that its weights take."""
        return sum(parameter.nbytes for parameter in self.resident.network.parameters())


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A base model ready to draw. Only the adapters, ControlNets and prompts kept in memory change between calls.

    Attributes:
        entry: its catalogue entry.
        family: how it is built.
        pipelines: one per task, all with the same components. Use `pipeline` to get one for a call.
        controlnets: those in memory, each in a pipeline with these components; loads any of the entry's on request.
        adapters: those in memory; loads any that fits on request.
        image_encoder: the CLIP image encoder of the adapters.
        image_processor: the image processor of that encoder.
        device: where the weights are, or where they are moved for their turn.
        dtype: of the weights.
        fast: draws in a few steps, if the model has such a way.
        safety: checks finished pictures; None if the model has no safety checker.
        tiny_vae: decodes fast live pictures and previews; None if the model has no small autoencoder.
        memory: where the model runs and what was done to save memory, for users.
        offloading: moves its parts to the device in turn; None if all stay there.
        compiler: runs its UNets compiled; None if they are not compiled.
    """

    entry: ModelEntry
    family: Family
    pipelines: Mapping[PipelineTask, DiffusionPipeline]
    controlnets: ResidentControlNets
    adapters: ResidentAdapters
    image_encoder: CLIPVisionModelWithProjection | None
    image_processor: CLIPImageProcessor | None
    device: torch.device
    dtype: torch.dtype
    memory: MemoryUse
    fast: ResidentFastWay
    safety: SafetyChecker | None = None
    tiny_vae: AutoencoderTiny | None = None
    compiler: UNetCompiler | None = None
    offloading: Offloading | None = None
    prompt_cache: PromptCache = field(default_factory=PromptCache)
    checks: Checks = field(default_factory=Checks)

    @property
    def scheduler(self) -> str:
        """Class name of its scheduler; the fast way has its own."""
        pipeline: Any = self.pipelines["text_to_image"]
        return type(pipeline.scheduler).__name__

    @property
    def precision(self) -> str:
        """PyTorch's name of the weights' dtype."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def tokenizers(self) -> list[Any]:
        """Its tokenizers, one per text encoder."""
        return [getattr(self.pipelines["text_to_image"], name) for name in self.family.tokenizers]

    @property
    def vae(self) -> AutoencoderKL:
        """The autoencoder that turns pictures into latents and back."""
        return self.pipelines["text_to_image"].components["vae"]

    @property
    def draft_vae(self) -> AutoencoderKL | AutoencoderTiny:
        """The fastest decoder, for pictures that nobody keeps."""
        return self.tiny_vae or self.vae

    @property
    def latent_cell(self) -> int:
        """Side, in pixels, of the square that one latent stands for."""
        pipeline: Any = self.pipelines["text_to_image"]
        return pipeline.vae_scale_factor

    def latent_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the width and height of the latents of a picture of this width and height in pixels."""
        return size[0] // self.latent_cell, size[1] // self.latent_cell

    def pipeline(
        self, task: PipelineTask, *, controlnet: ControlNetEntry | None = None, is_fast: bool = False
    ) -> DiffusionPipeline:
        """Return a pipeline for one call.

        It shares the weights and has its own scheduler, so a call leaves no state behind for another.

        Args:
            task: what it does.
            controlnet: of the entry, for "controlnet"; it is read now if it is not in memory.
            is_fast: whether it draws in the model's fast way, which is read now if it is not in memory.

        Raises:
            UserError: the ControlNet or the fast way cannot be used, and why.
        """
        own = self.pipelines[task] if controlnet is None else self.controlnets.pipeline(controlnet)
        pipeline: Any = self.fast.draw_with(own) if is_fast else copy.copy(own)
        pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
        return pipeline if self.compiler is None else self.compiler.applied_to(pipeline)

    @property
    def networks(self) -> list[torch.nn.Module]:
        """All networks in memory that pictures are drawn with, each once."""
        pipelines = (*self.pipelines.values(), *self.controlnets.pipelines)
        components = {id(part): part for pipeline in pipelines for part in pipeline.components.values()}
        parts = (*components.values(), self.tiny_vae, *self.fast.networks)
        return [part for part in parts if isinstance(part, torch.nn.Module)]

    def rest(self) -> None:
        """Move offloaded parts from the device back to main memory; only for the thread that draws."""
        if self.offloading is not None:
            self.offloading.rest()

    @contextmanager
    def in_float32(self, check: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Draw in single precision inside the `with` block; only for the thread that draws.

        Args:
            check: called while waiting for a compiler; may raise to stop.
        """
        self.rest()  # afterwards each part goes back to where it is now
        # Nothing may be compiled from these temporary weights.
        with held(COMPILE_LOCK, check), in_float32(self.networks):
            yield

    @contextmanager
    def checked_by(self, check: Callable[[], None]) -> Iterator[None]:
        """Have this thread call `check` before every block, within denoising steps and decoding.

        Args:
            check: may raise, to stop there. A compiled UNet is one piece and runs to the end of its step.
        """
        # A hook would be compiled into the network, and it is not one of its inputs.
        compiled = () if self.compiler is None else UNet2DConditionModel
        with self.checks.by(check, [each for each in self.networks if not isinstance(each, compiled)]):
            yield

    def encode(self, image: Image.Image, adapter: AdapterEntry) -> ImagePrompt:
        """Turn a picture into an image prompt of scale 1, or return the cached one.

        A prompt with infinities or NaN is made again in single precision, and stays in it.

        Args:
            image: a square picture, mode "RGB"; the processor crops another one to its centre.
            adapter: that makes the prompt.

        Raises:
            UserError: the adapter's file is gone or damaged.
        """
        network, sha256 = self.adapters.get(adapter)
        key = (picture_hash(image), sha256)
        prompt = self.prompt_cache.get(key)
        if prompt is None:
            prompt = self._encoded(image, network)
            if not prompt.is_finite and self.dtype != torch.float32:
                logger.warning("%s ran out of range in an image prompt; computing it again in float32", self.dtype)
                self.rest()
                with in_float32([self.image_encoder, network]):
                    prompt = self._encoded(image, network)
            if prompt.is_finite:  # otherwise the drawing fails and reports it
                self.prompt_cache.put(key, prompt)
        return prompt

    @torch.inference_mode()
    def _encoded(self, image: Image.Image, network: IPAdapter) -> ImagePrompt:
        pixel_values = self.image_processor(images=image, return_tensors="pt").pixel_values
        features = encode_image(self.image_encoder, pixel_values, network.kind)
        return network.image_prompt(features.cond, features.uncond)
