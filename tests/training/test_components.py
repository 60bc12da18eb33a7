"""Base models for training, and the errors for folders that are none, or whose settings cannot be met."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    DDIMScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    HeunDiscreteScheduler,
    SchedulerMixin,
    UNet2DConditionModel,
)

from ipa_app.errors import UserError
from ipa_app.models.schedule import build_scheduler, noise_schedule
from ipa_app.training.cli import main
from ipa_app.training.components import load_components

SCHEDULERS = [name for name in dir(diffusers) if name.endswith("Scheduler")]
Arguments = Callable[[Path | str], list[str]]


@pytest.fixture
def arguments(pictures: Path, tmp_path: Path) -> Arguments:
    """Return a function that makes the arguments for training a base model."""

    def make(base: Path | str) -> list[str]:
        places = ["--data", str(pictures / "data.json"), "--output", str(tmp_path / "out")]
        return ["--base", str(base), *places, "--max-steps", "1", "--batch-size", "1", "--num-inference-steps", "1"]

    return make


def guided_by_a_number(bundle: Path, folder: Path) -> Path:
    """Copy a model, with a UNet that takes the guidance scale as input, like LCM's."""
    shutil.copytree(bundle, folder)
    config = json.loads((folder / "unet" / "config.json").read_text())
    unet = UNet2DConditionModel.from_config(config | {"time_cond_proj_dim": 32})
    shutil.rmtree(folder / "unet")
    unet.save_pretrained(folder / "unet")
    return folder


def test_a_name_of_the_hub_is_no_base_model(arguments: Arguments, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments("runwayml/stable-diffusion-v1-5")) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: There is no base model runwayml/stable-diffusion-v1-5: it must be a folder in diffusers layout or one "
        ".safetensors file on this computer; a model on the Hub has to be downloaded first."
    )


def test_a_model_that_is_told_the_guidance_is_refused_before_anything_is_done(
    arguments: Arguments, tiny_bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = guided_by_a_number(tiny_bundle_dir, tmp_path / "lcm")
    assert main(arguments(folder)) == 2
    assert "is distilled to follow a guidance it is told, as LCM is" in capsys.readouterr().err.splitlines()[-1]
    assert not list((tmp_path / "out").glob("encoded-*"))
    with pytest.raises(UserError, match="trained on the model that it was distilled from"):
        load_components(folder)


def name_scheduler(folder: Path, sort: object) -> None:
    """Have a model's index name another class of scheduler."""
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", sort]}))


@pytest.mark.parametrize("sort", ["DDIMScheduler", "DPMSolverMultistepScheduler", "LCMScheduler"])
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_more_steps_than_a_scheduler_takes_are_refused_before_training(
    sort: str,
    more: list[str],
    arguments: Arguments,
    tiny_bundle_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Some schedulers would draw nonsense without an error."""
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "model")
    name_scheduler(folder, sort)
    steps = "60" if sort == "LCMScheduler" else "1001"
    assert main([*arguments(folder), "--num-inference-steps", steps, *more]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: num_inference_steps is {steps}, more than the base model's {sort} allows; 20 are enough."
    )
    assert not list((tmp_path / "out").glob("encoded-*"))


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        (
            {"_class_name": "LCMScheduler", "original_inference_steps": 12},
            "is 20, more .* LCMScheduler .*; 12 are enough",
        ),
        ({"_class_name": "DDIMScheduler", "num_train_timesteps": 8}, "is 20, more .* DDIMScheduler .*; 7 are enough"),
    ],
)
def test_where_the_usual_steps_are_too_many_a_number_that_can_be_done_is_named(
    scheduler: dict[str, object],
    said: str,
    arguments: Arguments,
    tiny_bundle_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "model")
    name_scheduler(folder, scheduler["_class_name"])
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    assert main([*arguments(folder), "--num-inference-steps", "20"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert re.search(said, told), told
    assert main([*arguments(folder), "--num-inference-steps", told.split()[-3]]) == 0


@pytest.mark.parametrize(
    ("file", "told", "is_the_same"),
    [
        ("tokenizer/tokenizer_config.json", {"pad_token": "a</w>"}, False),
        ("text_encoder/config.json", {"num_attention_heads": 2}, False),
        ("image_encoder/config.json", {"layer_norm_eps": 1e-3}, False),
        ("vae/config.json", {"latents_mean": [0.1] * 4, "latents_std": [2.0] * 4}, False),
        ("vae/config.json", {"shift_factor": 0.3}, False),
        ("unet/config.json", {"attention_head_dim": 8}, False),
        ("unet/config.json", {"_diffusers_version": "0.20.0", "dropout": 0.0, "unheard_of": 3}, True),
        ("text_encoder/config.json", {"transformers_version": "4.0", "attention_dropout": 0.0, "unheard_of": 3}, True),
    ],
)
def test_settings_that_no_weight_shows_tell_models_apart(
    file: str, told: dict[str, object], is_the_same: bool, tiny_bundle_dir: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "model")
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | told))
    before, after = load_components(tiny_bundle_dir), load_components(folder)
    assert (before.fingerprint(), before.preparation()) == (after.fingerprint(), after.preparation())
    assert (before.configuration() == after.configuration()) == is_the_same


def test_drawing_and_moving_change_no_setting(tiny_bundle_dir: Path) -> None:
    base = load_components(tiny_bundle_dir)
    before = base.configuration()
    pipeline: Any = base.pipeline()
    pipeline("a red cat", num_inference_steps=1, output_type="latent")
    base.freeze(torch.device("cpu"), torch.bfloat16)
    assert base.configuration() == before


@pytest.mark.parametrize(
    ("noted", "side"),
    [
        ({"sample_size": 32, "_diffusers_version": "0.6.0"}, 512),
        ({"sample_size": [12, 8]}, 64),
        ({"sample_size": None}, 512),
    ],
)
def test_targets_are_as_large_as_what_the_model_draws(
    noted: dict[str, object], side: int, tiny_bundle_dir: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "model")
    config = json.loads((folder / "unet" / "config.json").read_text())
    (folder / "unet" / "config.json").write_text(json.dumps(config | noted))
    base = load_components(folder)
    assert base.size == side
    pipeline: Any = base.pipeline()
    drawn = pipeline("a red cat", num_inference_steps=1, output_type="latent").images
    assert (drawn.shape[-2:], base.size) == ((side // 8, side // 8), side)


def test_a_model_whose_size_is_a_pair_can_be_trained_on(
    arguments: Arguments, tiny_bundle_dir: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "model")
    config = json.loads((folder / "unet" / "config.json").read_text())
    (folder / "unet" / "config.json").write_text(json.dumps(config | {"sample_size": [8, 12]}))
    assert main(arguments(folder)) == 0


def builds(name: str) -> bool:
    try:
        return hasattr(build_scheduler(name, {}, title="Dream"), "alphas_cumprod")
    except UserError:
        return False


@pytest.mark.parametrize("name", sorted(set(filter(builds, SCHEDULERS)) - {"CogVideoXDDIMScheduler"}))
def test_training_adds_the_noise_that_drawing_removes_when_a_model_leaves_it_to_the_schedulers_class(name: str) -> None:
    scheduler: Any = build_scheduler(name, {}, title="Dream")
    plain = getattr(diffusers, name).from_config({})
    assert torch.equal(noise_schedule(scheduler).alphas_cumprod, plain.alphas_cumprod)


@pytest.mark.parametrize(
    "scheduler",
    [
        EDMEulerScheduler(),
        EDMDPMSolverMultistepScheduler(),
        CogVideoXDDIMScheduler(),
        HeunDiscreteScheduler(beta_schedule="exp"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_training_on_another_noise_is_refused(scheduler: SchedulerMixin) -> None:
    with pytest.raises(UserError, match=f"draws with {type(scheduler).__name__}, whose noise is not that of a DDPM"):
        noise_schedule(scheduler)


def test_training_on_another_prediction_is_refused() -> None:
    with pytest.raises(UserError, match="The base model predicts 'sample'"):
        noise_schedule(DDIMScheduler(prediction_type="sample"))
