"""Presets are offered only for models with the published layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ipa_app.adapter.layers import attention_layers
from ipa_app.models.catalog import entry_from_file, entry_from_folder
from ipa_app.models.published import published_models
from tests.tiny_models import SDXL_BLOCKS, tiny_sdxl_unet


def write_folder(folder: Path, *, pipeline: str = "StableDiffusionXLPipeline", **changes: Any) -> Path:
    """Write the configuration files of a model with SDXL's blocks and these changes."""
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    (folder / "unet" / "config.json").write_text(json.dumps({**SDXL_BLOCKS, **changes}))
    return folder


def test_sdxl_has_them_and_stable_diffusion_has_none(tiny_bundle_dir: Path) -> None:
    presets = {entry.name: set(entry.presets) for entry in published_models()}
    assert presets == {"sd15": set(), "sdxl": {"style", "layout"}}
    assert not entry_from_folder(tiny_bundle_dir, name="x").presets


def test_each_names_layers_of_an_sdxl(tmp_path: Path) -> None:
    layers = [layer.name for layer in attention_layers(tiny_sdxl_unet(blocks=SDXL_BLOCKS))]
    for preset in entry_from_folder(write_folder(tmp_path / "xl"), name="x").presets.values():
        for block in preset:
            assert any(layer.startswith(f"{block}.") for layer in layers), block


@pytest.mark.parametrize(
    "changes",
    [
        {"pipeline": "StableDiffusionPipeline"},
        {"layers_per_block": 1},
        {"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"]},
        {"up_block_types": None},
    ],
    ids=str,
)
def test_a_model_of_other_blocks_has_none(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert not entry_from_folder(write_folder(tmp_path / "x", **changes), name="x").presets


def test_the_checkpoint_of_an_sdxl_has_them(tmp_path: Path) -> None:
    for name, key in (("xl", "conditioner.embedders.1.model.ln_final.weight"), ("sd", "cond_stage_model.weight")):
        save_file({key: np.zeros(1, dtype=np.float32)}, tmp_path / f"{name}.safetensors")
    large, small = (entry_from_file(tmp_path / f"{name}.safetensors", name=name) for name in ("xl", "sd"))
    assert (set(large.presets), large.width) == ({"style", "layout"}, 1024)
    assert (set(small.presets), small.width) == (set(), 512)
