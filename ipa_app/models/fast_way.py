"""Drawing in a few steps: a second UNet beside the model's own, changed by a LoRA, and the scheduler that suits it.

The model's own UNet is never changed, not even temporarily: what it draws is byte-identical whether or not the fast way
is used. If there is room, the LoRA is merged into the second UNet's weights (Hu et al. 2021, section 4.1), so that a
step costs the same as without it. Otherwise both UNets share the weights, and peft adds the change while drawing, which
takes little memory and some time in every step. Both draw the same within rounding.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from accelerate.hooks import remove_hook_from_module
from diffusers import DiffusionPipeline, SchedulerMixin, UNet2DConditionModel
from torch import nn

from ipa_app.errors import UserError
from ipa_app.models.entry import ModelEntry
from ipa_app.models.memory import is_out_of_memory
from ipa_app.models.parts import check_finite
from ipa_app.models.schedule import Sampling, build_scheduler
from ipa_app.models.weights import read_header
from ipa_app.runtime import building

logger = logging.getLogger(__name__)

_ADAPTER = "fast"
_HOOK = "_hf_hook"  # the attribute where accelerate keeps a module's hook


class ResidentFastWay:
    """A model's fast way, which is read when it is first requested. Only for the thread that draws."""

    def __init__(
        self,
        entry: ModelEntry,
        *,
        pipeline: DiffusionPipeline,
        place: Callable[[DiffusionPipeline], object],
        has_room: Callable[[int], bool],
    ) -> None:
        """Read nothing yet.

        Args:
            entry: of the model, which may have no such way.
            pipeline: one of the model's own.
            place: moves a pipeline's parts to where they run.
            has_room: whether a number of bytes can be held beside the model.
        """
        self._entry = entry
        self._pipeline: Any = pipeline
        self._place = place
        self._has_room = has_room
        self._held: tuple[UNet2DConditionModel, SchedulerMixin] | None = None

    @property
    def networks(self) -> list[nn.Module]:
        """Its networks in memory."""
        return [self._held[0]] if self._held else []

    @property
    def num_bytes(self) -> int:
        """Bytes that its weights take beside those of the model's own UNet."""
        own = {each.data_ptr() for each in self._pipeline.unet.parameters()}
        held = (each for network in self.networks for each in network.parameters())
        return sum(each.nbytes for each in held if each.data_ptr() not in own)

    def draw_with(self, pipeline: DiffusionPipeline) -> DiffusionPipeline:
        """Return a copy of one of the model's pipelines that draws in the fast way.

        Raises:
            UserError: there is none, or the LoRA or the scheduler cannot be used, and why.
        """
        fast: Any = copy.copy(pipeline)
        fast.unet, fast.scheduler = self.read()
        return fast

    def read(self) -> tuple[UNet2DConditionModel, SchedulerMixin]:
        """Return the changed UNet and the scheduler, which are read now if they are not in memory.

        Raises:
            UserError: as for `draw_with`.
        """
        if self._held is None:
            with building():
                self._held = self._read()
        return self._held

    def _read(self) -> tuple[UNet2DConditionModel, SchedulerMixin]:
        way, title, own, pipeline = self._entry.fast_way(), self._entry.title, self._pipeline, copy.copy(self._pipeline)
        told = Sampling(settings=way.scheduler_config)
        scheduler = build_scheduler(way.scheduler, own.scheduler.config, title=title, sampling=told)
        is_merged = self._has_room(sum(each.nbytes for each in own.unet.parameters()))
        pipeline.unet = with_lora(own.unet, way.lora, pipeline=own, title=title, is_merged=is_merged)
        self._place(pipeline)
        return pipeline.unet, scheduler


def with_lora(
    unet: UNet2DConditionModel, file: Path, *, pipeline: DiffusionPipeline, title: str, is_merged: bool
) -> UNet2DConditionModel:
    """Return a copy of a UNet, changed by a LoRA; both share what the LoRA does not change.

    Args:
        unet: the original, which is not changed.
        file: of the LoRA, .safetensors in any layout that diffusers reads.
        pipeline: that the UNet belongs to, whose class knows the layout of its LoRAs.
        title: of the model, for messages.
        is_merged: whether the changed weights are held beside the originals, or only the change.

    Raises:
        UserError: the file is damaged, was made for another network, or holds more than a change of the UNet.
    """
    if not file.is_file():
        raise UserError("fast.no_file", title=title, file=file.name)
    header = read_header(file, pickles=False)
    changed = _shared_copy(unet, with_own_parameters=is_merged)
    # DoRA scales would be silently ignored.
    fits = not any("dora_scale" in name for name in header)
    try:
        fits = fits and _add(file, to=changed, loader=cast(Any, type(pipeline)))
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        logger.warning("%s: %s", file, error)
        fits = False
    if not fits:
        raise UserError("fast.other_lora", title=title, file=file.name)
    check_finite(changed, file.name)
    if is_merged:
        changed.fuse_lora(safe_fusing=True)  # replaces each weight by a changed copy
        changed.unload_lora()
    return changed.requires_grad_(False).eval()


def _shared_copy(unet: UNet2DConditionModel, *, with_own_parameters: bool) -> UNet2DConditionModel:
    """Copy a UNet without its values, which are shared: as the same parameters, or as new ones in the same memory."""
    # The hooks of an offloaded UNet know the parts that run before it; the copy gets its own.
    hooks = [vars(each)[_HOOK] for each in unet.modules() if _HOOK in vars(each)]
    shared: dict[int, Any] = {id(each): each for each in (*unet.parameters(), *unet.buffers(), *hooks)}
    if with_own_parameters:
        shared |= {id(each): nn.Parameter(each.data, requires_grad=False) for each in unet.parameters()}
    return cast(UNet2DConditionModel, remove_hook_from_module(copy.deepcopy(unet, shared), recurse=True))


def _add(file: Path, *, to: UNet2DConditionModel, loader: Any) -> bool:
    """Add the layers of a LoRA to a UNet; return whether all tensors of the file were used."""
    tensors, alphas, notes = loader.lora_state_dict(
        str(file), unet_config=to.config, local_files_only=True, use_safetensors=True, return_lora_metadata=True
    )
    if not all(name.startswith("unet.") for name in tensors):
        return False
    tensors = {name: tensor.to(to.dtype) for name, tensor in tensors.items()}
    loader.load_lora_into_unet(tensors, network_alphas=alphas, unet=to, adapter_name=_ADAPTER, metadata=notes)
    return bool(tensors) and sum(".lora_" in name for name, _ in to.named_parameters()) == len(tensors)
