"""Whether the parts of a model fit together, told from their files before any of them is built."""

from __future__ import annotations

from pathlib import Path

from diffusers import UNet2DConditionModel

from ipa_app.adapter.fitting import base_name
from ipa_app.errors import UserError
from ipa_app.models.folder import read_json


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
