"""From a folder in diffusers layout to a model that can draw. Reads local files only."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import MappingProxyType

import diffusers
import torch
import transformers
from diffusers import (
    ControlNetModel,
    DiffusionPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from ipa_app.adapter import IPAdapter, install_processors
from ipa_app.adapter.files import check_encoder, load_adapter
from ipa_app.errors import UserError
from ipa_app.models.catalog import ModelEntry
from ipa_app.models.loaded import LoadedModel, PipelineTask

Report = Callable[[float, str], None]
"""Called with the share that is done, 0 to 1, and a few words on what comes next."""


_ONE_AT_A_TIME = threading.Lock()
"""While from_pretrained() runs, diffusers has torch build every module of the process without weights. Two loads that
overlap would leave it so for ever."""


def best_device() -> str:
    """Name the fastest torch device of this machine: "cuda", "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def default_dtype(device: str) -> torch.dtype:
    """Half precision on CUDA. Elsewhere single: CPUs are slow at half, and MPS turns pictures black with it."""
    return torch.float16 if torch.device(device).type == "cuda" else torch.float32


def load_model(entry: ModelEntry, *, device: str, dtype: torch.dtype, report: Report) -> LoadedModel:
    """Load a base model, its ControlNet and its adapters.

    Args:
        entry: from the catalogue.
        device: a torch device.
        dtype: of the weights in memory, whatever they are on disk.
        report: told how far it is.

    Raises:
        UserError: the folder or something in it is missing or does not fit together.
    """
    if not (entry.location / "model_index.json").is_file():
        raise UserError(f"The model {entry.title} is not there: {entry.location} holds no model_index.json.")
    with _ONE_AT_A_TIME:
        return _load(entry, device=device, dtype=dtype, report=report)


def _load(entry: ModelEntry, *, device: str, dtype: torch.dtype, report: Report) -> LoadedModel:
    _quieten_libraries()
    report(0.0, "reading the base model")
    pipeline = _load_text_to_image(entry, dtype=dtype).to(device)
    install_processors(pipeline.unet)
    pipelines: dict[PipelineTask, DiffusionPipeline] = {"text_to_image": pipeline}
    # The constructor, not from_pipe(): that one casts the shared weights to float32 unless told otherwise.
    pipelines["inpaint"] = StableDiffusionInpaintPipeline(**pipeline.components, requires_safety_checker=False)
    if "pose" in entry.controlnets:
        report(0.6, "reading the ControlNet")
        controlnet = ControlNetModel.from_pretrained(entry.controlnets["pose"], local_files_only=True, dtype=dtype)
        pipelines["pose"] = StableDiffusionControlNetPipeline(
            **pipeline.components, controlnet=controlnet.to(device), requires_safety_checker=False
        )
    for each in pipelines.values():
        each.set_progress_bar_config(disable=True)
    report(0.8, "reading the adapters")
    adapters = _load_adapters(entry, pipeline)
    for module in (*pipelines.get("pose", pipeline).components.values(), *adapters.values()):
        if isinstance(module, torch.nn.Module):
            module.requires_grad_(False).eval()
    return LoadedModel(
        entry=entry,
        pipelines=MappingProxyType(pipelines),
        adapters=MappingProxyType(adapters),
        image_encoder=pipeline.image_encoder,
        image_processor=pipeline.feature_extractor,
        device=torch.device(device),
        dtype=dtype,
    )


def _load_text_to_image(entry: ModelEntry, *, dtype: torch.dtype) -> StableDiffusionPipeline:
    """Load the pipeline that all others share, with the vision tower of the adapters where there is one."""
    parts: dict[str, object] = {"safety_checker": None, "requires_safety_checker": False}
    if entry.image_encoder is not None:
        tower = CLIPVisionModelWithProjection.from_pretrained(entry.image_encoder, local_files_only=True, dtype=dtype)
        side = tower.config.image_size
        parts["image_encoder"] = tower
        if not (entry.location / "feature_extractor").is_dir():
            parts["feature_extractor"] = CLIPImageProcessor(
                size={"shortest_edge": side}, crop_size={"height": side, "width": side}
            )
    return StableDiffusionPipeline.from_pretrained(entry.location, local_files_only=True, dtype=dtype, **parts)


def _load_adapters(entry: ModelEntry, pipeline: StableDiffusionPipeline) -> dict[str, IPAdapter]:
    """Load every adapter of a model and check each against the model's UNet and vision tower.

    Raises:
        UserError: one does not fit, or there is no vision tower for them.
    """
    adapters: dict[str, IPAdapter] = {}
    for name, path in entry.adapters.items():
        if pipeline.image_encoder is None:
            raise UserError(f"The model {entry.title} has adapters but no image_encoder folder for them.")
        adapter = load_adapter(path, pipeline.unet)
        check_encoder(adapter, pipeline.image_encoder.config)
        adapters[name] = adapter.to(device=pipeline.device, dtype=pipeline.dtype)
    return adapters


def _quieten_libraries() -> None:
    """Keep progress bars out of the log, as `report` tells how far it is, and prompts, which diffusers warns with."""
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()
