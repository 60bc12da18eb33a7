"""Faster training: the same arithmetic with the PyTorch routines that are fast on the device.

Measured with PyTorch 2.15 on a core with AMX, in bfloat16: the backward pass of a channels-last group norm takes up to
sixteen times as long as that of a contiguous one, and fused attention several times as long as separate matrix
products. With this module, a step of the UNet takes two thirds of the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


def compile_for_gpu(module: nn.Module) -> None:
    """Compile a network on a GPU in place at its first call; do nothing on a CPU.

    The compiler fuses the many small kernels of a small network, which would otherwise keep a GPU waiting for launches.
    """
    if all(parameter.device.type == "cuda" for parameter in module.parameters()):
        module.compile()


@contextmanager
def tuned_backends(module: nn.Module) -> Iterator[None]:
    """Speed up passes through a module on a CPU within the context; do nothing on a GPU."""
    devices = {parameter.device.type for parameter in module.parameters()}
    if devices == {"cpu"}:
        with _attention_as_products(), _contiguous_norms(module):
            yield
    else:
        yield


@contextmanager
def _attention_as_products() -> Iterator[None]:
    """Compute attention as plain matrix products within the context, in the precision of its inputs."""
    allowed = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    # Despite its module's name, the switch affects every device; without it the products are in float32.
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(allowed)


@contextmanager
def _contiguous_norms(module: nn.Module) -> Iterator[None]:
    """Pass contiguous memory to the module's group norms within the context; everything else stays channels-last."""
    hooks = []
    for part in module.modules():
        if isinstance(part, nn.GroupNorm):
            hooks += [part.register_forward_pre_hook(_contiguous), part.register_forward_hook(_channels_last)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _contiguous(_norm: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(each.contiguous() for each in arguments)


def _channels_last(_norm: nn.Module, _arguments: Any, normed: Tensor) -> Tensor:
    return normed.contiguous(memory_format=torch.channels_last) if normed.ndim == 4 else normed
