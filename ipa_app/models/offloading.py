"""Parts of a model that wait in main memory, and are on the device for their turn: what `Needs.by_turns` counts.

Diffusers' own offloading knows the order in which one pipeline calls its parts, and lets go of them where the call has
ended well. Here encoders and decoders are called outside of pipelines as well, pipelines share parts, and calls are
stopped. So whatever begins sends all others back, whichever it was.
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
    """The parts of one model that take turns on a device. For the thread that draws alone."""

    def __init__(self, device: torch.device) -> None:
        """Let nothing wait yet.

        Args:
            device: where parts work.
        """
        # As tensors tell it, which have the number of their GPU.
        self._device = torch.device(device.type, device.index or 0)
        self._here: dict[str, nn.Module] = {}

    def manage(self, pipeline: DiffusionPipeline) -> None:
        """Have a pipeline's parts wait from now on; those that do already go on with it."""
        parts: dict[str, Any] = pipeline.components
        for name, part in parts.items():
            if isinstance(part, nn.Module) and not hasattr(part, "_hf_hook"):
                add_hook_to_module(part, _Turn(name, self, execution_device=self._device))

    @property
    def on_device(self) -> list[nn.Module]:
        """The parts whose turn it is, or was last."""
        return list(self._here.values())

    def begin(self, name: str, part: nn.Module) -> bool:
        """Have a part on the device, and no other but a UNet beside its ControlNet.

        Args:
            name: of the part, as pipelines call it.
            part: whose turn it is.

        Returns:
            Whether it had to be brought there.
        """
        others = [each for each, here in self._here.items() if here is not part and {each, name} != _TOGETHER]
        self._send_back(others)
        self._here[name] = part
        if next(part.parameters()).device == self._device:
            return False
        try:
            part.to(self._device)
        except Exception:
            self._send_back([name])  # what had found room; of a part that is there by half the rest would be missed
            raise
        return True

    def rest(self) -> None:
        """Send all parts back, as nothing is drawn for now."""
        self._send_back(list(self._here))

    def _send_back(self, names: list[str]) -> None:
        for name in names:
            self._here.pop(name).to(_WAITING)
        if names:
            clear_device_cache()


class _Turn(ModelHook):
    """Called before a part works: by its `forward`, and by diffusers before a VAE encodes or decodes.

    Attributes:
        execution_device: where diffusers' pipelines learn what they make their inputs on.
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
