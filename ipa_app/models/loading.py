"""Loading a model from files on this machine. Nothing is downloaded."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from ipa_app.adapter import install_processors
from ipa_app.adapter.kinds import USUAL_NAMES
from ipa_app.adapter.layout import read_layout
from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.caches import Posteriors
from ipa_app.models.catalog import ModelEntry
from ipa_app.models.compiling import UNetCompiler
from ipa_app.models.controlnet import ControlNetFiles, ResidentControlNets, largest_numel, open_controlnet
from ipa_app.models.entry import ControlNetEntry
from ipa_app.models.families import class_name
from ipa_app.models.fast_way import ResidentFastWay
from ipa_app.models.image_encoder import ImageEncoder, read_processor
from ipa_app.models.latents import tile
from ipa_app.models.loaded import LoadedModel, ResidentAdapters, SafetyChecker
from ipa_app.models.memory import (
    MemoryPlan,
    Needs,
    free_bytes,
    free_main_memory,
    is_out_of_memory,
    plan_memory,
    usable_device,
)
from ipa_app.models.offloading import Offloading
from ipa_app.models.packing import pack_weights
from ipa_app.models.parts import Part
from ipa_app.models.pipelines import build_controlnet_pipeline, build_pipelines
from ipa_app.models.source import Source, open_source
from ipa_app.models.state import MemoryUse, Report
from ipa_app.models.tiny_vae import load_tiny_vae
from ipa_app.models.weights import find_weights
from ipa_app.runtime import building, give_back_unused

logger = logging.getLogger(__name__)

_NAMES = {
    "unet": Message("part.unet"),
    "vae": Message("part.vae"),
    "text_encoder": Message("part.text_encoder"),
    "text_encoder_2": Message("part.text_encoder_2"),
}


class Room(NamedTuple):
    """Memory that can be made available for a model by freeing others.

    Attributes:
        spare: how many bytes that is; None if there is nothing to free.
        make: frees them.
    """

    spare: int | None = None
    make: Callable[[], None] = lambda: None


_NO_ROOM = Room()


def load_model(
    entry: ModelEntry,
    *,
    device: str,
    dtype: torch.dtype,
    exact: bool = False,
    report: Report,
    compile_backend: str | None = None,
    room: Room = _NO_ROOM,
) -> LoadedModel:
    """Load a base model, the first of its ControlNets and its usual adapters.

    Whether everything fits together, and into memory, is checked from the files first, before other models are freed.

    Args:
        entry: from the catalogue.
        device: a torch device.
        dtype: of the weights in memory, whatever it is on disk; if memory is short, half precision may be used instead.
        exact: as for `plan_memory`.
        report: called with the progress.
        compile_backend: of `torch.compile`, for its UNets unless they are offloaded; None to compile nothing.
        room: memory that can be made available for it.

    Raises:
        UserError: something is missing, does not fit together, or does not fit into memory.
    """
    report(0.0, Message("doing.looking_at_files"))
    place, files = usable_device(device), _open(entry)
    needs, load = _needs(files), partial(_load, files, device=place, report=report, compile_backend=compile_backend)
    if room.spare is not None:
        give_back_unused()  # as will happen when the others have been freed
        _plan(needs, device=place, dtype=dtype, exact=exact, spare=room.spare)
    room.make()  # without the lock: a model still being drawn with may be about to read an adapter
    try:
        with building():
            return load(needs, _plan(needs, device=place, dtype=dtype, exact=exact))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    raise UserError("model.did_not_fit", title=entry.title)


@dataclass(frozen=True, kw_only=True)
class _Files:
    """Everything that a model is read from, checked to fit together before any weights are read."""

    entry: ModelEntry
    source: Source
    adapter_numel: int
    image_encoder: ImageEncoder | None
    controlnets: Mapping[str, ControlNetFiles | UserError]
    safety_checker: Part | None


def _open(entry: ModelEntry) -> _Files:
    _quieten_libraries()
    with building():
        return _looked_at(entry)


def _looked_at(entry: ModelEntry) -> _Files:
    source = open_source(entry)
    unet = source.unet_layout()
    encoder = None if entry.image_encoder is None else ImageEncoder(entry.image_encoder, entry.title)
    checker = _safety_checker(source)
    files = _Files(
        entry=entry,
        source=source,
        adapter_numel=_adapter_numel(entry),
        image_encoder=encoder,
        controlnets={each.name: _open_controlnet(each, entry, unet) for each in entry.controlnets.values()},
        safety_checker=checker,
    )
    for part in (encoder, checker):
        if part is not None:
            part.check()
    return files


def _safety_checker(source: Source) -> Part | None:
    """Return a model's safety checker; None if its folder or its model_index.json, as diffusers has it, has none."""
    folder = source.folder / "safety_checker"
    is_named = class_name(source.index, "safety_checker") is not None
    return Part(folder, source.title) if is_named and find_weights(folder, prefer_half=False) else None


def _open_controlnet(
    controlnet: ControlNetEntry, entry: ModelEntry, unet: UNet2DConditionModel
) -> ControlNetFiles | UserError:
    """Return a ControlNet's files, or the error why it cannot be used: the model works without it."""
    try:
        return open_controlnet(controlnet.path, unet, title=entry.title)
    except UserError as error:
        logger.warning("%s: a ControlNet cannot be used: %s", entry.name, error)
        return error


def _plan(
    needs: Needs, *, device: torch.device, dtype: torch.dtype, exact: bool, spare: int = 0
) -> tuple[MemoryPlan, MemoryUse]:
    """Plan how the model is held in the free memory plus the `spare` bytes that other models will free.

    Raises:
        UserError: it does not fit in any way.
    """
    free, free_main = free_bytes(device), free_main_memory()
    if spare:
        free = None if free is None else free + spare
        free_main = None  # how much of that is in main memory is not known
    return plan_memory(needs, device=device.type, dtype=dtype, free=free, free_main=free_main, exact=exact)


def _load(
    files: _Files,
    needs: Needs,
    planned: tuple[MemoryPlan, MemoryUse],
    *,
    device: torch.device,
    report: Report,
    compile_backend: str | None,
) -> LoadedModel:
    entry, (plan, use) = files.entry, planned
    parts = _load_parts(files, dtype=plan.dtype, report=report)
    safety = None if files.safety_checker is None else _load_safety_checker(files.safety_checker, dtype=plan.dtype)
    install_processors(parts["unet"])
    family, index = files.source.family, files.source.index
    posteriors = Posteriors()
    pipelines = build_pipelines(family, parts, index=index, posteriors=posteriors)
    extras = [safety.network] if safety else []
    for module in (*(part for part in parts.values() if isinstance(part, torch.nn.Module)), *extras):
        module.requires_grad_(False).eval()
    report(0.8, Message("doing.placing"))
    offloading = Offloading(device) if plan.offload else None
    place = partial(_place, plan=plan, device=device, offloading=offloading)
    for pipeline in pipelines.values():
        place(pipeline, extras)
    report(0.85, Message("doing.reading_controlnet"))
    controlnets = ResidentControlNets(
        entry.controlnets.values(),
        files.controlnets,
        dtype=plan.dtype,
        build=lambda network, task: place(
            build_controlnet_pipeline(family, parts, network, task, index=index, posteriors=posteriors)
        ),
    )
    waits_in = torch.device("cpu") if plan.offload else device
    fast = ResidentFastWay(
        entry,
        pipeline=pipelines["text_to_image"],
        place=place,
        has_room=partial(_has_room, needs=needs, plan=plan, device=waits_in),
    )
    _read_first(controlnets, fast, entry, is_all=compile_backend is not None)
    report(0.9, Message("doing.reading_adapters"))
    tiny_vae = load_tiny_vae(
        files.source.folder,
        parts["vae"],
        title=entry.title,
        dtype=plan.dtype,
        device=device,
        memory_format=_memory_format(plan.dtype, device),
    )
    return LoadedModel(
        entry=entry,
        family=family,
        pipelines=pipelines,
        controlnets=controlnets,
        adapters=_load_adapters(
            entry,
            parts["unet"],
            tower=parts["image_encoder"],
            place=waits_in,
            room=files.adapter_numel * plan.dtype.itemsize,
        ),
        image_encoder=parts["image_encoder"],
        image_processor=parts["feature_extractor"],
        fast=fast,
        safety=safety,
        tiny_vae=tiny_vae,
        device=device,
        dtype=plan.dtype,
        memory=use,
        offloading=offloading,
        compiler=UNetCompiler(compile_backend, dtype=plan.dtype) if compile_backend and not plan.offload else None,
    )


def _read_first(controlnets: ResidentControlNets, fast: ResidentFastWay, entry: ModelEntry, *, is_all: bool) -> None:
    """Read the first ControlNet, so that a model's usual one is ready when it is requested; or more.

    The fast way is read, too, if live pictures begin with drafts. If UNets are compiled, it is always read, and so are
    all ControlNets that there is room for: later each might have to wait for the compiler.
    """
    for controlnet in list(entry.controlnets.values())[: None if is_all else 1]:
        with contextlib.suppress(UserError):  # the model works without it, and a request for it reports the error
            controlnets.pipeline(controlnet)
    if (is_all or entry.live) and entry.fast is not None:
        with contextlib.suppress(UserError):
            fast.read()


def _adapter_numel(entry: ModelEntry) -> int:
    """Count the elements of the two largest adapters: two are held, so that switching between them takes no time."""
    counts = []
    for adapter in entry.adapters.values():
        with contextlib.suppress(UserError):  # reported when it is requested
            counts.append(read_layout(adapter.file).numel)
    return sum(sorted(counts)[-2:])


def _load_adapters(
    entry: ModelEntry,
    unet: UNet2DConditionModel,
    *,
    tower: CLIPVisionModelWithProjection | None,
    place: torch.device,
    room: int,
) -> ResidentAdapters:
    """Read a model's usual adapters; the others are read when they are requested, within the same room."""
    adapters = ResidentAdapters(unet, tower.config if tower else None, place=place, room=room)
    for name in USUAL_NAMES:
        if name in entry.adapters:
            try:
                adapters.get(entry.adapters[name])
            except UserError as error:  # the model works without it, and a request for it reports the error
                logger.warning("%s: %s", entry.name, error)
    return adapters


def _needs(files: _Files) -> Needs:
    """Add up what will be held in memory."""
    parts = {**files.source.numel(), "adapters": files.adapter_numel}
    if files.image_encoder is not None:
        parts["image_encoder"] = files.image_encoder.numel
    # For each pipeline one ControlNet is held at a time, or several small ones.
    parts.update(largest_numel(files.entry.controlnets.values(), files.controlnets))
    if files.safety_checker is not None:
        parts["safety_checker"] = files.safety_checker.weights().numel
    return Needs(
        title=files.entry.title,
        parts=parts,
        pixels=files.entry.width * files.entry.height,
        stored_bfloat16=files.source.stored_bfloat16(),
    )


def _has_room(size: int, *, needs: Needs, plan: MemoryPlan, device: torch.device) -> bool:
    """Whether `size` bytes can be held on a device and a picture still be drawn."""
    free = free_bytes(device)
    return free is None or size + needs.drawing(plan.dtype, tiled=plan.tiled) <= free


def _load_parts(files: _Files, *, dtype: torch.dtype, report: Report) -> dict[str, Any]:
    """Read the parts that all pipelines share, and the adapters' image encoder if there is one."""
    parts: dict[str, Any] = {"image_encoder": None, "feature_extractor": None}
    if files.image_encoder is not None:
        report(0.05, Message("doing.reading_image_encoder"))
        parts["image_encoder"] = files.image_encoder.load_tower(dtype=dtype)
        parts["feature_extractor"] = files.image_encoder.processor([files.source.folder / "feature_extractor"])
    report(0.1, Message("doing.reading_base"))
    for name, part in files.source.load(dtype=dtype):
        parts[name] = part
        if name in _NAMES:
            done = len(parts.keys() & _NAMES.keys()) / len(files.source.family.modules)
            report(0.1 + 0.6 * done, Message("doing.read_part", part=_NAMES[name]))
    return parts


def _load_safety_checker(part: Part, *, dtype: torch.dtype) -> SafetyChecker:
    """Load the safety checker of a model, with its image processor."""
    network = part.load(StableDiffusionSafetyChecker, dtype=dtype)
    side = network.config.vision_config.image_size
    processor = read_processor(part.folder.parent / "feature_extractor", title=part.title)
    if processor is None:
        processor = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    return SafetyChecker(network=network, processor=processor)


def _place(
    pipeline: DiffusionPipeline,
    extras: Sequence[torch.nn.Module] = (),
    *,
    plan: MemoryPlan,
    device: torch.device,
    offloading: Offloading | None,
) -> DiffusionPipeline:
    """Move a pipeline's parts, and others, to where they run, as planned.

    With offloading, the pipeline's parts move to the device for their turn; adapters and the safety checker, which run
    once per picture, stay in main memory. What is in its place already stays there.
    """
    components: Mapping[str, Any] = pipeline.components
    if plan.tiled:
        tile(components["vae"])
    for name in components.keys() & {"unet", "controlnet", "vae"}:
        components[name].to(memory_format=_memory_format(plan.dtype, device))
        if device.type == "cpu" and name != "vae":
            pack_weights(components[name])
    if offloading is not None:
        offloading.manage(pipeline)
        return pipeline
    for module in (*components.values(), *extras):
        if isinstance(module, torch.nn.Module):
            module.to(device)
    return pipeline


def _memory_format(dtype: torch.dtype, device: torch.device) -> torch.memory_format:
    """Return the memory format: channels last where it makes convolutions faster, on CUDA and on CPUs in bfloat16.

    On CPUs in single precision it would change the rounding and gain nothing.
    """
    is_faster = device.type == "cuda" or (device.type == "cpu" and dtype != torch.float32)
    return torch.channels_last if is_faster else torch.preserve_format


def _quieten_libraries() -> None:
    """Keep progress bars out of the log, as `report` shows progress, and prompts, which diffusers puts in warnings."""
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()
