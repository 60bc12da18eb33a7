"""Checkpoints in one file: the same model as from a folder, without a network."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ipa_app.engine.drawing import denoise
from ipa_app.engine.plan import make_plan
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.rows import Row
from ipa_app.errors import UserError
from ipa_app.models.catalog import ModelEntry, entry_from_file, entry_from_folder
from ipa_app.models.loaded import LoadedModel
from ipa_app.models.loading import load_model
from tests.single_file import write_single_file
from tests.tiny_sdxl import tiny_sdxl_bundle

SDXL_MARK = "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias"
CONFIGURATIONS = ("model_index.json", "unet", "vae", "text_encoder", "tokenizer", "scheduler")


def load(entry: ModelEntry) -> LoadedModel:
    return load_model(entry, device="cpu", dtype=torch.float32, report=lambda *_: None)


@pytest.fixture
def entry(tiny_bundle_dir: Path, tmp_path: Path) -> ModelEntry:
    """A checkpoint with adapters and ControlNet of the tiny model, and its configuration beside it."""
    path = tmp_path / "my-model.safetensors"
    write_single_file(tiny_bundle_dir, path)
    for name in CONFIGURATIONS:
        source, target = tiny_bundle_dir / name, tmp_path / "my-model" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*model.safetensors"))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copy(source, target)
    return dataclasses.replace(entry_from_folder(tiny_bundle_dir, name="tiny"), location=path)


def test_it_is_the_same_model_as_from_a_folder(entry: ModelEntry, tiny_bundle_dir: Path) -> None:
    usual, single = load(entry_from_folder(tiny_bundle_dir, name="tiny")), load(entry)
    for part in ("unet", "vae", "text_encoder"):
        ours, theirs = (getattr(each.pipelines["pose"], part).state_dict() for each in (single, usual))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), part
    for part in ("scheduler", "tokenizer"):
        assert type(getattr(single.pipelines["inpaint"], part)) is type(getattr(usual.pipelines["inpaint"], part))
    assert all(adapter in single.adapters for adapter in single.entry.adapters.values())
    assert set(single.pipelines) == {"text_to_image", "image_to_image", "inpaint", "pose"}


def test_an_sdxl_in_one_file_draws_what_its_folder_draws(tmp_path: Path) -> None:
    """Through the ordinary catalogue, which finds adapters and configuration beside the file."""
    # An SDXL is told by the tenth layer of its second text encoder, and that from the first by its width.
    folder = tiny_sdxl_bundle(tmp_path / "folder", second_text={"hidden_size": 48, "num_hidden_layers": 10})
    path = tmp_path / "my-xl.safetensors"
    write_single_file(folder, path)
    shutil.copytree(folder, tmp_path / "my-xl", ignore=shutil.ignore_patterns("model.safetensors", "diffusion*"))
    for part in ("image_encoder", "controlnet"):
        shutil.copytree(folder / part, tmp_path / "my-xl" / part, dirs_exist_ok=True)
    entry = entry_from_file(path, name="my-xl")
    usual, single = load(entry_from_folder(folder, name="my-xl")), load(entry)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        ours, theirs = (getattr(each.pipelines["pose"], part).state_dict() for each in (single, usual))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), part
    picture = Image.effect_noise((40, 40), 90).convert("RGB")
    latents = []
    for model in (usual, single):
        plan = make_plan(GenerateRequest(task="mix", prompt="a red cat"), model.entry)
        prompt = model.encode(picture, model.entry.adapters["fine"])
        row = Row(prompt="a red cat", negative_prompt="", seed=5, image_prompts=(prompt,))
        with torch.inference_mode():
            latents.append(denoise(model, [row], like=plan, on_step=lambda _: None))
    assert torch.equal(*latents)


def test_without_a_configuration_on_this_machine_it_is_told_in_words(
    entry: ModelEntry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    shutil.rmtree(entry.location.with_suffix(""))
    words = r"my-model\.safetensors holds weights only, .*stable-diffusion-v1-5.* or put them into a folder my-model"
    with pytest.raises(UserError, match=words):
        load(entry)


def test_a_configuration_of_the_other_family_is_refused(entry: ModelEntry) -> None:
    save_file({SDXL_MARK: torch.zeros(1), **others(entry.location, "cond_stage_model.")}, entry.location)
    with pytest.raises(UserError, match="checkpoint of SDXL, but the configuration in .* that of Stable Diffusion"):
        load(entry)


def others(path: Path, prefix: str) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint but for those of one part."""
    return {key: tensor for key, tensor in load_file(path).items() if not key.startswith(prefix)}


@pytest.mark.parametrize("missing", ["first_stage_model.", "model.diffusion_model."])
def test_a_checkpoint_that_lacks_a_part_is_refused(entry: ModelEntry, missing: str) -> None:
    save_file(others(entry.location, missing), entry.location)
    with pytest.raises(UserError, match="is not a whole checkpoint"):
        load(entry)


@pytest.mark.parametrize(
    ("mark", "name"),
    [
        ("conditioner.embedders.0.model.text_projection", "the SDXL refiner"),
        ("cond_stage_model.model.token_embedding.weight", r"Stable Diffusion 2\.x"),
        ("double_blocks.0.img_attn.norm.key_norm.scale", "FLUX"),
    ],
)
def test_a_checkpoint_of_another_family_is_named(entry: ModelEntry, mark: str, name: str) -> None:
    save_file({mark: torch.zeros(1), **others(entry.location, "cond_stage_model.")}, entry.location)
    with pytest.raises(UserError, match=f"is a checkpoint of {name}, "):
        load(entry)


def test_a_checkpoint_made_for_inpainting_alone_is_refused(entry: ModelEntry) -> None:
    tensors = load_file(entry.location)
    first = "model.diffusion_model.input_blocks.0.0.weight"
    tensors[first] = torch.zeros(tensors[first].shape[0], 9, 3, 3)
    save_file(tensors, entry.location)
    with pytest.raises(UserError, match="made for inpainting alone .9 input channels"):
        load(entry)


def test_a_file_that_is_no_checkpoint_is_refused(entry: ModelEntry) -> None:
    save_file({"lora.weight": torch.zeros(1)}, entry.location)
    with pytest.raises(UserError, match="is not a whole checkpoint"):
        load(entry)
    entry.location.write_bytes(b"hello")
    with pytest.raises(UserError, match="damaged or cut off"):
        load(entry)
