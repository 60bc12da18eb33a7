"""A model's ControlNet: a folder as diffusers saves it, or one file as ControlNet's authors publish theirs.

Such a file has no configuration with it. A ControlNet is a copy of its UNet's first half, so the UNet's is taken.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
from safetensors.torch import load_file

from ipa_app.adapter.fitting import base_name
from ipa_app.adapter.header import is_safetensors, read_beginning
from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.contents import contents_of
from ipa_app.models.parts import Part, check_finite
from ipa_app.models.weights import Header, load_pickled, quantised, read_header

_WRAPPER = "control_model."
# The layers of the part that looks at the pose after which there are more channels, by their original numbers.
_HINT_LAYERS = (0, 4, 8, 12)
_CONDITIONS = "controlnet_cond_embedding."


class ControlNetFiles(ABC):
    """A ControlNet on disk, found to belong to a UNet."""

    @property
    @abstractmethod
    def numbers(self) -> int:
        """How many numbers its weights have."""

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
    def numbers(self) -> int:
        return self.part.weights().numbers

    def load(self, *, dtype: torch.dtype) -> ControlNetModel:
        return self.part.load(ControlNetModel, dtype=dtype)


@dataclass(frozen=True)
class _File(ControlNetFiles):
    path: Path
    unet: UNet2DConditionModel

    @cached_property
    def header(self) -> Header:
        return read_header(self.path)

    @property
    def numbers(self) -> int:
        return self.header.numbers()

    @cached_property
    def layout(self) -> ControlNetModel:
        """The ControlNet that fits the UNet, without memory for its weights."""
        sizes = [self._hint_channels(number) for number in _HINT_LAYERS]
        with torch.device("meta"):
            return ControlNetModel.from_unet(
                self.unet, conditioning_embedding_out_channels=tuple(sizes), load_weights_from_unet=False
            )

    def check(self) -> None:
        name = self.path.name
        contents = contents_of(self.header)
        if contents.is_part != Message("content.controlnet") or self.header.has("lora_controlnet"):
            raise UserError("controlnet.not_one", file=name, content=contents.is_part or Message("content.unknown"))
        if kind := self.header.quantisation:
            raise quantised(name, kind)
        tensors = {key: torch.empty(info.shape, device="meta") for key, info in self.header.items()}
        given = {key: tensor.shape for key, tensor in self._converted(tensors).items()}
        wanted = {key: tensor.shape for key, tensor in self.layout.state_dict().items()}
        different = sorted(key for key in given.keys() | wanted.keys() if given.get(key) != wanted.get(key))
        if not different:
            return
        text = next((shape[1] for key, shape in given.items() if key.endswith("attn2.to_k.weight")), None)
        if text is not None:
            _check_width(name, text, self.unet)
        raise UserError("controlnet.other_unet", name=name, key=different[0])

    def load(self, *, dtype: torch.dtype) -> ControlNetModel:
        is_flat = is_safetensors(read_beginning(self.path, called=self.path.name))
        tensors = load_file(self.path) if is_flat else load_pickled(self.path)
        controlnet = self.layout
        converted = {key: tensor.to(dtype, copy=True) for key, tensor in self._converted(tensors).items()}
        controlnet.load_state_dict(converted, assign=True)
        check_finite(controlnet, self.path.name)
        return controlnet

    def _converted(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Return the tensors under the names that diffusers has for them."""
        if "conv_in.weight" in tensors:
            return dict(tensors)
        converted = convert_controlnet_checkpoint(dict(tensors), dict(self.unet.config))
        return {key: tensor for key, tensor in converted.items() if tensor is not None}

    def _hint_channels(self, number: int) -> int:
        ours = f"{_CONDITIONS}blocks.{number // 2 - 1}.weight" if number else f"{_CONDITIONS}conv_in.weight"
        for key in (f"input_hint_block.{number}.weight", f"{_WRAPPER}input_hint_block.{number}.weight", ours):
            if key in self.header:
                return self.header[key].shape[0]
        return 1


def open_controlnet(path: Path, unet: UNet2DConditionModel, *, title: str) -> ControlNetFiles:
    """Find a ControlNet and make sure that it was made for a UNet of this shape.

    Args:
        path: its folder or file.
        unet: of the shape; no weights are needed.
        title: of the model, for the message.

    Raises:
        UserError: it was not, and what it was made for; or it cannot be read.
    """
    if path.is_file():
        file = _File(path, unet)
        file.check()
        return file
    if not (path / "config.json").is_file():
        raise UserError("controlnet.no_config", folder=path)
    part = Part(path, title)
    kind = part.config.get("_class_name", "ControlNetModel")
    if kind != "ControlNetModel":
        raise UserError("controlnet.wrong_class", name=path.name, sort=str(kind)[:60])
    _check_width(path.name, part.config.get("cross_attention_dim"), unet)
    widths, own = list(part.config.get("block_out_channels", ())), list(unet.config.block_out_channels)
    if widths != own:
        raise UserError("controlnet.other_widths", name=path.name, given=_listed(widths), wanted=_listed(own))
    part.check()
    return _Folder(part)


def _check_width(name: str, given: object, unet: UNet2DConditionModel) -> None:
    wanted = unet.config.cross_attention_dim
    if given != wanted:
        raise UserError(
            "controlnet.other_base",
            name=name,
            base=base_name(given),
            given=given,
            model=base_name(wanted),
            wanted=wanted,
        )


def _listed(widths: list[int]) -> str:
    return ", ".join(str(width) for width in widths)
