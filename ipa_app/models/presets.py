"""What of a picture counts: the layers of a base model that take one side of it and leave the rest.

Only what is published and undisputed is listed. For Stable Diffusion 1.5 the block maps of different programs
contradict each other, so that it has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ipa_app.models.contents import pipeline_family
from ipa_app.models.folder import read_json

Presets = Mapping[str, Mapping[str, float]]
"""By what requests call them, "style" and "layout": layers or blocks by name, to their share of the scale. Layers that
are not named take nothing."""

NO_PRESETS: Presets = MappingProxyType({})

SDXL_PRESETS: Presets = MappingProxyType(
    {
        "style": MappingProxyType({"up_blocks.0.attentions.1": 1.0}),
        "layout": MappingProxyType({"down_blocks.2.attentions.1": 1.0}),
    }
)
"""Source: InstantStyle (Wang et al. 2024, arXiv 2404.02733), section 3.2 and its code for both kinds of adapters; in
diffusers `set_ip_adapter_scale({"up": {"block_0": [0, 1, 0]}})` and `({"down": {"block_2": [0, 1]}})`."""

_SDXL_UNET = {
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 2,
}


def find_presets(folder: Path) -> Presets:
    """Tell the presets of a model from its configuration files.

    Args:
        folder: in diffusers layout.

    Returns:
        SDXL's where its UNet has SDXL's blocks, as smaller ones cut from it may not; otherwise none.
    """
    if pipeline_family(read_json(folder / "model_index.json")) != "sdxl":
        return NO_PRESETS
    unet: Mapping[str, Any] = read_json(folder / "unet" / "config.json")
    return SDXL_PRESETS if all(unet.get(name) == value for name, value in _SDXL_UNET.items()) else NO_PRESETS
