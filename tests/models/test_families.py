"""A model's family is detected from its files."""

from __future__ import annotations

import pytest

from ipa_app.adapter.header import TensorInfo
from ipa_app.models.families import SD1, SD2, SDXL, Family, family_in, family_of
from ipa_app.models.weights import Header


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("StableDiffusionPipeline", SD1),
        ("StableDiffusionInstructPix2PixPipeline", SD1),
        ("LatentConsistencyModelPipeline", SD1),
        ("StableDiffusionXLPipeline", SDXL),
        ("StableDiffusionXLControlNetPipeline", SDXL),
        ("StableDiffusion3Pipeline", None),
        ("StableDiffusionUpscalePipeline", None),
        (None, None),
    ],
)
def test_a_folder_is_told_by_the_pipeline_that_saved_it(name: str | None, family: Family | None) -> None:
    assert family_of({"_class_name": name}) is family


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (["cond_stage_model.transformer.text_model.final_layer_norm.bias"], SD1),
        (["cond_stage_model.model.ln_final.bias"], SD2),
        (["conditioner.embedders.0.transformer.x", "conditioner.embedders.1.model.ln_final.bias"], SDXL),
        (["model.diffusion_model.input_blocks.0.0.bias"], None),
    ],
)
def test_a_checkpoint_is_told_by_its_last_text_encoder(names: list[str], family: Family | None) -> None:
    assert family_in(Header({name: TensorInfo((32,), "F16") for name in names})) is family
