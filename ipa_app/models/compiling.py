"""Compiling UNets in the background, for calls like those made so far; until then they run uncompiled.

Image prompts and regional words, with their scales and masks, are inputs of a compiled UNet, not parts of it (see
`ipa_app.adapter`). A UNet is therefore compiled for a call's layout: its inputs and their shapes. When a number of rows
or tokens differs from the previous one, PyTorch compiles for any number; each picture size is compiled separately.

Source: `torch.compile` with inductor, Ansel et al. 2024, "PyTorch 2"; docs.pytorch.org, torch.compiler.
"""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn

from ipa_app.adapter import ImagePromptBatch, RegionalPromptBatch
from ipa_app.models.guidance import in_place_of
from ipa_app.runtime import COMPILE_LOCK

logger = logging.getLogger(__name__)

MOST_LAYOUTS = 32
"""Most layouts that a model's UNets are compiled for; calls of further layouts run uncompiled."""
_FROZEN_UP_TO = 256 * 2**20
# While PyTorch traces a network, calls of all threads go through the tracer, and compiled networks cannot be called:
# the lock is held for either.
_TRACING = threading.Lock()


class UNetCompiler:
    """Runs a model's UNets compiled if they are compiled for a call's layout, and otherwise has them compiled for it.

    A compiled UNet does the same work in another order, so results differ by rounding. Only one thread draws; any may
    call `wait`.
    """

    def __init__(self, backend: str | Callable[..., Any], *, dtype: torch.dtype) -> None:
        """Compile nothing yet.

        Args:
            backend: as for `torch.compile`.
            dtype: of the weights; while they are held in another one, UNets run uncompiled.
        """
        self._dtype = dtype
        self._backend = backend
        self._compiled: dict[int, Any] = {}
        self._wanted: set[Hashable] = set()
        self._ready: set[Hashable] = set()
        self._threads: list[threading.Thread] = []

    def applied_to(self, pipeline: DiffusionPipeline) -> DiffusionPipeline:
        """Return a copy of a pipeline whose UNet runs compiled where possible."""
        faster: Any = copy.copy(pipeline)
        faster.unet = in_place_of(faster.unet, self._run)
        return faster

    def wait(self) -> None:
        """Wait until everything requested is compiled."""
        for thread in tuple(self._threads):
            thread.join()

    def _run(self, unet: UNet2DConditionModel, sample: Tensor, *arguments: Any, **named: Any) -> Any:
        """Predict the noise; a call never waits for a compiler."""
        if sample.dtype != self._dtype:
            return unet(sample, *arguments, **named)
        layout = (id(unet), _layout_of((sample, *arguments)), _layout_of(named))
        if layout in self._ready and _TRACING.acquire(blocking=False):
            try:
                return self._compiled[id(unet)](sample, *arguments, **named)
            finally:
                _TRACING.release()
        if layout not in self._wanted and len(self._wanted) < MOST_LAYOUTS:
            self._wanted.add(layout)
            call = ((sample, *arguments), {name: _kept(each) for name, each in named.items()})
            thread = threading.Thread(target=self._compile, args=(unet, layout, call), name="compile", daemon=True)
            self._threads = [each for each in self._threads if each.is_alive()] + [thread]
            thread.start()
        return unet(sample, *arguments, **named)

    def _compile(self, unet: UNet2DConditionModel, layout: Hashable, call: tuple[tuple, dict[str, Any]]) -> None:
        """Compile for one layout by repeating a call of that layout; the result is not needed."""
        arguments, named = call
        shape = " x ".join(map(str, arguments[0].shape))
        try:
            with COMPILE_LOCK, _TRACING, _configured_for(unet), torch.inference_mode():
                since = time.monotonic()
                _keep_sizes(call)
                self._of(unet)(*arguments, **named)
        except Exception:  # a compiler may raise anything; the UNet still runs uncompiled
            logger.exception("The UNet cannot be compiled for %s; such calls are run as they are.", shape)
        else:
            logger.info("The UNet was compiled for %s in %.0f s.", shape, time.monotonic() - since)
            self._ready.add(layout)

    def _of(self, unet: UNet2DConditionModel) -> Any:
        if id(unet) not in self._compiled:
            self._compiled[id(unet)] = torch.compile(unet, fullgraph=True, backend=self._backend)
        return self._compiled[id(unet)]


@contextmanager
def _configured_for(unet: nn.Module) -> Iterator[None]:
    """Raise PyTorch's limit of eight recompilations to what all layouts need, and set freezing to suit the device."""
    most = torch._dynamo.config.patch(recompile_limit=4 * MOST_LAYOUTS)
    with most, torch._inductor.config.patch(freezing=_is_worth_freezing(unet)):
        yield


def _is_worth_freezing(unet: nn.Module) -> bool:
    """Whether each compiled layout should have its own copy of the weights, in the best layout for the CPU."""
    weights = list(unet.parameters())
    return all(each.device.type == "cpu" for each in weights) and sum(each.nbytes for each in weights) <= _FROZEN_UP_TO


def _layout_of(value: Any) -> Hashable:
    """Return a call's layout, which a UNet must be compiled for: of tensors everything except their values."""
    match value:
        case Tensor():
            return value.shape, value.stride(), value.dtype, value.device, value.is_inference()
        case ImagePromptBatch() | RegionalPromptBatch():
            return _layout_of(value.tensors())
        case Mapping():
            return tuple((name, _layout_of(each)) for name, each in value.items())
        case list() | tuple():
            return tuple(map(_layout_of, value))
    return value


def _keep_sizes(value: Any) -> None:
    """Have PyTorch compile for this height and width alone: one compiled for any size takes longer."""
    match value:
        case Tensor() if value.ndim == 4:
            torch._dynamo.mark_static(value, 2)
            torch._dynamo.mark_static(value, 3)
        case ImagePromptBatch() | RegionalPromptBatch():
            _keep_sizes(value.tensors())
        case Mapping():
            _keep_sizes(tuple(value.values()))
        case list() | tuple():
            for each in value:
                _keep_sizes(each)


def _kept(value: Any) -> Any:
    """Return a snapshot of a call's input for later use: an image prompt batch changes from step to step."""
    if isinstance(value, ImagePromptBatch):
        return copy.copy(value)
    if isinstance(value, Mapping):
        return {name: _kept(each) for name, each in value.items()}
    return value
