"""Whether the parts of a model fit together, told from their files before any of them is built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from diffusers import UNet2DConditionModel
from transformers import CLIPVisionConfig

from ipa_app.adapter import AdapterFile, attention_layers, check_encoder, read_adapter
from ipa_app.adapter.fitting import base_name, check_base
from ipa_app.errors import UserError
from ipa_app.models.catalog import ModelEntry
from ipa_app.models.folder import read_json


def read_fitting_adapters(entry: ModelEntry, unet: UNet2DConditionModel) -> Mapping[str, AdapterFile]:
    """Read a model's adapter files and check each against the UNet and the vision tower.

    Args:
        entry: the model.
        unet: of its shape; no weights are needed.

    Raises:
        UserError: one does not fit, and what it was made for; or there is no vision tower for them.
    """
    if not entry.adapters:
        return {}
    if entry.image_encoder is None:
        raise UserError(f"The model {entry.title} has adapters but no image_encoder folder for them.")
    if not (entry.image_encoder / "config.json").is_file():
        raise UserError(f"The image encoder of {entry.title} is not there: {entry.image_encoder} has no config.json.")
    vision = CLIPVisionConfig.from_pretrained(entry.image_encoder, local_files_only=True)
    layers = attention_layers(unet)
    files = {}
    for name, path in entry.adapters.items():
        file = read_adapter(path)
        check_base(file, layers)
        check_encoder(file, vision)
        files[name] = file
    return files


def check_controlnet(folder: Path, unet: UNet2DConditionModel) -> None:
    """Make sure that a ControlNet was made for a UNet of this shape.

    Raises:
        UserError: it was not; the message names both sides.
    """
    config = read_json(folder / "config.json")
    if not config:
        raise UserError(f"The ControlNet is not there: {folder} holds no config.json.")
    given, wanted = config.get("cross_attention_dim"), unet.config.cross_attention_dim
    if given != wanted:
        raise UserError(
            f"The ControlNet {folder.name} was made for {base_name(given)} (text tokens {given} wide), but this base "
            f"model is {base_name(wanted)} (text tokens {wanted} wide)."
        )
    widths, own = list(config.get("block_out_channels", ())), list(unet.config.block_out_channels)
    if widths != own:
        raise UserError(
            f"The ControlNet {folder.name} was made for another base model: its blocks are {_listed(widths)} wide, "
            f"this model's are {_listed(own)}."
        )


def _listed(widths: list[int]) -> str:
    return ", ".join(str(width) for width in widths)
