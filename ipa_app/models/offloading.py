"""Offloading: parts of a model wait in main memory and are on the device only for their turn (see `Needs.by_turns`).

Diffusers' own offloading knows the order in which one pipeline calls its parts, and releases them when the call has
ended without an error. Here encoders and decoders are also called outside pipelines, pipelines share parts, and calls
are cancelled. So each part that begins sends all others back.
"""

from __future__ import annotations

from typing import Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from accelerate.utils import send_to_device
from accelerate.utils.memory import clear_device_cache
from diffusers import DiffusionPipeline
from torch import nn

_TOGETHER = {"unet", "controlnet"}
_WAITING = torch.device("cpu")


class Offloading:
    """The parts of one model that take turns on a device. Only for the thread that draws."""

    def __init__(self, device: torch.device) -> None:
        """Offload nothing yet.

        Args:
            device: where parts run.
        """
        # With the number of the GPU, as in tensors' devices, to compare it with these.
        self._device = torch.device(device.type, device.index or 0)
        self._here: dict[str, nn.Module] = {}

    def manage(self, pipeline: DiffusionPipeline) -> None:
        """Offload a pipeline's parts from now on; those that are offloaded already stay so."""
        parts: dict[str, Any] = pipeline.components
        for name, part in parts.items():
            if isinstance(part, nn.Module) and not hasattr(part, "_hf_hook"):
                add_hook_to_module(part, _Turn(name, self, execution_device=self._device))

    @property
    def on_device(self) -> list[nn.Module]:
        """The parts now on the device: those whose turn it is, or was last."""
        return list(self._here.values())

    def begin(self, name: str, part: nn.Module) -> bool:
        """Move a part to the device and all others back, except that a UNet and its ControlNet stay together.

        Args:
            name: of the part, as pipelines call it.
            part: whose turn it is.

        Returns:
            Whether it had to be moved.
        """
        others = [each for each, here in self._here.items() if here is not part and {each, name} != _TOGETHER]
        self._send_back(others)
        self._here[name] = part
        if next(part.parameters()).device == self._device:
            return False
        try:
            part.to(self._device)
        except Exception:
            self._send_back([name])  # the part may be half on the device, which would not be noticed later
            raise
        return True

    def rest(self) -> None:
        """Move all parts back, as nothing is drawn for now."""
        self._send_back(list(self._here))

    def _send_back(self, names: list[str]) -> None:
        for name in names:
            self._here.pop(name).to(_WAITING)
        if names:
            clear_device_cache()


class _Turn(ModelHook):
    """A hook called before a part runs: by its `forward`, and by diffusers before a VAE encodes or decodes.

    Attributes:
        execution_device: read by diffusers' pipelines as the device to create their inputs on.
    """

    def __init__(self, name: str, offloading: Offloading, *, execution_device: torch.device) -> None:
        self._name = name
        self._offloading = offloading
        self.execution_device = execution_device

    def init_hook(self, module: nn.Module) -> nn.Module:
        return module.to(_WAITING)

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if not self._offloading.begin(self._name, module):
            return args, kwargs
        return send_to_device(args, self.execution_device), send_to_device(kwargs, self.execution_device)
