"""Layouts of models on disk: variants, PyTorch files, parts from elsewhere, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ipa_app.errors import UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.loaded import LoadedModel
from tests.checkpoints import load, pose_pipeline
from tests.malicious import Malicious

PARTS = ("unet", "vae", "text_encoder", "image_encoder", "controlnet")


@pytest.fixture(scope="module")
def usual(tiny_bundle_dir: Path) -> LoadedModel:
    return load(entry_from_folder(tiny_bundle_dir, name="tiny"))


def assert_same_weights(model: LoadedModel, usual: LoadedModel) -> None:
    for part in PARTS:
        ours, theirs = (getattr(pose_pipeline(each), part).state_dict() for each in (model, usual))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), part


def weight_files(folder: Path) -> list[Path]:
    return [path for part in PARTS for path in (folder / part).glob("*.safetensors")]


def test_half_precision_files_are_taken_where_there_are_no_others(copy: Path, usual: LoadedModel) -> None:
    for path in weight_files(copy):
        path.rename(path.with_name(f"{path.stem}.fp16.safetensors"))
    assert_same_weights(load(entry_from_folder(copy, name="x")), usual)


@pytest.mark.parametrize("ending", ["bin", "fp16.bin"])
def test_pytorch_files_are_taken_where_there_are_no_others(copy: Path, usual: LoadedModel, ending: str) -> None:
    for path in weight_files(copy):
        stem = "pytorch_model" if path.stem == "model" else path.stem
        torch.save(load_file(path), path.with_name(f"{stem}.{ending}"))
        path.unlink()
    assert_same_weights(load(entry_from_folder(copy, name="x")), usual)


@pytest.mark.parametrize(
    ("part", "name"), [("unet", "diffusion_pytorch_model.bin"), ("text_encoder", "pytorch_model.bin")]
)
def test_code_in_a_pytorch_file_is_refused_and_not_run(copy: Path, part: str, name: str) -> None:
    proof = copy / "proof"
    for path in (copy / part).glob("*.safetensors"):
        path.unlink()
    torch.save({"weight": Malicious(proof)}, copy / part / name)
    with pytest.raises(UserError, match=rf"{part}/{name} is not a plain weights file .* never run"):
        load(entry_from_folder(copy, name="x"))
    assert not proof.exists()


def test_a_vision_tower_may_lie_elsewhere(copy: Path, tmp_path: Path, usual: LoadedModel) -> None:
    """As with the published models, which share one; its folder has no preprocessor_config.json."""
    elsewhere = shutil.move(copy / "image_encoder", tmp_path / "elsewhere")
    model = load(entry_from_folder(copy, name="x"), image_encoder=Path(elsewhere))
    assert_same_weights(model, usual)
    assert model.image_processor.crop_size["height"] == 32


def test_a_processor_of_another_size_is_not_the_towers(copy: Path) -> None:
    path = copy / "feature_extractor" / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"crop_size": {"height": 16, "width": 16}, "size": {"shortest_edge": 16}}))
    model = load(entry_from_folder(copy, name="x"))
    assert model.image_processor.crop_size["height"] == model.image_encoder.config.image_size == 32


def test_a_part_without_weights_is_named(copy: Path) -> None:
    (copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"Tiny is incomplete: .*vae holds no weights"):
        load(entry_from_folder(copy, name="x"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"_class_name": "FluxPipeline"}, "is of type FluxPipeline, but only Stable Diffusion"),
        ({"_class_name": None}, "is of type None"),
        ({"vae": ["diffusers", "AutoencoderTiny"]}, "has AutoencoderTiny as its vae, but .* need AutoencoderKL"),
        ({"text_encoder": None}, "has nothing as its text_encoder"),
        ({"scheduler": ["diffusers", "AutoencoderKL"]}, "sampling schedule 'AutoencoderKL', which is unknown"),
        ({"_class_name": "StableDiffusionXLPipeline"}, "has nothing as its text_encoder_2, but SDXL models"),
    ],
)
def test_models_of_other_sorts_are_refused_in_words(copy: Path, changes: dict, words: str) -> None:
    path = copy / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError, match=words):
        load(entry_from_folder(copy, name="x"))


def test_a_model_for_inpainting_alone_is_refused(copy: Path) -> None:
    path = copy / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"in_channels": 9}))
    with pytest.raises(UserError, match=r"made for inpainting only \(9 input channels\)"):
        load(entry_from_folder(copy, name="x"))


# Parts that do not belong together are reported before any weights are read.


@pytest.fixture
def no_weights_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if the weights of any part are read."""
    monkeypatch.setattr("ipa_app.models.parts.Part.load", lambda *_, **__: pytest.fail("weights were read"))


def test_a_controlnet_of_the_other_family_is_refused_and_the_model_works(
    tiny_bundle_dir: Path, tiny_sdxl_dir: Path
) -> None:
    small, large = (entry_from_folder(folder, name="x") for folder in (tiny_bundle_dir, tiny_sdxl_dir))
    for model, other, sides in ((large, small, (32, 64)), (small, large, (64, 32))):
        loaded = load(model, controlnets=other.controlnets)
        assert len(loaded.controlnets) == 0
        words = "ControlNet .* \\(text tokens {} wide\\), but .* \\(text tokens {} wide\\)".format(*sides)
        with pytest.raises(UserError, match=words):
            pose_pipeline(loaded)


def test_memory_that_is_short_is_told_before_anything_is_read(
    tiny_bundle_dir: Path, no_weights_are_read: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipa_app.models.loading.free_bytes", lambda _: 10**8)
    with pytest.raises(UserError, match=r"Tiny needs at least 0\.3 GB of memory, but only 0\.1 GB is free"):
        load(entry_from_folder(tiny_bundle_dir, name="x"))


def test_short_memory_saves_and_says_so(tiny_bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = dataclasses.replace(entry_from_folder(tiny_bundle_dir, name="x"), width=2048, height=2048)
    monkeypatch.setattr("ipa_app.models.loading.free_bytes", lambda _: 2 * 10**9)
    model = load(entry)
    vae = model.pipelines["inpaint"].vae
    assert vae.use_tiling
    assert model.dtype == torch.float32
    assert model.memory.savings == ("tiled",)
    easy = load(entry_from_folder(tiny_bundle_dir, name="x")).memory
    assert (easy.device, easy.precision, easy.savings) == ("cpu", "single", ())
