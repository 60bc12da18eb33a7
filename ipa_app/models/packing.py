"""Weights packed once into the CPU's preferred memory layout, and not at each call.

PyTorch's own convolutions and linear layers reorder their weights at every call, which takes a good part of the time of
networks as small as the bundled ones. Results are bit-identical. The operators are those with which `torch.compile`
freezes a network (torch/_inductor/fx_passes/mkldnn_fusion.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ipa_app.models.memory import processor_has_bfloat16

_MOST_BYTES = 256 * 10**6
"""Largest size of a network's weights: the packed ones are held beside the originals."""
# The best layout depends on the input size. With one fixed size for all, no picture depends on those before it.
_IMAGES, _SIDE, _ROWS = 2, 16, 512


@dataclass
class _Packed:
    """The packed weights of a layer, made when they are first needed.

    Attributes:
        made_of: the original weights, held so that no other tensor can get their memory address.
        version: their version, which PyTorch increments when they are changed in place.
        weight: the packed weights.
    """

    made_of: Tensor | None = None
    version: int = -1
    weight: Tensor | None = None

    def __deepcopy__(self, _: object) -> _Packed:
        """Return an empty cache, for a copy of the layer."""
        return _Packed()

    def of(self, weight: Tensor, pack: Callable[[Tensor], Tensor]) -> Tensor:
        """Return packed weights; pack again if the weights have changed since the last call."""
        made_of, version = self.made_of, weight._version
        if self.weight is None or made_of is None or (made_of.data_ptr(), self.version) != (weight.data_ptr(), version):
            self.made_of, self.version, self.weight = weight.data, version, pack(weight.data)
        return self.weight


class PackedConv2d(nn.Conv2d):
    """A convolution that reorders its weights once, when gradients are off."""

    _packed: _Packed

    def forward(self, input: Tensor) -> Tensor:
        """Convolve as `torch.nn.Conv2d` does."""
        if _is_left_to_torch(self.weight):
            return super().forward(input)
        weight, layout = self._packed.of(self.weight, self._pack), (self.padding, self.stride, self.dilation)
        return torch.ops.mkldnn._convolution_pointwise(input, weight, self.bias, *layout, self.groups, "none", [], "")

    def _pack(self, weight: Tensor) -> Tensor:
        size, layout = (_IMAGES, self.in_channels, _SIDE, _SIDE), (self.padding, self.stride, self.dilation)
        return torch.ops.mkldnn._reorder_convolution_weight(weight, *layout, self.groups, size)


class PackedLinear(nn.Linear):
    """A linear layer that reorders its weights once, when gradients are off."""

    _packed: _Packed

    def forward(self, input: Tensor) -> Tensor:
        """Multiply as `torch.nn.Linear` does."""
        if _is_left_to_torch(self.weight):
            return super().forward(input)
        weight = self._packed.of(self.weight, self._pack)
        return torch.ops.mkldnn._linear_pointwise(input, weight, self.bias, "none", [], "")

    def _pack(self, weight: Tensor) -> Tensor:
        return torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)


def _is_left_to_torch(weight: Tensor) -> bool:
    """Whether to use PyTorch's own operators: those for packed weights have no gradients, and compilers pack anyway."""
    return torch.is_grad_enabled() or torch.compiler.is_compiling() or not _can_be_packed(weight)


def _can_be_packed(weight: Tensor) -> bool:
    # In single precision sums would be rounded differently.
    return weight.device.type == "cpu" and weight.dtype == torch.bfloat16


def _processor_packs() -> bool:
    if not (torch.backends.mkldnn.is_available() and processor_has_bfloat16()):
        return False
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def pack_weights(network: nn.Module) -> None:
    """Have a network's convolutions and linear layers also hold packed weights, where that makes them faster.

    That is so in bfloat16 on a CPU with instructions for it, for networks whose weights are not large. Weights may be
    changed afterwards, and the layers copied, saved, trained and compiled as before.

    Args:
        network: changed in place; it and its layers stay the same objects.
    """
    weights = [*network.parameters()]
    if not (_processor_packs() and all(map(_can_be_packed, weights))):
        return
    if sum(each.nbytes for each in weights) > _MOST_BYTES:
        return
    for layer in network.modules():
        if type(layer) is nn.Linear:
            layer.__class__, layer._packed = PackedLinear, _Packed()
        elif type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
            layer.__class__, layer._packed = PackedConv2d, _Packed()
