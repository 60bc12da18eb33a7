"""Other samplers for the bundled model, whose weights stay the same, and LoRAs, which change only the UNet's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from bench.asks import short_rows, sweep_rows, text_row
from bench.quality import cases
from bench.variants import sampled_by, with_lora
from ipa_app.engine.engine import Engine
from ipa_app.errors import UserError
from ipa_app.models.catalog import BUNDLED
from ipa_app.models.manager import ModelManager
from toybox.recipe.few_step.student import add_lora, save_lora

SAMPLER = "DPMSolverMultistepScheduler"


def test_a_sampler_draws_with_the_models_weights(tmp_path: Path) -> None:
    engine = Engine(ModelManager(sampled_by(BUNDLED, [SAMPLER], tmp_path), device="cpu"))
    try:
        row = next(sweep_rows([text_row()], steps=[2], models=[SAMPLER]))
        assert row.name == f"text only, {SAMPLER}, 2 steps"
        result = engine.submit(row.ask(cases(1)[0])).result()
    finally:
        engine.close()
    assert result.settings["scheduler"] == SAMPLER
    assert result.settings["steps"] == 2
    scheduler = engine.manager.get(SAMPLER).pipelines["text_to_image"].scheduler
    assert scheduler.config["prediction_type"] == "v_prediction"
    assert scheduler.config["rescale_betas_zero_snr"]


def test_every_combination_is_asked() -> None:
    plain = short_rows(side=64)
    names = {row.name for row in sweep_rows(plain, steps=[10, 20], guidance_scales=[4.0])}
    assert names == {f"{row.name}, {number} steps, guidance 4" for row in plain for number in (10, 20)}


@torch.no_grad()
def test_a_lora_changes_the_unet_and_nothing_else(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    changed = UNet2DConditionModel.from_pretrained(tiny_bundle_dir / "unet").float()
    changes = add_lora(changed, 4)
    for change in changes.values():
        change.up.fill_(0.01)
    save_lora(changes, tmp_path / "lora.safetensors")
    model = with_lora(tiny_bundle_dir, tmp_path / "lora.safetensors", tmp_path / "model")
    assert {part.name for part in model.iterdir()} == {part.name for part in tiny_bundle_dir.iterdir()}
    unet = UNet2DConditionModel.from_pretrained(model / "unet")
    assert all(
        torch.allclose(unet.get_submodule(n).weight, changed.get_submodule(n).weight, atol=1e-3) for n in changes
    )
    for file in (tiny_bundle_dir / "vae").iterdir():
        assert (model / "vae" / file.name).read_bytes() == file.read_bytes()


def test_what_diffusers_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no scheduler called SystemScheduler"):
        sampled_by(BUNDLED, ["SystemScheduler"], tmp_path)
