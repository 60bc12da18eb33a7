"""The CLIP image encoder of the adapters. Its output widths are read from its weights, not from its config.json.

A complete CLIP, as most repositories publish it, records the projection's width outside the image encoder's own
settings, where the default is a different one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from ipa_app.errors import UserError
from ipa_app.models.folder import read_json
from ipa_app.models.parts import Part
from ipa_app.models.weights import find_weights

logger = logging.getLogger(__name__)

_TOWER = "vision_model."
_PROJECTION = "visual_projection.weight"
_TYPES = ("clip", "clip_vision_model", None)


@dataclass(frozen=True)
class ImageEncoder(Part):
    """An image encoder on disk, alone or in a complete CLIP."""

    @cached_property
    def vision_config(self) -> CLIPVisionConfig:
        """The encoder's configuration; `projection_dim` and `hidden_size` are those of its weights.

        Raises:
            UserError: it is not a CLIP image encoder with projection, or cannot be read.
        """
        nested = self.config.get("vision_config") or self.config.get("vision_config_dict")
        own = dict(nested) if isinstance(nested, dict) else dict(self.config)
        sort = own.get("model_type", self.config.get("model_type"))
        if sort not in _TYPES:
            raise UserError("encoder.wrong_class", title=self.title, sort=str(sort)[:40])
        if find_weights(self.folder, prefer_half=False) is None:
            return self._described(own)  # missing weights are reported where they are counted
        self.check()
        projection = self.weights().header.get(_PROJECTION)
        if projection is None or len(projection.shape) != 2:
            raise UserError("encoder.no_projection", title=self.title, key=_PROJECTION, folder=self.folder)
        own["projection_dim"], own["hidden_size"] = projection.shape
        return self._described(own)

    def _described(self, config: dict[str, Any]) -> CLIPVisionConfig:
        try:
            return CLIPVisionConfig.from_dict(config)
        except Exception as error:
            raise self.undescribed(CLIPVisionModelWithProjection, error) from error

    @property
    def numel(self) -> int:
        """Number of elements of the encoder's weights; those of a text encoder beside it are not read."""
        return self.weights().header.numel(lambda name: name == _PROJECTION or name.startswith(_TOWER))

    def load_tower(self, *, dtype: torch.dtype) -> CLIPVisionModelWithProjection:
        """Read the encoder into main memory.

        Raises:
            UserError: it is not a CLIP image encoder with projection, or cannot be read.
        """
        return self.load(CLIPVisionModelWithProjection, dtype=dtype, config=self.vision_config)

    def processor(self, others: Sequence[Path] = ()) -> CLIPImageProcessor:
        """Return an image processor that crops to the encoder's input size.

        Args:
            others: folders to search if the encoder's own has none. A model's own processor may be meant for the safety
                checker, which takes another size.

        Raises:
            UserError: there is one that cannot be read.
        """
        side = self.vision_config.image_size
        for folder in (self.folder, *others):
            processor = read_processor(folder, title=self.title)
            if processor is not None and processor.crop_size and processor.crop_size["height"] == side:
                return processor
        return CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def read_processor(folder: Path, *, title: str) -> CLIPImageProcessor | None:
    """Read the image processor in a folder; None if there is none.

    Args:
        folder: of an image encoder, or beside one.
        title: of the model that it belongs to, for messages.

    Raises:
        UserError: it cannot be read.
    """
    path = folder / "preprocessor_config.json"
    if not read_json(path):
        return None
    try:
        processor = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
        processor(Image.new("RGB", (8, 8)), return_tensors="pt")  # wrong values show only in use
    except Exception as error:
        logger.warning("%s: %s", path, error)
        raise UserError("model.unknown_class", title=title, path=path, sort=CLIPImageProcessor.__name__) from error
    return processor
