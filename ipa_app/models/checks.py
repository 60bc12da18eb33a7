"""Whether the parts of a model fit together, told from their files before any of them is built."""

from __future__ import annotations

from collections.abc import Mapping

from diffusers import UNet2DConditionModel

from ipa_app.adapter import AdapterFile, attention_layers, check_encoder, read_adapter
from ipa_app.adapter.files import check_base
from ipa_app.errors import UserError
from ipa_app.models.catalog import ModelEntry
from ipa_app.models.image_encoder import ImageEncoder


def read_fitting_adapters(
    entry: ModelEntry, unet: UNet2DConditionModel, *, image_encoder: ImageEncoder | None
) -> Mapping[str, AdapterFile]:
    """Read a model's adapter files and check each against the UNet and the vision tower.

    Args:
        entry: the model.
        unet: of its shape; no weights are needed.
        image_encoder: the vision tower.

    Raises:
        UserError: one does not fit, and what it was made for; or there is no vision tower for them.
    """
    if not entry.adapters:
        return {}
    if image_encoder is None:
        raise UserError(f"The model {entry.title} has adapters but no image_encoder folder for them.")
    vision = image_encoder.vision_config
    layers = attention_layers(unet)
    files = {}
    for name, path in entry.adapters.items():
        file = read_adapter(path)
        check_base(file, layers)
        check_encoder(file, vision)
        files[name] = file
    return files
