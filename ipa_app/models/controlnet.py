"""Reading a model's ControlNets: folders as diffusers saves them, or files as ControlNet's authors publish theirs.

Such a file has no configuration. A ControlNet is a copy of its UNet's first half, so the UNet's configuration is used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, DiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
from safetensors.torch import load_file
from torch.utils.weak import WeakTensorKeyDictionary

from ipa_app.adapter.header import is_safetensors, read_beginning
from ipa_app.errors import UserError
from ipa_app.models.controlnets import WRAPPER, ControlNetBase, controlnet_part
from ipa_app.models.entry import ControlNetEntry
from ipa_app.models.families import PipelineTask
from ipa_app.models.parts import Part, check_finite
from ipa_app.models.weights import Header, load_pickled, read_header
from ipa_app.runtime import building

# The layers of the condition embedding after which the number of channels grows, by their original numbers.
_HINT_LAYERS = (0, 4, 8, 12)
_CONDITIONS = "controlnet_cond_embedding."


class ControlNetFiles(ABC):
    """A ControlNet on disk that has been checked to fit a UNet."""

    @property
    @abstractmethod
    def numel(self) -> int:
        """Number of elements of its weights."""

    @abstractmethod
    def load(self, *, dtype: torch.dtype) -> ControlNetModel:
        """Read it into main memory.

        Raises:
            UserError: it cannot be read.
        """


@dataclass(frozen=True)
class _Folder(ControlNetFiles):
    part: Part

    @property
    def numel(self) -> int:
        return self.part.weights().numel

    def load(self, *, dtype: torch.dtype) -> ControlNetModel:
        return self.part.load(ControlNetModel, dtype=dtype)


@dataclass(frozen=True)
class _File(ControlNetFiles):
    path: Path
    unet: UNet2DConditionModel

    @cached_property
    def numel(self) -> int:
        return Header(controlnet_part(read_header(self.path))).numel()

    def layout(self) -> ControlNetModel:
        """Build the ControlNet that fits the UNet, without memory for its weights.

        Raises:
            UserError: the file, as it is now, does not hold a ControlNet of this layout.
        """
        header = Header(controlnet_part(read_header(self.path)))
        _base_of(self.unet).check_file(self.path, header)
        sizes = tuple(_hint_channels(header, number) for number in _HINT_LAYERS)
        with torch.device("meta"):
            layout = ControlNetModel.from_unet(
                self.unet, conditioning_embedding_out_channels=sizes, load_weights_from_unet=False
            )
        tensors = {key: torch.empty(info.shape, device="meta") for key, info in header.items()}
        given = {key: tensor.shape for key, tensor in self._converted(tensors).items()}
        wanted = {key: tensor.shape for key, tensor in layout.state_dict().items()}
        different = sorted(key for key in given.keys() | wanted.keys() if given.get(key) != wanted.get(key))
        if different:
            raise UserError("controlnet.other_unet", name=self.path.name, key=different[0])
        return layout

    def load(self, *, dtype: torch.dtype) -> ControlNetModel:
        controlnet = self.layout()
        is_flat = is_safetensors(read_beginning(self.path, called=self.path.name))
        tensors = controlnet_part(load_file(self.path) if is_flat else load_pickled(self.path))
        converted = {key: tensor.to(dtype, copy=True) for key, tensor in self._converted(tensors).items()}
        controlnet.load_state_dict(converted, assign=True)
        check_finite(controlnet, self.path.name)
        return controlnet

    def _converted(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Return the tensors under diffusers' names for them."""
        if "conv_in.weight" in tensors:
            return dict(tensors)
        converted = convert_controlnet_checkpoint(dict(tensors), dict(self.unet.config))
        return {key: tensor for key, tensor in converted.items() if tensor is not None}


def _hint_channels(header: Header, number: int) -> int:
    ours = f"{_CONDITIONS}blocks.{number // 2 - 1}.weight" if number else f"{_CONDITIONS}conv_in.weight"
    for key in (f"input_hint_block.{number}.weight", f"{WRAPPER}input_hint_block.{number}.weight", ours):
        if key in header:
            return (*header[key].shape, 1)[0]
    return 1


def open_controlnet(path: Path, unet: UNet2DConditionModel, *, title: str) -> ControlNetFiles:
    """Open a ControlNet and check that it was made for a UNet of this shape.

    Args:
        path: its folder or file.
        unet: of that shape; its weights are not needed.
        title: of the model, for the message.

    Raises:
        UserError: it was made for another UNet (the message says which), or cannot be read.
    """
    if path.is_file():
        file = _File(path, unet)
        file.layout()
        return file
    _base_of(unet).check_folder(path)
    part = Part(path, title)
    part.check()
    return _Folder(part)


def _base_of(unet: UNet2DConditionModel) -> ControlNetBase:
    return ControlNetBase(
        cross_attention_dim=unet.config.cross_attention_dim, block_out_channels=tuple(unet.config.block_out_channels)
    )


class ResidentControlNets:
    """The ControlNets of a base model, each in a pipeline with the model's parts. Only for the thread that draws.

    Each is read when it is first requested; the least recently used ones with the same pipeline task are evicted to
    make room.
    """

    def __init__(
        self,
        entries: Collection[ControlNetEntry],
        files: Mapping[str, ControlNetFiles | UserError],
        *,
        dtype: torch.dtype,
        build: Callable[[ControlNetModel, PipelineTask], DiffusionPipeline],
    ) -> None:
        """Hold none yet.

        Args:
            entries: of all.
            files: the files of each by its name in requests, or the error why it cannot be used.
            dtype: of their weights in memory.
            build: builds the pipeline of one and moves it to its place in memory.
        """
        self._tasks = {each.name: each.pipeline_task for each in entries}
        self._room = largest_numel(entries, files)
        self._files = files
        self._dtype = dtype
        self._build = build
        self._held: OrderedDict[str, DiffusionPipeline] = OrderedDict()

    def __contains__(self, controlnet: ControlNetEntry) -> bool:
        """Whether a ControlNet is in memory."""
        return controlnet.name in self._held

    def __len__(self) -> int:
        """Count the ControlNets in memory."""
        return len(self._held)

    @property
    def pipelines(self) -> list[DiffusionPipeline]:
        """The pipelines of the ControlNets in memory."""
        return list(self._held.values())

    def pipeline(self, controlnet: ControlNetEntry) -> DiffusionPipeline:
        """Return a ControlNet's pipeline; it becomes the most recently used.

        Raises:
            UserError: it was made for another model, is damaged, or holds values that are not finite.
        """
        if controlnet not in self:
            self._held[controlnet.name] = self._read(controlnet)
        self._held.move_to_end(controlnet.name)
        return self._held[controlnet.name]

    def _read(self, controlnet: ControlNetEntry) -> DiffusionPipeline:
        files = self._files[controlnet.name]
        if isinstance(files, UserError):
            raise UserError(files.message)
        task = controlnet.pipeline_task
        beside = [name for name in self._held if self._tasks[name] == task]
        while beside and files.numel + sum(_numel(self._files[name]) for name in beside) > self._room[task]:
            del self._held[beside.pop(0)]
        with building():
            network = files.load(dtype=self._dtype).requires_grad_(False).eval()
            embed_conditions_once(network)
            return self._build(network, task)


def embed_conditions_once(controlnet: ControlNetModel) -> None:
    """Have a ControlNet embed its condition, which is the same in every step, in the first step only.

    In a small ControlNet the embedding is half of the work. It is cached for as long as the tensor that it was computed
    from, which a pipeline keeps for one call.
    """
    embedding = controlnet.controlnet_cond_embedding
    embed, embedded = embedding.forward, WeakTensorKeyDictionary()

    def forward(conditioning: torch.Tensor) -> torch.Tensor:
        if conditioning not in embedded:
            embedded[conditioning] = embed(conditioning)
        return embedded[conditioning]

    embedding.forward = forward


def largest_numel(
    entries: Collection[ControlNetEntry], files: Mapping[str, ControlNetFiles | UserError]
) -> dict[PipelineTask, int]:
    """Return the number of elements of each pipeline's largest ControlNet: those in memory may have as many together.

    Args:
        entries: of all.
        files: the files of each by its name in requests, or the error why it cannot be used.
    """
    largest: dict[PipelineTask, int] = {}
    for each in entries:
        largest[each.pipeline_task] = max(largest.get(each.pipeline_task, 0), _numel(files[each.name]))
    return largest


def _numel(files: ControlNetFiles | UserError) -> int:
    return 0 if isinstance(files, UserError) else files.numel
