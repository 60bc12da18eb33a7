"""From files on this machine to a model that can draw. Nothing is fetched."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, ControlNetModel, DiffusionPipeline, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from ipa_app.adapter import install_processors
from ipa_app.adapter.kinds import USUAL_NAMES
from ipa_app.adapter.layout import read_layout
from ipa_app.building import ONE_AT_A_TIME
from ipa_app.errors import UserError
from ipa_app.models.catalog import ModelEntry
from ipa_app.models.checks import check_controlnet
from ipa_app.models.families import PipelineTask
from ipa_app.models.loaded import LoadedModel, ResidentAdapters
from ipa_app.models.memory import (
    TILE_SIDE,
    MemoryPlan,
    Needs,
    best_device,
    default_dtype,
    free_bytes,
    free_main_memory,
    plan_memory,
)
from ipa_app.models.safety import SafetyChecker
from ipa_app.models.source import Source, load_module, open_source, require_weights
from ipa_app.models.weights import find_weights

__all__ = ["Report", "best_device", "default_dtype", "load_model", "tower_processor"]

logger = logging.getLogger(__name__)

Report = Callable[[float, str], None]
"""Called with the share that is done, 0 to 1, and a few words on what comes next."""

_NAMES = {
    "unet": "the UNet",
    "vae": "the picture decoder",
    "text_encoder": "the text encoder",
    "text_encoder_2": "the second text encoder",
}


def load_model(entry: ModelEntry, *, device: str, dtype: torch.dtype, report: Report) -> LoadedModel:
    """Load a base model, its ControlNet and its adapters.

    Whether everything fits together, and into memory, is found out from the files first.

    Args:
        entry: from the catalogue.
        device: a torch device.
        dtype: of the weights in memory, whatever they are on disk; where memory is short it may be half of it.
        report: told how far it is.

    Raises:
        UserError: something is missing, does not fit together, or does not fit into memory.
    """
    with ONE_AT_A_TIME:
        return _load(entry, device=torch.device(device), dtype=dtype, report=report)


def _load(entry: ModelEntry, *, device: torch.device, dtype: torch.dtype, report: Report) -> LoadedModel:
    _quieten_libraries()
    report(0.0, "looking at the files")
    source = open_source(entry)
    unet = source.unet_layout()
    if "pose" in entry.controlnets:
        check_controlnet(entry.controlnets["pose"], unet)
    adapters = _adapter_numbers(entry)
    plan, use = plan_memory(
        _needs(entry, source, adapters=adapters),
        device=device.type,
        dtype=dtype,
        free=free_bytes(device),
        free_main=free_main_memory(),
    )
    parts = _load_parts(entry, source, dtype=plan.dtype, report=report)
    controlnet = None
    if "pose" in entry.controlnets:
        report(0.72, "reading the ControlNet")
        controlnet = load_module(ControlNetModel, entry.controlnets["pose"], dtype=plan.dtype, title=entry.title)
    safety = _load_safety_checker(entry, source, dtype=plan.dtype)
    install_processors(parts["unet"])
    pipelines = source.family.build(parts, index=source.index, controlnet=controlnet)
    modules = [part for part in (*parts.values(), controlnet) if isinstance(part, torch.nn.Module)]
    extras = [safety.network] if safety else []
    for module in (*modules, *extras):
        module.requires_grad_(False).eval()
    report(0.8, "taking its place in memory")
    _place(pipelines, extras, plan=plan, device=device)
    report(0.9, "reading the adapters")
    return LoadedModel(
        entry=entry,
        pipelines=pipelines,
        adapters=_load_adapters(
            entry,
            parts["unet"],
            tower=parts["image_encoder"],
            place=torch.device("cpu") if plan.offload else device,
            room=adapters * plan.dtype.itemsize,
        ),
        image_encoder=parts["image_encoder"],
        image_processor=parts["feature_extractor"],
        safety=safety,
        device=device,
        dtype=plan.dtype,
        memory=use,
    )


def _adapter_numbers(entry: ModelEntry) -> int:
    """Count the numbers of the two largest adapters: as many are held, so that changing between them takes no time."""
    numbers = []
    for adapter in entry.adapters.values():
        with contextlib.suppress(UserError):  # which is said when it is asked for
            numbers.append(read_layout(adapter.file).numbers)
    return sum(sorted(numbers)[-2:])


def _load_adapters(
    entry: ModelEntry,
    unet: UNet2DConditionModel,
    *,
    tower: CLIPVisionModelWithProjection | None,
    place: torch.device,
    room: int,
) -> ResidentAdapters:
    """Read a model's usual adapters; the others are read when they are asked for, within the same room."""
    adapters = ResidentAdapters(unet, tower.config if tower else None, place=place, room=room)
    for name in USUAL_NAMES:
        if name in entry.adapters:
            try:
                adapters.get(entry.adapters[name])
            except UserError as error:  # the model works without it, and whoever asks for it is told
                logger.warning("%s: %s", entry.name, error)
    return adapters


def _needs(entry: ModelEntry, source: Source, *, adapters: int) -> Needs:
    """Add up what memory will be filled with; `adapters` is how many numbers are in those that are held."""
    parts = {**source.numbers(), "adapters": adapters}
    folders = {"image_encoder": entry.image_encoder, "controlnet": entry.controlnets.get("pose")}
    for name, folder in folders.items():
        if folder is not None:
            parts[name] = require_weights(folder, title=entry.title).numbers
    if (checker := find_weights(source.folder / "safety_checker", prefer_half=False)) is not None:
        parts["safety_checker"] = checker.numbers
    return Needs(
        title=entry.title,
        parts=parts,
        pixels=entry.width * entry.height,
        stored_bfloat16=source.stored_bfloat16(),
    )


def _load_parts(entry: ModelEntry, source: Source, *, dtype: torch.dtype, report: Report) -> dict[str, Any]:
    """Read what all pipelines share, with the vision tower of the adapters where there is one."""
    parts: dict[str, Any] = {"image_encoder": None, "feature_extractor": None}
    if entry.image_encoder is not None:
        report(0.05, "reading the image encoder")
        tower = load_module(CLIPVisionModelWithProjection, entry.image_encoder, dtype=dtype, title=entry.title)
        parts["image_encoder"] = tower
        parts["feature_extractor"] = tower_processor(entry, side=tower.config.image_size)
    report(0.1, "reading the base model")
    for name, part in source.load(dtype=dtype):
        parts[name] = part
        if name in _NAMES:
            done = len(parts.keys() & _NAMES.keys()) / len(source.family.modules)
            report(0.1 + 0.6 * done, f"read {_NAMES[name]}")
    return parts


def tower_processor(entry: ModelEntry, *, side: int) -> CLIPImageProcessor:
    """Find the picture preparation that gives a vision tower what it takes: side by side pixels.

    The model's own may be meant for the safety checker, which sees another size.

    Args:
        entry: the model, with the tower's folder.
        side: of what the tower takes, in pixels.
    """
    for folder in (entry.image_encoder, entry.location / "feature_extractor"):
        if folder is not None and (folder / "preprocessor_config.json").is_file():
            processor = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
            if processor.crop_size["height"] == side:
                return processor
    return CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def _load_safety_checker(entry: ModelEntry, source: Source, *, dtype: torch.dtype) -> SafetyChecker | None:
    """Load the safety checker of a model that has one on disk."""
    folder = source.folder / "safety_checker"
    if find_weights(folder, prefer_half=False) is None:
        return None
    network = load_module(StableDiffusionSafetyChecker, folder, dtype=dtype, title=entry.title)
    side = network.config.vision_config.image_size
    own = source.folder / "feature_extractor"
    if (own / "preprocessor_config.json").is_file():
        processor = CLIPImageProcessor.from_pretrained(own, local_files_only=True)
    else:
        processor = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    return SafetyChecker(network=network, processor=processor)


def _place(
    pipelines: Mapping[PipelineTask, DiffusionPipeline],
    extras: list[torch.nn.Module],
    *,
    plan: MemoryPlan,
    device: torch.device,
) -> None:
    """Bring everything to where it works, as was planned.

    With offloading, the pipelines' parts move to the device for their turn; adapters and the safety checker, which work
    once per picture, stay in main memory.
    """
    fullest = pipelines.get("pose", pipelines["text_to_image"])
    if plan.tiled:
        _tile(fullest.vae)
    if device.type == "cuda":
        for name in ("unet", "controlnet", "vae"):
            module = fullest.components.get(name)
            if module is not None:
                module.to(memory_format=torch.channels_last)
    if plan.offload:
        fullest.enable_model_cpu_offload(device=device)
        return
    for module in (*fullest.components.values(), *extras):
        if isinstance(module, torch.nn.Module):
            module.to(device)


def _tile(vae: AutoencoderKL) -> None:
    """Have pictures larger than a tile decoded and encoded in tiles, one after the other."""
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    vae.tile_sample_min_size = min(vae.tile_sample_min_size, TILE_SIDE)
    vae.tile_latent_min_size = vae.tile_sample_min_size // factor
    vae.enable_tiling()
    vae.enable_slicing()


def _quieten_libraries() -> None:
    """Keep progress bars out of the log, as `report` tells how far it is, and prompts, which diffusers warns with."""
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()
