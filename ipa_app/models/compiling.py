"""UNets compiled in the background, for calls like those that came; until then they are run as they are.

What image prompts and regional words say, how strongly and where, are inputs of a compiled UNet, not parts of it (see
`ipa_app.adapter`). So it is compiled for a call's layout: which inputs there are, and of which shapes. When a number of
rows or tokens differs from the one before, torch compiles for any number; each size of pictures is compiled for itself.

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
"""For how many a model's UNets are compiled; calls of others are run as they are."""
_FROZEN_UP_TO = 256 * 2**20
# While torch traces a network, those of all threads are called through the tracer, and compiled ones cannot be: held
# for either.
_TRACING = threading.Lock()


class UNetCompiler:
    """Runs a model's UNets compiled, where they are for such a call, and has them compiled where they are not yet.

    The same work in another order: results differ by rounding. Only one thread draws; any may wait.
    """

    def __init__(self, backend: str | Callable[..., Any], *, dtype: torch.dtype) -> None:
        """Compile nothing yet.

        Args:
            backend: as for `torch.compile`.
            dtype: of the weights; while they are held in another one, UNets are run as they are.
        """
        self._dtype = dtype
        self._backend = backend
        self._compiled: dict[int, Any] = {}
        self._wanted: set[Hashable] = set()
        self._ready: set[Hashable] = set()
        self._threads: list[threading.Thread] = []

    def applied_to(self, pipeline: DiffusionPipeline) -> DiffusionPipeline:
        """Return a pipeline that does what another one does, whose UNet is run compiled where it can be."""
        faster: Any = copy.copy(pipeline)
        faster.unet = in_place_of(faster.unet, self._run)
        return faster

    def wait(self) -> None:
        """Wait until all is compiled that was asked for."""
        for thread in tuple(self._threads):
            thread.join()

    def _run(self, unet: UNet2DConditionModel, sample: Tensor, *arguments: Any, **named: Any) -> Any:
        """Predict the noise; whoever calls never waits for a compiler."""
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
        """Compile for one layout, by a call of it; what that predicts is what was drawn already."""
        arguments, named = call
        shape = " x ".join(map(str, arguments[0].shape))
        try:
            with COMPILE_LOCK, _TRACING, _configured_for(unet), torch.inference_mode():
                since = time.monotonic()
                _keep_sizes(call)
                self._of(unet)(*arguments, **named)
        except Exception:  # whatever a compiler may raise; without it the UNet draws what it drew before
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
    """Have torch compile once for each layout of all models, where eight is its limit, and as suits the device."""
    most = torch._dynamo.config.patch(recompile_limit=4 * MOST_LAYOUTS)
    with most, torch._inductor.config.patch(freezing=_is_worth_freezing(unet)):
        yield


def _is_worth_freezing(unet: nn.Module) -> bool:
    """Return whether each compiled layout should have weights of its own, laid out as a processor likes them best."""
    weights = list(unet.parameters())
    return all(each.device.type == "cpu" for each in weights) and sum(each.nbytes for each in weights) <= _FROZEN_UP_TO


def _layout_of(value: Any) -> Hashable:
    """Return what a compiled UNet must have been compiled for; of tensors all but the numbers in them."""
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
    """Have torch compile for this height and width alone: what is compiled for any takes longer."""
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
    """Return an input of a call as it is now, for later: a batch of image prompts goes on from step to step."""
    if isinstance(value, ImagePromptBatch):
        return copy.copy(value)
    if isinstance(value, Mapping):
        return {name: _kept(each) for name, each in value.items()}
    return value
