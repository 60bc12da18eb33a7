"""Single precision for a while, where half precision runs out of range."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn


@contextmanager
def in_float32(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Hold modules in float32, and give them their own weights back afterwards.

    Every half-precision number is a float32 number too, so nothing is lost on the way there and back. Not for modules
    that another thread uses meanwhile.

    Args:
        modules: in any precision; they need up to twice their memory for the time.
    """
    tensors = {id(tensor): tensor for tensor in chain.from_iterable(_tensors(module) for module in modules)}
    kept = [(tensor, tensor.data) for tensor in tensors.values() if tensor.is_floating_point()]
    try:
        for tensor, data in kept:
            tensor.data = data.float()
        yield
    finally:
        for tensor, data in kept:
            tensor.data = data


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    return chain(module.parameters(), module.buffers())
